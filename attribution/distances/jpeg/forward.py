"""From a picture to the coefficients that a JPEG encoder would round: affine in the picture, so differentiable.

    picture [0, 1] -> 255 levels -> Y, Cb, Cr -> chroma averaged over its step -> blocks, edge repeated -> DCT -> / Q

Nothing is rounded on the way; what rounding does is `deviation`: the standard deviation of a coefficient, in units of
its Q, that the 8-bit rounding of the published picture and of an encoder's integer colours leaves. `encode` rounds
all of it, as a plain encoder does. Source: ITU-T T.81 section A.3.3 for the DCT, ITU-T T.871 for the colours; the
average over a chroma step is what libjpeg, mozjpeg and jpegli do.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor
from torch.nn import functional

from ....schemas.errors import UsageError
from .file import Component, JpegFile

YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
"""Y, Cb, Cr of red, green, blue; Cb and Cr without their 128, which the level shift takes away again."""


def dct_matrix() -> Tensor:
    """float64 [8, 8]: D x D^T is the orthonormal DCT-II of a block x."""
    k, n = torch.arange(8.0, dtype=torch.float64)[:, None], torch.arange(8.0, dtype=torch.float64)[None]
    matrix = torch.cos(math.pi * k * (2 * n + 1) / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


class Forward:
    """One file's forward model for pictures of `channels` channels: 1 (grey) or 3 (RGB), at the file's size.

    Coefficients are flat [B, M], components one after the other, each as [rows, columns, 8, 8], in units of Q. A grey
    picture in a file of colours is red = green = blue; a picture of colours in a grey file is its Y.
    """

    def __init__(self, file: JpegFile, channels: int, device: torch.device | str = "cpu") -> None:
        if channels not in (1, 3):
            raise UsageError(f"pictures of {channels} channels are not what JPEG files hold: 1 or 3")
        self.file = file
        self.channels = channels
        self.device = torch.device(device)
        self._dct = dct_matrix().to(self.device, torch.float32)
        # divided once, in double; the reciprocal serves every block
        self._scale = [255.0 / torch.from_numpy(c.table).to(self.device, torch.float32) for c in file.components]
        self._offset = torch.cat([self._shift(index, c) for index, c in enumerate(file.components)])
        self.target = torch.cat([torch.from_numpy(c.coefficients).flatten() for c in file.components]).to(
            self.device, torch.float32
        )
        """[M]: the file's own quantised coefficients."""
        self.deviation = torch.cat([self._deviation(index, c) for index, c in enumerate(file.components)])
        """[M]: what rounding leaves, in units of Q."""

        parts = [(c.coefficients.shape, c.step_y, c.step_x, c.table.tolist(), file.ycc) for c in file.components]
        self.kind = hashlib.sha256(repr(parts).encode()).digest()
        """Equal for files that share the affine map."""

    def _mix(self, index: int) -> list[float]:
        """The weights of the picture's channels in a component."""
        count = len(self.file.components)
        if count == 1:
            return list(YCC[0]) if self.channels == 3 else [1.0]
        if not self.file.ycc:
            return [float(c == index) for c in range(3)] if self.channels == 3 else [1.0]
        return list(YCC[index]) if self.channels == 3 else [float(index == 0)]

    def _shift(self, index: int, component: Component) -> Tensor:
        """Minus the level shift of 128, as coefficients; chroma's 128 and its shift cancel."""
        shift = torch.zeros(component.coefficients.shape)
        if not (index and self.file.ycc):
            shift[..., 0, 0] = -128.0 * 8 / float(component.table[0, 0])
        return shift.flatten().to(self.device)

    def _deviation(self, index: int, component: Component) -> Tensor:
        mixed = len(self.file.components) > 1 and self.file.ycc
        area = component.step_y * component.step_x
        variance = (sum(w * w for w in self._mix(index)) + mixed) / area + (area > 1)
        table = torch.from_numpy(component.table).to(self.device, torch.float32)
        return (math.sqrt(variance / 12) / table).expand(component.coefficients.shape).flatten()

    def linear(self, pictures: Tensor) -> Tensor:
        """[B, M] of flat pictures or tangents [B, C H W]: the affine map without its constant."""
        file = self.file
        x = pictures.reshape(-1, self.channels, file.height, file.width)
        parts: list[Tensor] = []
        for index, component in enumerate(file.components):
            weights = torch.tensor(self._mix(index), device=x.device, dtype=x.dtype)
            plane = torch.einsum("bchw,c->bhw", x, weights)
            parts.append(self._blocks(plane, index, component))
        return torch.cat(parts, 1)

    def _blocks(self, plane: Tensor, index: int, component: Component) -> Tensor:
        rows, columns = component.coefficients.shape[:2]
        down, across = component.step_y, component.step_x
        # as libjpeg does: to the right the picture's last column is repeated, downwards the component's last row
        wide, high = 8 * columns * across - plane.shape[2], -plane.shape[1] % down
        if high or wide:
            plane = functional.pad(plane[:, None], (0, wide, 0, high), mode="replicate")[:, 0]
        if down > 1 or across > 1:
            plane = functional.avg_pool2d(plane[:, None], (down, across))[:, 0]
        if plane.shape[1] < 8 * rows:
            plane = functional.pad(plane[:, None], (0, 0, 0, 8 * rows - plane.shape[1]), mode="replicate")[:, 0]
        blocks = plane.reshape(-1, rows, 8, columns, 8).permute(0, 1, 3, 2, 4)
        return ((self._dct @ blocks @ self._dct.T) * self._scale[index]).flatten(1)

    def coefficients(self, pictures: Tensor) -> Tensor:
        """[B, M] in units of Q of flat pictures [B, C H W] on the scale [0, 1]; differentiable, nothing rounded."""
        return self.linear(pictures) + self._offset

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """int32 [B, M]: quantised coefficients of uint8 pictures [B, H, W, C] by an encoder that rounds every step."""
        file = self.file
        x = pixels.permute(0, 3, 1, 2).to(self.device, torch.float32)
        parts: list[Tensor] = []
        for index, component in enumerate(file.components):
            weights = torch.tensor(self._mix(index), device=x.device)
            plane = torch.einsum("bchw,c->bhw", x, weights).round() / 255
            rounded = self._rounded_average(plane, component)
            parts.append(self._blocks(rounded, index, component))
        return (torch.cat(parts, 1) + self._offset).round().to(torch.int32)

    def _rounded_average(self, plane: Tensor, component: Component) -> Tensor:
        """The plane with every chroma step replaced by its average, rounded to a level."""
        down, across = component.step_y, component.step_x
        if down == across == 1:
            return plane
        height, width = plane.shape[1:]
        padded = functional.pad(plane[:, None], (0, -width % across, 0, -height % down), mode="replicate")
        average = (functional.avg_pool2d(padded, (down, across)) * 255).round() / 255
        wide = average.repeat_interleave(down, 2).repeat_interleave(across, 3)
        return wide[:, 0, :height, :width]

    @torch.no_grad()
    def picture(self) -> Tensor:
        """[1, C H W] on [0, 1]: the file decoded plainly, chroma repeated, for starts of a search."""
        file = self.file
        planes: list[Tensor] = []
        place = 0
        for index, component in enumerate(file.components):
            rows, columns = component.coefficients.shape[:2]
            flat = (self.target - self._offset)[place : place + component.coefficients.size]
            place += component.coefficients.size
            blocks = flat.reshape(rows, columns, 8, 8) / self._scale[index]
            plane = (self._dct.T @ blocks @ self._dct).permute(0, 2, 1, 3).reshape(8 * rows, 8 * columns)
            plane = plane.repeat_interleave(component.step_y, 0).repeat_interleave(component.step_x, 1)
            planes.append(plane[: file.height, : file.width])
        if len(planes) == 1 or (self.channels == 1 and file.ycc):
            x = planes[0][None].expand(self.channels, -1, -1)
        elif file.ycc:
            x = torch.einsum("cp,phw->chw", torch.linalg.inv(torch.tensor(YCC)).to(self.device), torch.stack(planes))
        else:
            x = torch.stack(planes) if self.channels == 3 else torch.stack(planes).mean(0)[None]
        return x.clamp(0, 1).reshape(1, -1)
