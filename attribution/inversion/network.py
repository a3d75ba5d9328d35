"""One generator prepared for inversion: BatchNorm folded, pictures flat, and the dense Jacobian in one batched pass.

For a module that offers `chain()` (its layers in order) the d tangents travel through the linearised network as one
batch: affine layers without their bias, activations as a product with their derivative at the primal point. That is d
forward passes of arithmetic, but a single call per layer. Any other module goes through automatic
differentiation, in chunks.

Jacobians may be carried in bfloat16 where the processor multiplies it natively: they only choose the direction of a
step; residuals, and so every decision, are float32. The folded network differs from the owner's by rounding alone
(about 1e-7); whatever is reported is recomputed by the owner's own module.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..generators.protocol import Generator
from .adam import project

COLUMN_CHUNK = 50
MAX_JACOBIAN_BYTES = 2 << 30

Affine = Callable[[Tensor, bool], Tensor]
"""Applies an affine layer to [B, ...]; with False its linear part alone."""
Activation = Callable[[Tensor], tuple[Tensor, Tensor]]
"""[B, ...] -> (value, derivative)."""


class _UnsupportedError(Exception):
    """A layer that the chain cannot linearise."""


def bfloat16_is_native(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are faster than in float32 here, and not emulated."""
    if device.type == "cuda":
        return False  # float32 is fast enough there, and Jacobians are not the cost
    try:
        return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def _relu(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.relu(), x > 0


def _tanh(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x.tanh()
    return y, 1 - y * y


def _sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x.sigmoid()
    return y, y * (1 - y)


def _leaky(slope: float) -> Activation:
    def apply(x: Tensor) -> tuple[Tensor, Tensor]:
        return functional.leaky_relu(x, slope), torch.where(x > 0, 1.0, slope)

    return apply


class _AffineLayer:
    """A linear or convolutional layer with the following BatchNorm folded in; weights in two precisions."""

    def __init__(
        self, layer: nn.Module, norm: nn.Module | None, tangent_dtype: torch.dtype, device: torch.device
    ) -> None:
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
                raise _UnsupportedError
            if isinstance(layer, nn.ConvTranspose2d) and (layer.groups != 1):
                raise _UnsupportedError
        elif not isinstance(layer, nn.Linear):
            raise _UnsupportedError
        self.layer = layer
        # folded in double: the product of two float32 factors is then rounded once
        weight = layer.weight.detach().double()
        bias = None if layer.bias is None else layer.bias.detach().double()
        if norm is not None:
            gain, shift = _batch_norm(norm)
            axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            if gain.numel() != weight.shape[axis]:
                raise _UnsupportedError
            view = [1] * weight.ndim
            view[axis] = -1
            weight = weight * gain.reshape(view)
            bias = shift if bias is None else bias * gain + shift
        self.weight = weight.float().to(device)
        self.bias = None if bias is None else bias.float().to(device)
        self.tangent_weight = _channels_last(self.weight.to(tangent_dtype))

    def __call__(self, x: Tensor, primal: bool) -> Tensor:
        weight, bias = (self.weight, self.bias) if primal else (self.tangent_weight, None)
        layer = self.layer
        if isinstance(layer, nn.Linear):
            return functional.linear(x, weight, bias)
        if isinstance(layer, nn.Conv2d):
            padding = cast("tuple[int, int]", layer.padding)
            return functional.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)
        transposed = layer
        padding = cast("tuple[int, int]", transposed.padding)
        extra = cast("tuple[int, int]", transposed.output_padding)
        if (
            x.shape[2:] == (1, 1)
            and padding == extra == (0, 0)
            and transposed.stride == (1, 1)
            and transposed.dilation == (1, 1)
        ):
            # a 1x1 map: the kernel itself, one matrix product
            y = (x.flatten(1) @ weight.flatten(1)).reshape(len(x), *weight.shape[1:])
            return y if bias is None else y + bias[:, None, None]
        return functional.conv_transpose2d(x, weight, bias, transposed.stride, padding, extra, 1, transposed.dilation)


def _batch_norm(norm: nn.Module) -> tuple[Tensor, Tensor]:
    if not isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)) or norm.running_mean is None or norm.running_var is None:
        raise _UnsupportedError
    gain = 1 / torch.sqrt(norm.running_var.double() + norm.eps)
    if norm.affine:
        gain = gain * norm.weight.detach().double()
    shift = -norm.running_mean.double() * gain
    return gain, shift + norm.bias.detach().double() if norm.affine else shift


def _parse(
    chain: Sequence[nn.Module], tangent_dtype: torch.dtype, device: torch.device
) -> list[tuple[str, Affine | Activation]]:
    """The chain as ("affine" | "activation", function) pairs; `_UnsupportedError` if it holds anything else."""
    steps: list[tuple[str, Affine | Activation]] = []
    index = 0
    while index < len(chain):
        layer = chain[index]
        index += 1
        if isinstance(layer, (nn.Identity, nn.Dropout)):
            continue
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            following = chain[index] if index < len(chain) else None
            norm = following if isinstance(following, (nn.BatchNorm1d, nn.BatchNorm2d)) else None
            index += norm is not None
            steps.append(("affine", _AffineLayer(layer, norm, tangent_dtype, device)))
        elif isinstance(layer, (nn.Unflatten, nn.Flatten)) or (
            isinstance(layer, nn.Upsample) and layer.mode == "nearest"
        ):
            steps.append(("affine", lambda x, primal, layer=layer: layer(x)))
        elif isinstance(layer, nn.LeakyReLU):
            steps.append(("activation", _leaky(layer.negative_slope)))
        else:
            known: dict[type[nn.Module], Activation] = {nn.ReLU: _relu, nn.Tanh: _tanh, nn.Sigmoid: _sigmoid}
            activation = known.get(type(layer))
            if activation is None:
                raise _UnsupportedError
            steps.append(("activation", activation))
    return steps


class Network:
    """`unit(z)` and `linearise(z)` of one generator, flat pictures [N] with N = C x H x W on the scale [0, 1]."""

    def __init__(self, generator: Generator, device: torch.device | str = "cpu") -> None:
        self.generator = generator
        self.device = torch.device(device)
        self.dim = generator.latent.dim
        self.normal = torch.full((self.dim,), float(generator.latent.prior == "normal"), device=self.device)
        self.samples = generator.output.samples
        self._tangent_dtype = torch.bfloat16 if bfloat16_is_native(self.device) else torch.float32
        self._steps: list[tuple[str, Affine | Activation]] | None = None
        chain = getattr(generator.module, "chain", None)
        if callable(chain):
            try:
                self._steps = _parse(cast("Sequence[nn.Module]", chain()), self._tangent_dtype, self.device)
            except _UnsupportedError:
                self._steps = None
        self._first: tuple[int, Tensor] | None = None
        # the owner's module stays where it is: what it publishes there is what counts
        moves = self._steps is None and self.device != generator.device
        self._module = copy.deepcopy(generator.module).to(self.device) if moves else generator.module

    @property
    def folded(self) -> bool:
        """Whether the module's layers are known, so that a Jacobian travels through them in one pass."""
        return self._steps is not None

    @property
    def linearisable(self) -> bool:
        """Whether a dense Jacobian fits: d x N float32 within `MAX_JACOBIAN_BYTES`."""
        return 4 * self.dim * self.samples <= MAX_JACOBIAN_BYTES

    def project(self, points: Tensor) -> Tensor:
        """Latents [B, d] put back onto the support of their prior."""
        return project(points, self.generator.latent)

    def unit(self, z: Tensor) -> Tensor:
        """[B, N] of latents [B, d]; differentiable."""
        if self._steps is None:
            return self.generator.output.unit(self._module(z)).flatten(1)
        x = z
        for kind, step in self._steps:
            x = cast(Affine, step)(x, True) if kind == "affine" else cast(Activation, step)(x)[0]
        return self.generator.output.unit(x).flatten(1)

    def rough(self, z: Tensor) -> Tensor:
        """As `unit`, in bfloat16 where the processor multiplies it natively: for a search far above the floor."""
        if self._tangent_dtype is torch.float32:
            return self.unit(z)
        with torch.autocast(self.device.type, dtype=self._tangent_dtype):
            pictures = self.unit(z)
        return pictures.float()

    @torch.no_grad()
    def linearise(self, z: Tensor, precise: bool = False) -> tuple[Tensor, Tensor]:
        """(unit picture [N], Jacobian [d, N]) at one latent [d], float32; `precise` never uses bfloat16."""
        if self._steps is None or (precise and self._tangent_dtype is not torch.float32):
            return self._linearise_by_vjp(z) if self._steps is None else self._push(z, torch.float32)
        return self._push(z, self._tangent_dtype)

    def _push(self, z: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        steps = cast("list[tuple[str, Affine | Activation]]", self._steps)
        x = z[None]
        tangents = torch.eye(self.dim, device=self.device)
        # the tangents are the same at every latent up to the first activation: kept, in the working precision
        leading = next((i for i, (kind, _) in enumerate(steps) if kind == "activation"), len(steps))
        if self._first is None:
            for _, step in steps[:leading]:
                tangents = _linear_part(cast(Affine, step), tangents, torch.float32)
            self._first = (leading, tangents)
        tangents = _channels_last(self._first[1].to(dtype))
        for index, (kind, step) in enumerate(steps):
            if kind == "affine":
                x = cast(Affine, step)(x, True)
                if index >= leading:
                    tangents = _linear_part(cast(Affine, step), tangents, dtype)
            else:
                x, slope = cast(Activation, step)(x)
                last = index == len(steps) - 1
                if last:
                    tangents = tangents.float() * slope
                elif index == leading:
                    tangents = tangents * slope.to(dtype)  # a new tensor: the cached ones stay
                else:
                    tangents.mul_(slope.to(dtype))
        output = self.generator.output
        jacobian = tangents.float().flatten(1) / (output.high - output.low)
        return output.unit(x).flatten(), jacobian

    @torch.no_grad()
    def linearise_many(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(unit pictures [B, N], Jacobians [B, d, N]) at latents [B, d], float32: for small networks, in one pass."""
        if self._steps is None:
            each = [self._linearise_by_vjp(point) for point in z]
            return torch.stack([picture for picture, _ in each]), torch.stack([jacobian for _, jacobian in each])
        count, x = len(z), z
        tangents = torch.eye(self.dim, device=self.device).repeat(count, 1)
        for kind, step in self._steps:
            if kind == "affine":
                x = cast(Affine, step)(x, True)
                tangents = _linear_part(cast(Affine, step), tangents, torch.float32)
            else:
                x, slope = cast(Activation, step)(x)
                tangents = (tangents.unflatten(0, (count, self.dim)) * slope[:, None]).flatten(0, 1)
        output = self.generator.output
        jacobians = tangents.reshape(count, self.dim, -1) / (output.high - output.low)
        return output.unit(x).flatten(1), jacobians

    def _linearise_by_vjp(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Columns J v as derivatives of the linear map w -> J^T w: reverse mode alone, which every module supports."""
        with torch.enable_grad():
            point = z.detach().clone().requires_grad_(True)
            picture = self.generator.output.unit(self._module(point[None])).flatten()
            weight = torch.zeros_like(picture, requires_grad=True)
            (pulled,) = torch.autograd.grad(picture, point, weight, create_graph=True)
            basis = torch.eye(self.dim, device=self.device)
            columns = [
                torch.autograd.grad(pulled, weight, chunk, retain_graph=True, is_grads_batched=True)[0]
                for chunk in basis.split(COLUMN_CHUNK)
            ]
        return picture.detach(), torch.cat(columns)


def _channels_last(x: Tensor) -> Tensor:
    """Maps with their channels innermost: convolutions of many tangents are about a third quicker so."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _linear_part(step: Affine, tangents: Tensor, dtype: torch.dtype) -> Tensor:
    if isinstance(step, _AffineLayer) and step.tangent_weight.dtype != dtype:
        working = step.tangent_weight
        step.tangent_weight = _channels_last(step.weight.to(dtype))
        try:
            return step(tangents, False)
        finally:
            step.tangent_weight = working
    return step(tangents, False)
