"""`pd`, the command line. Imports every room, inside functions only, so that `pd --help` stays fast.

main.py       the program: groups, exit codes, what a person sees when something fails
catalogue.py  which command lives in which module, in the order and under the headings of the help
output.py     stdout, stderr, files, JSON documents, progress
settings.py   flag > PD_* environment > project file > user config > default
*.py          one module per command or group; signatures at module level, rooms imported in the bodies
"""
