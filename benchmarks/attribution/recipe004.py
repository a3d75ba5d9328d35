"""004's reconstruction as it is: one random start after another, 500 Adam steps, the loss of the *last* step is ranked.

Constants are the paper's where it prints them (Adam, rate 0.1, no schedule, 500 steps in Appendix A) and those of its
published code elsewhere (beta1 0, beta2 0.99; 500 steps by default; the last step's loss, not the best met). Every run
is independent of its neighbours in a batch, so many are made at once: the same numbers, sooner.
Source: 004 Algorithm 1, section IV and Appendix A.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from plausible.attribution.distances.images import L2, Distance
from plausible.attribution.generators import Generator
from plausible.attribution.inversion.network import Network

Pixels = NDArray[np.uint8]
STEPS, RATE, BETAS, EPSILON = 500, 0.1, (0.0, 0.99), 1e-8
CHUNK = 32


@dataclass(frozen=True, slots=True)
class Attempts:
    """Last-step losses [B, starts] and the latents [B, starts, d] they belong to, in the order of the attempts."""

    losses: NDArray[np.float64]
    z: NDArray[np.float32]


def reconstruct(
    probes: Pixels,
    generator: Generator,
    starts: torch.Tensor,
    *,
    steps: int = STEPS,
    rate: float = RATE,
    distance: Distance | None = None,
) -> Attempts:
    """Uint8 [B, H, W, C] against one generator from latents [B, starts, d]."""
    distance = distance or L2()
    network = Network(generator)
    output = generator.output
    shape = (output.channels, output.height, output.width)
    pictures = torch.from_numpy(probes).permute(0, 3, 1, 2).float() / 255
    count, each, dim = starts.shape
    rows = torch.arange(count).repeat_interleave(each)
    flat = starts.reshape(-1, dim)
    losses, latents = torch.empty(count * each), torch.empty(count * each, dim)
    for part in torch.arange(len(flat)).split(CHUNK):
        prepared = distance.prepare(pictures[rows[part]])
        z = flat[part].clone()
        square = torch.zeros_like(z)
        loss = torch.zeros(len(z))
        for step in range(1, steps + 1):
            z.requires_grad_(True)
            loss = distance.between(network.unit(z).reshape(-1, *shape), prepared)
            (gradient,) = torch.autograd.grad(loss.sum(), z)
            with torch.no_grad():
                # beta1 is 0: the step is the gradient over its running size
                square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
                scale = (square / (1 - BETAS[1] ** step)).sqrt_().add_(EPSILON)
                latents[part] = z
                z = z.detach() - rate * gradient / scale
        losses[part] = loss.detach()
    return Attempts(losses.reshape(count, each).double().numpy(), latents.reshape(count, each, dim).numpy())


def starts_of(generator: Generator, seeds: list[int], attempts: int) -> torch.Tensor:
    """[probes, attempts, d]: fresh latents of the prior, those of a probe drawn from its own seed."""
    return torch.stack([generator.latent.draw(attempts, torch.Generator().manual_seed(seed)) for seed in seeds])
