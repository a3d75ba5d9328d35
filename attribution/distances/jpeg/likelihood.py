"""How probable a file's coefficients are for a picture: the quantiser's interval, blurred by the roundings before it.

An encoder that rounds writes k for a coefficient c (in units of its Q) with probability

    P(k | c) = Phi((k + 1/2 - c) / s) - Phi((k - 1/2 - c) / s)

where s is what the 8-bit rounding of the published picture and of the encoder's colours leave (`Forward.deviation`):
much less than a unit where Q is large, so that a coefficient is certain unless it lies next to a boundary, and about a
third of one where Q is 1. The *surprise* of a file is -log P summed over its coefficients. For the picture that was
encoded its mean and variance are known, so the surprise is a test of fit that knows no quality.

Encoders that optimise rate also write 0 where rounding would not (jpegli: 0.5 to 1.1 units, half of them up to 0.75 at
every quality). Their zeros have an interval of their own, `ZEROING`. A file cannot say which habit its encoder had, but
one with T.81's tables, as libjpeg scales them, is taken to round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .forward import Forward
from .residual import libjpeg_quality

NEIGHBOURS = 3
"""Values of k on either side of round(c) that the expectation is summed over: s is at most 0.6 units."""
_LOG_ROOT = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True, slots=True)
class Habit:
    """How an encoder writes zeros: up to `reach` units on either side, give or take `spread` (a standard deviation)."""

    reach: float
    spread: float


ROUNDING = Habit(0.5, 0.0)
ZEROING = Habit(0.75, 0.15)


@dataclass(frozen=True, slots=True)
class Surprise:
    """The surprise of a file for one picture, and what it is expected to be if that picture was encoded."""

    found: float
    mean: float
    deviation: float

    @property
    def ratio(self) -> float:
        """In units of mean plus two standard deviations, which few true matches exceed."""
        return self.found / max(self.mean + 2 * self.deviation, 1e-12)


class Likelihood:
    """-log P of one file's coefficients under one habit; coefficients are [B, M] or [M], in units of Q."""

    def __init__(self, forward: Forward, habit: Habit = ROUNDING) -> None:
        self.forward = forward
        self.habit = habit
        zero = forward.target == 0
        self._half = torch.where(zero, habit.reach, 0.5)
        self._variance = forward.deviation.square() + zero * habit.spread**2

    def _margins(self, coefficients: Tensor, blur: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(sign of the error, s, upper and lower margin in s): the interval seen from the error's side."""
        error = coefficients - self.forward.target
        width = (self._variance + blur * blur).sqrt()
        return error.sign(), width, (self._half - error.abs()) / width, -(self._half + error.abs()) / width

    def terms(self, coefficients: Tensor, blur: float = 0.0) -> Tensor:
        """-log P of every coefficient; `blur` widens every s to sqrt(s^2 + blur^2)."""
        _, _, upper, lower = self._margins(coefficients, blur)
        return -_log_between(upper, lower)

    def derivatives(self, coefficients: Tensor, blur: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """(-log P, its first and its second derivative by the coefficient); it is convex."""
        sign, width, upper, lower = self._margins(coefficients, blur)
        log = _log_between(upper, lower)
        above = torch.exp(-0.5 * upper * upper - _LOG_ROOT - log)
        below = torch.exp(-0.5 * lower * lower - _LOG_ROOT - log)
        slope = (above - below) / width
        bend = slope * slope + (upper * above - lower * below) / (width * width)
        return -log, slope * sign, bend.clamp_min(0)

    def surprise(self, coefficients: Tensor, blur: float = 0.0) -> Surprise:
        """The sum over coefficients [M] beside its mean and deviation under a true match (for `blur` 0)."""
        found = float(self.terms(coefficients, blur).double().sum())
        mean, square = self._expected(coefficients, blur)
        variance = (square - mean * mean).clamp_min(0)
        return Surprise(found, float(mean.double().sum()), math.sqrt(float(variance.double().sum())))

    def _expected(self, coefficients: Tensor, blur: float) -> tuple[Tensor, Tensor]:
        """Means of -log P(k | c) and of its square for k drawn from P, each coefficient by itself."""
        width = (self.forward.deviation.square() + blur * blur).sqrt()
        nearest = coefficients.round()
        mean, square = torch.zeros_like(coefficients), torch.zeros_like(coefficients)
        for step in range(-NEIGHBOURS, NEIGHBOURS + 1):
            away = (coefficients - nearest - step).abs()
            log = _log_between((0.5 - away) / width, -(0.5 + away) / width)
            share = log.exp()
            mean -= share * log
            square += share * log * log
        if self.habit == ROUNDING:
            return mean, square
        # written as zero first; what is not is rounded
        width = (width.square() + self.habit.spread**2).sqrt()
        away = coefficients.abs()
        log = _log_between((self.habit.reach - away) / width, -(self.habit.reach + away) / width)
        share = log.exp()
        return mean * (1 - share) - share * log, square * (1 - share) + share * log * log


def habits(forward: Forward) -> tuple[Habit, ...]:
    """Those that the encoder of a file may have had."""
    return (ROUNDING,) if libjpeg_quality(forward.file) is not None else (ZEROING, ROUNDING)


def _log_between(upper: Tensor, lower: Tensor) -> Tensor:
    """log(Phi(upper) - Phi(lower)) for lower < 0 and |lower| >= |upper|: no cancellation, and no underflow."""
    top = torch.special.log_ndtr(upper)
    return top + torch.log1p(-torch.exp((torch.special.log_ndtr(lower) - top).clamp_max(-1e-6)))
