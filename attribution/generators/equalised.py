"""Layers with an equalised learning rate, and pixel norm.

A weight is stored as N(0, 1) and multiplied by gain / sqrt(fan in) on every call, so that all weights of a network
learn at one pace; with `rate` r it is stored r times larger and used r times smaller, its bias too. The stored numbers
are what checkpoints hold. Source: Karras et al. (2018), section 4.1; (2019), Appendix C, for the rate.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-8
LEAK = 0.2


def pixel_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean of x^2 over channels + 1e-8), at every position. Source: Karras et al. (2018), section 4.2."""
    return x * (x.square().mean(1, keepdim=True) + EPSILON).rsqrt()


def leaky(x: Tensor) -> Tensor:
    """LeakyReLU with slope 0.2."""
    return functional.leaky_relu(x, LEAK)


class EqualLinear(nn.Module):
    """[B, inputs] to [B, outputs]: weight [outputs, inputs] used as weight x rate x gain / sqrt(inputs)."""

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.scale = gain * rate / math.sqrt(inputs)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.scale, self.bias * self.rate)


class EqualConv2d(nn.Module):
    """A convolution of odd or full kernel: weight used as weight x gain / sqrt(inputs x k x k)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, gain: float = math.sqrt(2), padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = gain / math.sqrt(inputs * kernel * kernel)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)
