"""Many pictures and many generators: a list of jobs that can be interrupted, repeated and spread over workers.

jobs       pictures of folders, the key of a job by content, the order in which jobs run
work       one job, the same function in every worker of every engine
journal    what is done, one fsynced line a job
local      workers on this machine: in this process, or processes that may die
cluster    workers of Ray
run        the loop between job list, journal and engine
results    rows by picture from the journal: verdicts, scores, JSON Lines, Parquet
"""
