"""How much of a generator's pictures lies in its noise maps: free inputs, which no search over latents covers."""

from __future__ import annotations

import math

import torch

from .protocol import Generator


@torch.no_grad()
def free_noise(generator: Generator, *, seed: int = 0) -> int:
    """Numbers in those noise maps that change a picture: maps whose scale is 0, as before training, are not counted."""
    rng = torch.Generator().manual_seed(seed)
    z = generator.latent.draw(1, rng)
    free = 0
    for name, shape in generator.noise.items():
        values = torch.randn(1, *shape, generator=rng)
        one, other = (generator.images(z, {name: sign * values}) for sign in (1.0, -1.0))
        free += 0 if torch.equal(one, other) else math.prod(shape)
    return free
