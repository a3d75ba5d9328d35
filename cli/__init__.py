"""`pd`, the command line. Imports every room, inside functions only, so that `pd --help` stays fast."""
