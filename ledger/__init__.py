"""The log and what surrounds it: digests, commitments, tree, tiles, notes, policy, proofs, storage, vault, recorder."""
