"""Which records say something: a replay convinces only if its inputs are too small to hold the picture.

Whoever may choose as many numbers as a picture has samples can make a generator emit that picture (free style or noise
inputs of StyleGAN do). So an exact replay counts only where every input is *counted*:

- committed inputs that really follow from their seed, and fixed ones that the model's manifest names: no free number;
- captured ones if the free numbers (latent dimensions or, if fewer, bytes of the generator's state; bytes of text;
  scalars) are at most a quarter of the picture's samples, and |z|^2 lies in the central 1 - 1e-6 of the prior;
- image inputs, captured noise maps and what nothing is known about (opaque arguments) never.

Grades are the author's word and believed only where they can be checked. The size and norm tests also guard an exact
attribution. Source: docs/spec/record.md "Counted inputs".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import EvidenceError, UsageError
from ...schemas.record import Input, Tensor
from ...schemas.text import unb64
from ..seeds.committed import check_latent
from .record import OpenedRecord

TAIL = 0.5e-6
"""Probability cut off at each end of the prior's distribution of |z|^2."""
_SPHERE_TOLERANCE = 1e-5
_NEVER = ("image", "bytes", "opaque")
_CHOICES = frozenset({"torch.device", "torch.dtype", "torch.layout", "torch.memory_format"})
"""Types with a handful of values: such an argument is one scalar, although its value is not recorded."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Whether a record's inputs count: `free` numbers against the `limit`, and why not (empty if they count)."""

    free: int
    limit: int
    reasons: tuple[str, ...]

    @property
    def counts(self) -> bool:
        """True if every input counts."""
        return not self.reasons


def free_limit(samples: int) -> int:
    """The most free numbers that count for a picture of this many 8-bit samples: a quarter."""
    return samples // 4


def counted_inputs(
    opened: OpenedRecord,
    *,
    manifest: Mapping[str, Any] | None = None,
    drawn: NDArray[np.floating[Any]] | None = None,
    prior: str = "normal",
) -> Counted:
    """Whether all inputs of an opened record count.

    `manifest` is the model's manifest, which alone can show that an input is fixed; `drawn` the latent that an
    exact replay drew from a captured generator state under `prior`, where the record keeps no values. Fields not
    disclosed never count.
    """
    tally = _Tally(opened, manifest)
    missing = opened.missing_for_replay
    if missing or opened.output is None:
        return Counted(0, 0, (f"not disclosed: {', '.join(missing) or 'output'}",))
    channels = 3 if opened.output.mode == "RGB" else 4
    limit = free_limit(opened.output.width * opened.output.height * channels)
    tally.latent_and_rng(drawn, prior)
    for name, item in (opened.style or {}).items():
        tally.input(f"style {name}", item)
    for name, item in (opened.noise or {}).items():
        if not tally.is_fixed(name, item):
            tally.reasons.append(f"noise {name} is a free map")
    if opened.call is not None:
        for name, value in opened.call.arguments.items():
            tally.argument(f"argument {name}", value)
    if tally.free > limit:
        tally.reasons.append(f"{tally.free} free numbers are more than {limit}, a quarter of the samples")
    return Counted(tally.free, limit, tuple(tally.reasons))


@dataclass(slots=True)
class _Tally:
    opened: OpenedRecord
    manifest: Mapping[str, Any] | None
    free: int = 0
    reasons: list[str] = field(default_factory=list[str])

    def latent_and_rng(self, drawn: NDArray[np.floating[Any]] | None, prior: str) -> None:
        opened, latent = self.opened, self.opened.latent
        states: int | None = 0
        for source in opened.rng.sources if opened.rng else ():
            if source.state is None or states is None:
                states = None
            else:
                states += len(unb64(source.state))
        if latent is None and drawn is not None and states is not None:
            # the state speaks through the latent alone: the picture follows from it
            self.free += min(drawn.size, states)
            if not norm_is_central(drawn, prior):
                self.reasons.append(f"|z|^2 does not lie in the central 1 - 1e-6 of the prior {prior!r}")
            return
        if latent is None or self._latent_is_fixed():
            self._add_states(states)
            return
        check = check_latent(latent, opened.context)
        if check.derived:
            self._add_states(states)
            return
        if check.status == "different":
            self.reasons.append("the latent does not follow from its committed seed")
        dimensions = math.prod(latent.shape)
        self.free += min(dimensions, states) if opened.rng and states is not None else dimensions
        z = check.z if check.z is not None else drawn
        if z is None:
            self.reasons.append("the latent's values are not known, so its norm cannot be tested")
        elif z.size != dimensions:
            self.reasons.append("the latent drawn is not of the recorded shape")
        elif not norm_is_central(z, latent.prior):
            self.reasons.append(f"|z|^2 does not lie in the central 1 - 1e-6 of the prior {latent.prior!r}")

    def _add_states(self, states: int | None) -> None:
        if states is None:
            self.reasons.append("the state of a random number generator was not disclosed")
        else:
            self.free += states

    def _latent_is_fixed(self) -> bool:
        latent = self.opened.latent
        return latent is not None and latent.grade == "fixed" and latent.sha256 in self._constants()

    def _constants(self) -> set[str]:
        rows = cast("Sequence[Mapping[str, Any]]", (self.manifest or {}).get("tensors", ()))
        return {str(row.get("sha256")) for row in rows}

    def is_fixed(self, name: str, item: Input) -> bool:
        """Whether the manifest shows this input to be a constant of the model."""
        if item.grade != "fixed" or self.manifest is None:
            return False
        if item.tensor is not None:
            return item.tensor.sha256 in self._constants()
        for section in ("sampling", "config"):
            constants = cast("Mapping[str, Any]", self.manifest.get(section) or {})
            if name in constants:
                return constants[name] == item.value and item.image is None
        return False

    def input(self, what: str, item: Input) -> None:
        if self.is_fixed(what.split(" ", 1)[1], item):
            return
        if item.image is not None:
            self.reasons.append(f"{what} is a picture")
        elif item.tensor is not None:
            self.free += math.prod(item.tensor.shape)
        else:
            self.argument(what, item.value)

    def argument(self, what: str, value: object) -> None:
        """Add the free numbers of recorded JSON."""
        if value is None:
            return
        if isinstance(value, str):
            self.free += len(value.encode("utf-8"))
        elif isinstance(value, (bool, int, float)):
            self.free += 1
        elif isinstance(value, (list, tuple)):
            for item in cast("Sequence[object]", value):
                self.argument(what, item)
        elif isinstance(value, dict):
            self._object(what, cast("dict[str, object]", value))

    def _object(self, what: str, value: dict[str, object]) -> None:
        if len(value) == 1:
            [(kind, inner)] = value.items()
            if kind == "opaque" and inner in _CHOICES:
                self.free += 1
                return
            if kind in _NEVER:
                self.reasons.append(f"{what} is {kind} data")
                return
            if kind in ("int", "f64"):
                self.free += len(str(inner)) // 16 + 1 if kind == "int" else 1
                return
            if kind == "tensor":
                self._tensor(what, inner)
                return
            if kind == "input":
                if not self._is_recorded(inner):
                    self.reasons.append(f"{what} refers to an input that is not recorded")
                return
            if kind == "rng":
                sources = self.opened.rng.sources if self.opened.rng else ()
                if isinstance(inner, bool) or not isinstance(inner, int) or not 0 <= inner < len(sources):
                    self.reasons.append(f"{what} refers to a random number generator that is not recorded")
                return
            if kind == "model":
                if inner != self.opened.context.model:
                    self.reasons.append(f"{what} is another model")
                return
        for key, item in value.items():
            self.argument(what, key)
            self.argument(what, item)

    def _is_recorded(self, reference: object) -> bool:
        field_name, _, name = str(reference).partition(".")
        if reference == "latent":
            return self.opened.latent is not None
        inputs = {"style": self.opened.style, "noise": self.opened.noise}.get(field_name)
        return inputs is not None and name in inputs

    def _tensor(self, what: str, value: object) -> None:
        try:
            tensor = Tensor.of(value, what=what)
        except (EvidenceError, UsageError):
            self.reasons.append(f"{what} is a malformed tensor")
            return
        latent, call = self.opened.latent, self.opened.call
        if latent is not None:
            # the latent itself, or the batch it is a row of: a replay takes the row from `latent`, nothing from here
            if tensor.sha256 == latent.sha256:
                return
            if call is not None and (tensor.dtype, tensor.shape) == (latent.dtype, (call.batch.size, *latent.shape)):
                return
        self.free += math.prod(tensor.shape)


def norm_is_central(z: NDArray[np.floating[Any]], prior: str) -> bool:
    """Whether |z|^2 lies in the central 1 - 1e-6 of what the prior gives; False for a prior that is not specified."""
    values = np.asarray(z, dtype=np.float64).ravel()
    squared = float(np.sum(values * values))
    if not values.size or not math.isfinite(squared):
        return False
    if prior == "sphere":
        return abs(squared / values.size - 1.0) <= _SPHERE_TOLERANCE
    if prior == "normal":
        return min(chi_square_tails(values.size, squared)) >= TAIL
    return False


def chi_square_tails(dimensions: int, value: float) -> tuple[float, float]:
    """P(X <= value) and P(X > value) of a chi-square variable: the regularised incomplete gamma functions.

    The series below the mean, Lentz's continued fraction above it, so that the small tail is the one computed and keeps
    its relative accuracy (DLMF 8.11.4 and 8.9.2).
    """
    if dimensions < 1 or value < 0:
        raise UsageError("a chi-square variable has at least one dimension and no negative value")
    a, x = dimensions / 2.0, value / 2.0
    if x == 0.0:
        return 0.0, 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1.0:
        term = total = 1.0 / a
        n = a
        while term > total * 1e-17:
            n += 1.0
            term *= x / n
            total += term
        lower = min(1.0, scale * total)
        return lower, 1.0 - lower
    tiny = 1e-300
    b = x + 1.0 - a
    c, d = 1.0 / tiny, 1.0 / (b or tiny)
    fraction, i = d, 0
    while True:
        i += 1
        step = -i * (i - a)
        b += 2.0
        d = 1.0 / ((step * d + b) or tiny)
        c = (b + step / c) or tiny
        change = c * d
        fraction *= change
        if abs(change - 1.0) < 1e-15 or i > 10_000_000:
            break
    upper = min(1.0, scale * fraction)
    return 1.0 - upper, upper


__all__ = ["Counted", "chi_square_tails", "counted_inputs", "free_limit", "norm_is_central"]
