"""Is the probe a changed copy of a logged picture? Perceptual hashes, sliding windows, limits."""
