"""Replay: the registered generator on the record's own latent, and latents drawn again from a recorded state."""
