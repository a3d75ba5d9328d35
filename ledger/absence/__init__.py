"""The absence index: a map from image digests to the entries that name them, so that "no entry does" can be proven.

keys    what a leaf adds to the map, and the four hashes
trie    the map in pages: incremental insertion, root, proofs
proof   membership and non-membership of one key; the proof file and its offline verification
note    the signed root: a note that is no checkpoint, and `index.policy`
pages   absence.db: the pages in SQLite, written when many have changed
store   the map beside a log, derived from its entries and caught up with each checkpoint
prove   proof files cut out of a log

A root is worth what recomputing it is worth: believe it where signers that the verifier chose recomputed it, or where
he recomputed it himself. Absence is exact: one changed bit of the image ends it. Source: docs/spec/index.md.
"""
