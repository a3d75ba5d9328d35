"""A witness as a service: `pd node witness` (C2SP tlog-witness). The decisions are `ledger.witness`'s.

directory   what a witness keeps in its folder         committer   many requests, one durable commit
service     the HTTP side                              loglist     lists of logs that others publish
"""
