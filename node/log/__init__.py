"""A log that many authors write to over HTTP: `pd node log`. Each author's machine sequences and signs its own chain.

directory   what a log keeps in its folder: settings, keys, policy, allowlist
allowlist   whose entries are taken: authors.txt, read anew when it changes
admission   an entry before it is taken: form, signature, what its place depends on
chains      state.db: the authors' chains beside the log, and one transaction that takes entries into both
fairness    the bounded queue in front of it, a turn for each author
keeper      the thread: requests, one durable commit for many, heads, cosignatures
requests    bodies and answers, byte for byte
lookup      entries about a picture with their proofs, or the proof that there is none
similar     lookup by perceptual hash, for whom the developer allows
readiness   whether what is served holds
service     the HTTP side; the reads are the static files of node/server.py
"""
