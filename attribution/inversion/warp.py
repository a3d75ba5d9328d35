"""What a changed picture of a generator may have gone through, as a small model with five numbers: crop and blur.

A warp keeps a window of the picture (pixels cut at left, right, top and bottom), brings it back to the full size by a
cubic filter and blurs by a Gaussian. Both are separable, so a picture P [H, W] becomes Y P X^T with Y [H, H] and
X [W, W], and tangents of a generator go the same way as its pictures. The blur stands for every resampling filter; a
crop that was left at its size and brought to the native one is the same as one that was brought back.

`WarpedNetwork` joins the warp to a generator: points [z, theta] in place of latents, in the interface that lm.py asks
for, with theta held in the declared classes (classes.py): at least nine tenths of each side kept.
Source: 004 names the changes; Keys (1981) for the cubic filter, a = -1/2, which is Pillow's bicubic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..calibration.classes import SMALLEST_SHARE
from .adam import project
from .network import Network

PARAMETERS = 5
"""theta: pixels cut at left, right, top, bottom; standard deviation of the blur in pixels."""
SIGMA = (0.2, 1.5)
"""Bounds of the blur: at 0.2 the neighbours weigh 4e-6; halving a picture and back takes about 0.9."""
SIGMA_START = 0.5
DIFFERENCE = 1e-2
"""Pixels by which theta's columns are differenced."""


def start(height: int, width: int, zoom: float = 1.0, sigma: float = SIGMA_START) -> Tensor:
    """theta [5] of a central window that keeps `zoom` of each side."""
    x, y = width * (1 - zoom) / 2, height * (1 - zoom) / 2
    return torch.tensor([x, x, y, y, sigma])


def bounded(theta: Tensor, height: int, width: int) -> Tensor:
    """theta [B, 5] put back into the scope: nothing added, at least `SMALLEST_SHARE` of each side kept."""
    pairs: list[Tensor] = []
    for pair, side in ((theta[:, :2], width), (theta[:, 2:4], height)):
        cut = pair.clamp_min(0)
        most = (1 - SMALLEST_SHARE) * side
        pairs.append(cut * (most / cut.sum(1, keepdim=True).clamp_min(1e-12)).clamp_max(1))
    return torch.cat([*pairs, theta[:, 4:].clamp(*SIGMA)], dim=1)


def _cubic(x: Tensor) -> Tensor:
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _axis(before: Tensor, after: Tensor, sigma: Tensor, side: int) -> Tensor:
    """[B, side, side]: rows of weights that make the samples of one axis out of the picture's."""
    places = torch.arange(side, device=before.device, dtype=before.dtype)
    share = (side - before - after) / side
    centres = before[:, None] + share[:, None] * (places + 0.5) - 0.5
    window = _cubic(centres[:, :, None] - places)
    window = window / window.sum(2, keepdim=True)
    blur = torch.exp(-0.5 * ((places[:, None] - places) / sigma[:, None, None]).square())
    return (blur / blur.sum(2, keepdim=True)) @ window


def matrices(theta: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(Y [B, height, height], X [B, width, width]) of theta [B, 5]; differentiable."""
    left, right, top, bottom, sigma = theta.unbind(1)
    return _axis(top, bottom, sigma, height), _axis(left, right, sigma, width)


def warp(pictures: Tensor, theta: Tensor) -> Tensor:
    """Pictures [B, C, H, W] changed by theta [B, 5], or all by one theta [1, 5]."""
    down, across = matrices(theta, *pictures.shape[2:])
    return down[:, None] @ pictures @ across[:, None].transpose(2, 3)


class WarpedNetwork:
    """A generator's network followed by a warp: `unit` and `linearise` of points [z, theta], for one probe."""

    def __init__(self, network: Network, target: Tensor) -> None:
        self.network = network
        self.target = target
        self.device = network.device
        output = network.generator.output
        self.normal = torch.cat([network.normal, network.normal.new_zeros(PARAMETERS)])
        self.shape = (output.channels, output.height, output.width)

    def split(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(z [B, d], theta [B, 5])."""
        return points[:, : self.network.dim], points[:, self.network.dim :]

    def project(self, points: Tensor) -> Tensor:
        """Points [B, d + 5] put back onto the prior's support and into the scope."""
        z, theta = self.split(points)
        return torch.cat([project(z, self.network.generator.latent), bounded(theta, *self.shape[1:])], dim=1)

    def unit(self, z: Tensor) -> Tensor:
        """[B, N] warped pictures on the scale [0, 1]; differentiable."""
        latents, theta = self.split(z)
        return warp(self.network.unit(latents).reshape(-1, *self.shape), theta).flatten(1)

    def rough(self, z: Tensor, theta: Tensor) -> Tensor:
        """[B, N] pictures of latents [B, d], all warped by one theta [5], by the network's rough arithmetic."""
        return warp(self.network.rough(z).reshape(-1, *self.shape), theta[None]).flatten(1)

    @torch.no_grad()
    def linearise(self, z: Tensor, precise: bool = False) -> tuple[Tensor, Tensor]:
        """(warped picture [N], Jacobian [d + 5, N]) at one point [d + 5].

        Columns of the latent are the warped tangent pictures, those of theta differences on one picture. A number of
        theta at its bound that the probe pulls outwards has a column of zeros: the step is then taken in the others.
        """
        latent, theta = self.split(z[None])
        picture, jacobian = self.network.linearise(latent[0], precise)
        plain = picture.reshape(1, *self.shape)
        moved = theta + DIFFERENCE * torch.eye(PARAMETERS, device=self.device)
        back = theta - DIFFERENCE * torch.eye(PARAMETERS, device=self.device)
        both = warp(plain.expand(2 * PARAMETERS, -1, -1, -1), torch.cat([moved, back])).flatten(1)
        columns = (both[:PARAMETERS] - both[PARAMETERS:]) / (2 * DIFFERENCE)
        warped = warp(plain, theta).flatten()
        wanted = columns @ (self.target - warped)
        step = theta + wanted.sign() * DIFFERENCE * 1e-2
        outwards = ((bounded(step, *self.shape[1:]) - step).abs() > 1e-7)[0]
        columns = torch.where(outwards[:, None], 0.0, columns)
        tangents = warp(jacobian.reshape(-1, *self.shape), theta).flatten(1)
        return warped, torch.cat([tangents, columns])
