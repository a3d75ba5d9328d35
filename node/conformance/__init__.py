"""Protocol cases run against anybody's server, ours or not: `pd conformance`.

case       what a case is and how its outcome is told        witness    C2SP tlog-witness
"""
