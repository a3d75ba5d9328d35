"""Fully connected generators as plain matrices: pictures and normal equations of many latents at once.

A batch of B latents against B probes costs a few matrix products, whatever B is. The normal matrix J J^T [d, d] of one
latent is d^2 sums over all samples; where the last hidden layer is narrow (h units) they are all contained in the
h (h + 1) / 2 sums over samples of slope^2 w_i w_j, one product with a table that depends on the weights alone. No
Jacobian is ever written down. `Perceptron.of` says None for any other module: general.py is for those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..generators.protocol import Generator

TABLE_NUMBERS = 1 << 24
"""Entries of the table of products, at most (64 MiB); beyond it Jacobians are formed."""
JACOBIAN_NUMBERS = 1 << 23
"""Entries of a batch's Jacobians formed at one time."""


@dataclass(frozen=True, slots=True)
class Activation:
    """One activation: y, dy/dx as a function of y alone, and the inverse, for y in its range."""

    apply: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    """Derivative by the *output* y; 0 where y tells nothing of x."""
    inverse: Callable[[Tensor], Tensor]
    low: float
    high: float
    """Range of y; infinite where unbounded."""


@dataclass(frozen=True, slots=True)
class Layer:
    """y = activation(weight x + bias): weight [out, in] and bias [out], float32."""

    weight: Tensor
    bias: Tensor
    activation: Activation


_SIGMOID = Activation(torch.sigmoid, lambda y: y * (1 - y), torch.logit, 0.0, 1.0)
_TANH = Activation(torch.tanh, lambda y: 1 - y * y, torch.atanh, -1.0, 1.0)
_RELU = Activation(torch.relu, lambda y: (y > 0).to(y.dtype), lambda y: y, 0.0, float("inf"))
_NONE = Activation(lambda x: x, torch.ones_like, lambda y: y, -float("inf"), float("inf"))


def _leaky(slope: float) -> Activation | None:
    if slope <= 0:
        return None  # not invertible: two x for one y
    return Activation(
        lambda x: functional.leaky_relu(x, slope),
        lambda y: torch.where(y > 0, 1.0, slope),
        lambda y: torch.where(y > 0, y, y / slope),
        -float("inf"), float("inf"),
    )  # fmt: skip


def _activation(module: nn.Module) -> Activation | None:
    if isinstance(module, nn.LeakyReLU):
        return _leaky(module.negative_slope)
    known: dict[type[nn.Module], Activation] = {nn.Sigmoid: _SIGMOID, nn.Tanh: _TANH, nn.ReLU: _RELU}
    return known.get(type(module))


def _layers(chain: Sequence[nn.Module], device: torch.device) -> list[Layer] | None:
    """The chain as dense layers, or None if it holds anything else."""
    left = [m for m in chain if not isinstance(m, (nn.Identity, nn.Dropout, nn.Flatten, nn.Unflatten))]
    layers: list[Layer] = []
    while left:
        linear = left.pop(0)
        if not isinstance(linear, nn.Linear):
            return None
        weight = linear.weight.detach().to(device, torch.float32)
        given = cast("Tensor | None", linear.bias)
        bias = weight.new_zeros(len(weight)) if given is None else given.detach().to(weight)
        activation: Activation | None = _NONE
        if left and not isinstance(left[0], nn.Linear):
            activation = _activation(left.pop(0))
        if activation is None:
            return None
        layers.append(Layer(weight, bias, activation))
    return layers or None


def is_fully_connected(generator: Generator) -> bool:
    """Whether `Perceptron.of` knows this generator's layers."""
    chain = getattr(generator.module, "chain", None)
    return callable(chain) and _layers(cast("Sequence[nn.Module]", chain()), torch.device("cpu")) is not None


class Perceptron:
    """The pictures and normal equations of one fully connected generator; the interface of batched.Model."""

    def __init__(self, generator: Generator, layers: Sequence[Layer], device: torch.device) -> None:
        self.generator = generator
        self.device = device
        self.layers = tuple(layers)
        self.dim = generator.latent.dim
        self.samples = generator.output.samples
        self.scale = 1 / (generator.output.high - generator.output.low)
        self.batch = max(64, JACOBIAN_NUMBERS // (8 * self.samples))
        last = self.layers[-1].weight
        width = last.shape[1]
        self._table: Tensor | None = None
        if self.samples * width * (width + 1) // 2 <= TABLE_NUMBERS:
            rows, columns = torch.triu_indices(width, width, device=device)
            self._table = last[:, rows] * last[:, columns]
            # full[i, j] = packed[place[i, j]]
            place = torch.zeros(width, width, dtype=torch.long, device=device)
            place[rows, columns] = place[columns, rows] = torch.arange(len(rows), device=device)
            self._place = place.flatten()

    @classmethod
    def of(cls, generator: Generator, device: torch.device | str = "cpu") -> Perceptron | None:
        """The generator as matrices, or None if it is not fully connected."""
        chain = getattr(generator.module, "chain", None)
        if not callable(chain):
            return None
        layers = _layers(cast("Sequence[nn.Module]", chain()), torch.device(device))
        return None if layers is None else cls(generator, layers, torch.device(device))

    def unit(self, z: Tensor) -> Tensor:
        """[B, N] pictures of latents [B, d] on the scale [0, 1]; differentiable."""
        return self.generator.output.unit(self._outputs(z)[-1])

    def _outputs(self, z: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for layer in self.layers:
            z = layer.activation.apply(torch.addmm(layer.bias, z, layer.weight.T))
            found.append(z)
        return found

    @torch.no_grad()
    def losses(self, z: Tensor, target: Tensor) -> Tensor:
        """[B] mean squared errors of latents [B, d] against probes [B, N]."""
        return (self.unit(z) - target).square().mean(1)

    @torch.no_grad()
    def pull(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(mean squared errors [B], J r [B, d]) with r = probe - picture: the descent direction."""
        outputs = self._outputs(z)
        residual = target - self.generator.output.unit(outputs[-1])
        back = residual * self.scale
        for layer, output in zip(reversed(self.layers), reversed(outputs), strict=True):
            back = (back * layer.activation.slope(output)) @ layer.weight
        return residual.square().mean(1), back

    @torch.no_grad()
    def normal(self, z: Tensor) -> Tensor:
        """[B, d, d]: J J^T of latents [B, d], J [d, N] being the derivative of the picture."""
        outputs = self._outputs(z)
        tangents: Tensor | None = None
        for layer, output in zip(self.layers[:-1], outputs[:-1], strict=True):
            tangents = layer.weight.T if tangents is None else tangents @ layer.weight.T
            tangents = tangents * layer.activation.slope(output)[:, None]
        final = self.layers[-1]
        slope = final.activation.slope(outputs[-1]) * self.scale
        if self._table is not None and tangents is not None:
            return tangents @ self.last_normal(slope.square()) @ tangents.mT
        found: list[Tensor] = []
        for start in range(0, len(z), max(1, JACOBIAN_NUMBERS // (self.dim * self.samples))):
            part = slice(start, start + max(1, JACOBIAN_NUMBERS // (self.dim * self.samples)))
            rows = final.weight.T if tangents is None else tangents[part] @ final.weight.T
            jacobian = rows * slope[part][:, None]
            found.append(jacobian @ jacobian.mT)
        return torch.cat(found)

    @torch.no_grad()
    def last_normal(self, weights: Tensor) -> Tensor:
        """[B, h, h]: W^T diag(weights) W of the last layer W [N, h], for weights [B, N]."""
        final = self.layers[-1].weight
        if self._table is not None:
            return (weights @ self._table)[:, self._place].reshape(len(weights), final.shape[1], -1)
        return torch.stack([final.T @ (row[:, None] * final) for row in weights])
