"""A generator's network followed by a chain's exact operator, in the interface that lm.py asks for."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..network import Network
from .chain import Chain, Pixels


def flat(pixels: Pixels) -> Tensor:
    """float32 [C h w] on the scale [0, 1] of uint8 [h, w, C]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float().flatten() / 255


class Tangents:
    """A network's linearisation at the latent asked for last: chains tried at one latent share it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._kept: dict[bool, tuple[Tensor, tuple[Tensor, Tensor]]] = {}

    def at(self, z: Tensor, precise: bool = False) -> tuple[Tensor, Tensor]:
        """(picture [N], Jacobian [d, N]) at latent [d]."""
        if precise not in self._kept or not torch.equal(self._kept[precise][0], z):
            self._kept[precise] = z.clone(), self.network.linearise(z, precise)
        return self._kept[precise][1]


class ChainedNetwork:
    """Latents to changed pictures: G(z), then Y P X^T in each channel."""

    def __init__(self, tangents: Tangents, chain: Chain, precise: bool = False) -> None:
        network = tangents.network
        output = network.generator.output
        self.network, self.chain, self._tangents, self._precise = network, chain, tangents, precise
        self.device, self.normal = network.device, network.normal
        self._picture = (output.channels, output.height, output.width)
        down, across = chain.operator()
        self._down = torch.from_numpy(down.copy()).float().to(self.device)
        self._across = torch.from_numpy(across.T.copy()).float().to(self.device)

    def changed(self, pictures: Tensor) -> Tensor:
        """[B, C h w] of flat pictures, or of tangents, [B, C H W]."""
        return (self._down @ pictures.reshape(-1, *self._picture) @ self._across).flatten(1)

    def project(self, points: Tensor) -> Tensor:
        """Latents [B, d] put back onto the support of their prior."""
        return self.network.project(points)

    def unit(self, z: Tensor) -> Tensor:
        """[B, C h w] changed pictures on the scale [0, 1], before any rounding."""
        return self.changed(self.network.unit(z))

    @torch.no_grad()
    def linearise(self, z: Tensor, precise: bool = False) -> tuple[Tensor, Tensor]:
        """(changed picture [n], Jacobian [d, n]) at one latent [d]."""
        picture, jacobian = self._tangents.at(z, precise or self._precise)
        return self.changed(picture[None])[0], self.changed(jacobian)
