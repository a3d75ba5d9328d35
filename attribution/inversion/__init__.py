"""Inversion: from a picture back to the latent that made it, down to the rounding floor."""
