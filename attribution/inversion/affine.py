"""What a changed picture may have gone through beyond the relaxed scope: a window, a turn, a kernel, tone.

A transform takes a window of the picture (pixels cut at left, right, top and bottom), turned about its centre, samples
it between bilinear and cubic, blurs by a symmetric separable kernel of seven taps and scales the levels. The taps are
free: a truncated Gaussian, a box and a resampling filter are all among them. What lies outside the picture (the
corners of a turned one, reflected or black) is known to nobody: such pixels weigh nothing, neither does what the
kernel mixes with them.

`AffineNetwork` joins the transform to a generator as warp.py does: points [z, theta] in lm.py's interface. Its pictures
and target are multiplied by the square roots of the weights, scaled so that a mean square over all samples is the mean
square over those that count. All numbers of theta are in units of about a pixel, or of about as much change.
Source: 004 Table I names the changes; OpenCV's bilinear and cubic (a = -3/4) kernels, which PyTorch's are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .adam import project
from .network import Network

PARAMETERS = 11
"""theta: pixels cut at left, right, top, bottom; turn; three taps; share of the cubic; gain; offset."""
CUTS, TURN, TAPS, CUBIC, GAIN, OFFSET = slice(0, 4), 4, slice(5, 8), 8, 9, 10
REACH = 3
"""Taps on either side of a pixel."""
TAP_UNIT, CUBIC_UNIT, GAIN_UNIT, OFFSET_UNIT = 0.1, 0.5, 0.1, 0.05
LARGEST_TURN = 6.0
"""Degrees; 004 turns by up to 5."""
SMALLEST_SHARE = 0.88
OUTSIDE = 1.5
"""Pixels that a window may begin outside the picture: programs differ by half a pixel in what the centre is."""
TAP_RANGE = (-0.06, 0.30)
TONE_RANGE = (0.3, 0.15)
"""Largest changes of gain and offset."""
DIFFERENCE = 1e-2
"""Step of theta's columns, in theta's units."""
SEEN_TAP = 4e-3
"""A smaller tap carries nothing that counts from outside into a pixel: at most a level."""


@dataclass(frozen=True, slots=True)
class Freedom:
    """Which numbers of theta are unknowns; the others stay where a search starts. Tone is told apart only if asked:
    a clone of another tint is what it would excuse."""

    window: bool = True
    turn: bool = True
    kernel: bool = True
    tone: bool = False

    def mask(self) -> Tensor:
        """bool [11]."""
        w, t, k, g = self.window, self.turn, self.kernel, self.tone
        return torch.tensor([w, w, w, w, t, k, k, k, k, g, g])


def identity() -> Tensor:
    """theta [11] of no change at all, sampled by the cubic."""
    theta = torch.zeros(PARAMETERS)
    theta[CUBIC] = 1 / CUBIC_UNIT
    return theta


def start(height: int, width: int, zoom: float = 1.0, degrees: float = 0.0, sigma: float = 0.0) -> Tensor:
    """theta [11] of a central window that keeps `zoom` of each side, turned, with a Gaussian of `sigma` pixels."""
    theta = identity()
    x, y = width * (1 - zoom) / 2, height * (1 - zoom) / 2
    theta[CUTS] = torch.tensor([x, x, y, y])
    theta[TURN] = math.tan(math.radians(degrees)) * min(height, width) / 2
    if sigma > 0:
        weights = torch.exp(-0.5 * (torch.arange(-REACH, REACH + 1.0) / sigma).square())
        theta[TAPS] = (weights / weights.sum())[REACH + 1 :] / TAP_UNIT
        theta[CUBIC] = 0.5 / CUBIC_UNIT
    return theta


def bounded(theta: Tensor, height: int, width: int) -> Tensor:
    """theta [B, 11] put back to where transforms are looked for."""
    pairs: list[Tensor] = []
    for pair, side in ((theta[:, :2], width), (theta[:, 2:4], height)):
        cut = pair.clamp_min(-OUTSIDE)
        over = (cut.sum(1, keepdim=True) - (1 - SMALLEST_SHARE) * side).clamp_min(0)
        pairs.append((cut - over / 2).clamp_min(-OUTSIDE))
    largest = math.tan(math.radians(LARGEST_TURN)) * min(height, width) / 2
    return torch.cat(
        [
            *pairs,
            theta[:, TURN : TURN + 1].clamp(-largest, largest),
            theta[:, TAPS].clamp(TAP_RANGE[0] / TAP_UNIT, TAP_RANGE[1] / TAP_UNIT),
            theta[:, CUBIC : CUBIC + 1].clamp(0, 1 / CUBIC_UNIT),
            theta[:, GAIN : GAIN + 1].clamp(-TONE_RANGE[0] / GAIN_UNIT, TONE_RANGE[0] / GAIN_UNIT),
            theta[:, OFFSET : OFFSET + 1].clamp(-TONE_RANGE[1] / OFFSET_UNIT, TONE_RANGE[1] / OFFSET_UNIT),
        ],
        dim=1,
    )


def degrees(theta: Tensor, height: int, width: int) -> Tensor:
    """Angle of theta [..., 11]: positive turns what the picture shows counter-clockwise, as albumentations counts."""
    return torch.rad2deg(torch.atan(theta[..., TURN] / (min(height, width) / 2)))


def places(theta: Tensor, height: int, width: int) -> Tensor:
    """[B, H, W, 2]: for each pixel the (x, y) of the picture that it shows, in pixel indices."""
    left, right, top, bottom = theta[:, CUTS].unbind(1)
    angle = torch.atan(theta[:, TURN] / (min(height, width) / 2))
    u = (torch.arange(width, device=theta.device, dtype=theta.dtype) + 0.5) / width - 0.5
    v = (torch.arange(height, device=theta.device, dtype=theta.dtype) + 0.5) / height - 0.5
    across = (width - left - right)[:, None, None] * u[None, None, :]
    down = (height - top - bottom)[:, None, None] * v[None, :, None]
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    x = (left + (width - left - right) / 2)[:, None, None] + c * across - s * down - 0.5
    y = (top + (height - top - bottom) / 2)[:, None, None] + s * across + c * down - 0.5
    return torch.stack([x, y], dim=-1)


def _blur(taps: Tensor, side: int) -> Tensor:
    """[B, side, side]: the kernel of taps [B, 3] along one axis, the picture reflected at its edge samples."""
    index = torch.arange(side, device=taps.device)
    rows = torch.zeros(len(taps), side, side, device=taps.device, dtype=taps.dtype)
    rows = rows + (1 - 2 * taps.sum(1))[:, None, None] * torch.eye(side, device=taps.device, dtype=taps.dtype)
    for distance in range(1, REACH + 1):
        both = torch.zeros(side, side, device=taps.device, dtype=taps.dtype)
        for step in (-distance, distance):
            there = (index + step).abs()
            there = torch.where(there >= side, 2 * (side - 1) - there, there)
            both = both + functional.one_hot(there, side).to(taps.dtype)
        rows = rows + taps[:, distance - 1, None, None] * both
    return rows


def transform(pictures: Tensor, theta: Tensor, *, tangents: bool = False, rough: bool = False) -> Tensor:
    """Pictures [B, C, H, W] changed by theta [B, 11], or all by one theta [1, 11]; differentiable.

    `tangents` leaves the offset out: derivatives of pictures. `rough` samples bilinearly alone.
    """
    count, channels, height, width = pictures.shape
    at = places(theta, height, width)
    scale = torch.tensor([2 / width, 2 / height], device=theta.device, dtype=theta.dtype)
    grid = (at + 0.5) * scale - 1
    alike = len(theta) == 1 and count > 1
    # one transform of many pictures: as channels of one picture, so that each place is worked out once
    stack = pictures.reshape(1, count * channels, height, width) if alike else pictures
    changed = functional.grid_sample(stack, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if not rough:
        cubic = functional.grid_sample(stack, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
        share = theta[:, CUBIC, None, None, None] * CUBIC_UNIT
        changed = changed + share * (cubic - changed)
    taps = theta[:, TAPS] * TAP_UNIT
    changed = changed.reshape(count, channels, height, width)
    changed = _blur(taps, height)[:, None] @ changed @ _blur(taps, width)[:, None].transpose(2, 3)
    changed = changed * (1 + GAIN_UNIT * theta[:, GAIN])[:, None, None, None]
    return changed if tangents else changed + (OFFSET_UNIT * theta[:, OFFSET])[:, None, None, None]


def weights(theta: Tensor, height: int, width: int, turned: bool = False) -> Tensor:
    """float [H, W], 0 or 1: which pixels of theta [11] show the picture and nothing from outside it.

    `turned`: for whatever turn may still be found.
    """
    several = theta[None].repeat(3 if turned else 1, 1)
    if turned:
        most = math.tan(math.radians(LARGEST_TURN)) * min(height, width) / 2
        several[:, TURN] = torch.tensor([-most, float(theta[TURN]), most])
        several[:, CUTS] = several[:, CUTS].clamp_min(0)
    at = places(several, height, width)
    bound = torch.tensor([width - 1.0, height - 1.0], device=theta.device) + 1e-3
    inside = ((at >= -1e-3) & (at <= bound)).all(dim=-1).all(dim=0)
    taps = (theta[TAPS] * TAP_UNIT).abs()
    reach = REACH if turned else max((i + 1 for i in range(REACH) if float(taps[i]) > SEEN_TAP), default=0)
    outside = (~inside).float()[None, None]
    if reach:
        # a pixel counts if all that the kernel mixes into it does; the picture's own edge is reflected, not unknown
        outside = functional.max_pool2d(outside, 2 * reach + 1, 1, reach)
    return (outside == 0).float()[0, 0]


class AffineNetwork:
    """A generator's network, then a transform: `unit` and `linearise` of points [z, theta], for one probe.

    `kept` [H, W] are the weights; `target` is the probe in the units that `unit` gives.
    """

    def __init__(self, network: Network, probe: Tensor, kept: Tensor, freedom: Freedom) -> None:
        self.network = network
        self.device = network.device
        output = network.generator.output
        self.shape = (output.channels, output.height, output.width)
        self.normal = torch.cat([network.normal, network.normal.new_zeros(PARAMETERS)])
        self._free = freedom.mask().to(self.device)
        self._root = kept.sqrt() * math.sqrt(kept.numel() / max(float(kept.sum()), 1.0))
        self.kept = kept
        self.target = (probe.reshape(self.shape) * self._root).flatten()

    def split(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(z [B, d], theta [B, 11])."""
        return points[:, : self.network.dim], points[:, self.network.dim :]

    def project(self, points: Tensor) -> Tensor:
        """Points [B, d + 11] put back onto the prior's support and to where transforms are looked for."""
        z, theta = self.split(points)
        return torch.cat([project(z, self.network.generator.latent), bounded(theta, *self.shape[1:])], dim=1)

    def unit(self, z: Tensor) -> Tensor:
        """[B, N] transformed and weighted pictures; differentiable."""
        latents, theta = self.split(z)
        pictures = self.network.unit(latents).reshape(-1, *self.shape)
        return (transform(pictures, theta) * self._root).flatten(1)

    def rough(self, points: Tensor) -> Tensor:
        """[B, N] as `unit`, by the network's rough arithmetic and bilinear sampling: for Adam."""
        latents, theta = self.split(points)
        held = torch.where(self._free, theta, theta.detach())
        pictures = self.network.rough(latents).reshape(-1, *self.shape)
        return (transform(pictures, held, rough=True) * self._root).flatten(1)

    @torch.no_grad()
    def linearise(self, z: Tensor, precise: bool = False) -> tuple[Tensor, Tensor]:
        """(picture [N], Jacobian [d + 11, N]) at one point [d + 11], weighted.

        Numbers of theta that are not free, or at a bound that the probe pulls them across, have columns of zeros.
        """
        latent, theta = self.split(z[None])
        picture, jacobian = self.network.linearise(latent[0], precise)
        plain = picture.reshape(1, *self.shape)
        steps = DIFFERENCE * torch.eye(PARAMETERS, device=self.device)
        both = transform(plain.expand(2 * PARAMETERS, -1, -1, -1), torch.cat([theta + steps, theta - steps]))
        both = (both * self._root).flatten(1)
        columns = (both[:PARAMETERS] - both[PARAMETERS:]) / (2 * DIFFERENCE)
        changed = (transform(plain, theta) * self._root).flatten()
        wanted = columns @ (self.target - changed)
        step = theta + wanted.sign() * DIFFERENCE * 1e-1
        outwards = ((bounded(step, *self.shape[1:]) - step).abs() > 1e-6)[0]
        columns = torch.where((outwards | ~self._free)[:, None], 0.0, columns)
        tangents = transform(jacobian.reshape(-1, *self.shape), theta, tangents=True) * self._root
        return changed, torch.cat([tangents.flatten(1), columns])
