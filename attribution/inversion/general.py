"""Any generator behind the interface of batched.Model: gradients in one batch, Jacobians one latent after another.

A convolutional generator's Jacobian costs as much as d pictures, which fills the machine alone: batching several gains
nothing there. What still gains is that all starts of all probes share the trial steps and their gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..generators.protocol import Generator
from .batched import Model
from .network import Network
from .perceptron import Perceptron

PICTURE_NUMBERS = 1 << 22
"""Samples of a batch's pictures, at most."""


class General:
    """One generator of any kind, folded where it has a chain."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.generator = network.generator
        self.device = network.device
        self.dim = network.dim
        self.samples = network.samples
        self.batch = min(64, max(1, PICTURE_NUMBERS // self.samples))

    def unit(self, z: Tensor) -> Tensor:
        """[B, N] pictures of latents [B, d] on the scale [0, 1]; differentiable."""
        return self.network.unit(z)

    def pull(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(mean squared errors [B], J r [B, d])."""
        with torch.enable_grad():
            point = z.detach().clone().requires_grad_(True)
            squares = (self.network.unit(point) - target).square()
            (gradient,) = torch.autograd.grad(squares.sum(), point)
        return squares.detach().mean(1), -gradient / 2

    @torch.no_grad()
    def normal(self, z: Tensor) -> Tensor:
        """[B, d, d]: J J^T."""
        found: list[Tensor] = []
        for point in z:
            jacobian = self.network.linearise(point)[1]
            found.append(jacobian @ jacobian.T)
        return torch.stack(found)


def model_of(generator: Generator, device: torch.device | str = "cpu") -> Model:
    """The quickest form of a generator: matrices if it is fully connected."""
    return Perceptron.of(generator, device) or General(Network(generator, device))
