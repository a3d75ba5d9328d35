"""A monitor: follows logs, checks every new entry, compares what different places say, keeps evidence of what is false.

config     monitor.toml: which logs, whose policies, which mirrors, the hook
views      the heads that a log, its witnesses and its mirrors show
compare    do they describe one history; which head can be followed, from whose tiles
follow     every new entry: form, signature, chain, draws, epochs, revoked keys
indexes    index notes against the entries
state      monitor.db: how far each log was checked, and what was found
watch      one look at one log: all of the above, in their order
hook       telling a person, by a command of the operator's
service    all logs, once or for ever

It trusts its own state file and the policies it was given. Nothing that it reads is believed before it hashes into a
head that the log signed. "The log is false" (proven, with a file anyone can verify) and "could not look" are told
apart everywhere, and neither is ever success.
"""
