"""Signed text and its parts, as C2SP specifies them: notes, checkpoints, cosignatures, policies, proofs."""
