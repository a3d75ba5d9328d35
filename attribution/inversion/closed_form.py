"""A start without a search: a fully connected generator is undone layer by layer, each by weighted least squares.

A sample's level says what went into its activation (the logit, for a sigmoid); the more levels a small change of that
would move, the better it is known: weights are slopes, so saturated samples count for little. From the last layer's
inputs the next layer back is solved in the same way, in the metric that the samples gave (their normal matrix), so that
combinations of hidden units which no sample shows carry no weight. It needs the generator alone, no encoder.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .perceptron import Activation, Perceptron

HALF_LEVEL = 0.5 / 255
"""What rounding hides of a sample, on the scale [0, 1]: black and white are taken half a level inside the range."""
INSIDE = 1e-3
"""The same for hidden units, which least squares may put beyond their range."""
RIDGE = 1e-6
"""Added to normal matrices, relative to their mean diagonal."""


@torch.no_grad()
def closed_form(network: Perceptron, targets: Tensor) -> Tensor:
    """float32 [P, d]: latents near probes [P, N] on the scale [0, 1], on the support of the prior."""
    output = network.generator.output
    span = output.high - output.low
    last = network.layers[-1].activation
    y = _inside(targets * span + output.low, last, HALF_LEVEL * span)
    weights = last.slope(y).square()
    metric: Tensor | None = None
    for place in range(len(network.layers) - 1, -1, -1):
        layer = network.layers[place]
        wanted = layer.activation.inverse(y) - layer.bias
        if metric is None:
            # samples are independent: their metric is diagonal
            system = network.last_normal(weights)
            right = (wanted * weights) @ layer.weight
        else:
            leaning = metric @ layer.weight
            system = layer.weight.T @ leaning
            right = (wanted[:, None] @ leaning)[:, 0]
        y = _solve(system, right)
        if place:
            before = network.layers[place - 1].activation
            y = _inside(y, before, INSIDE)
            slope = before.slope(y)
            metric = slope[:, :, None] * system * slope[:, None]
    return network.generator.latent.project(y)


def _inside(y: Tensor, activation: Activation, margin: float) -> Tensor:
    if math.isinf(activation.high):
        return y.clamp_min(activation.low)
    return y.clamp(activation.low + margin, activation.high - margin)


def _solve(system: Tensor, right: Tensor) -> Tensor:
    """Solutions [P, k] of P regularised symmetric systems, in double: hidden units may be nearly collinear."""
    wide = system.double()
    diagonal = wide.diagonal(dim1=1, dim2=2)
    diagonal += RIDGE * diagonal.mean(1, keepdim=True) + 1e-12
    return torch.linalg.solve(wide, right.double()).to(right.dtype)
