"""A mirror as a service: `pd node mirror` (C2SP tlog-mirror), and following a log by itself.

directory   what a mirror keeps in its folder          copy         one log's files, as far as they are verified
mirror      pending heads, cosigned heads, the order   index        the absence index recomputed and signed
follow      taking entries from any tiled log          signatures   every author's signature, in other processes
entries     add-entries: tickets, packages, answers    upload       its body on the way in
followers   the threads that follow                    service      the HTTP side
push        sending a log to a mirror                  archive      the log's own archive of heads
"""
