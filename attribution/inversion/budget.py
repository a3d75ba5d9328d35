"""How much work an inversion may do, counted in steps and not in seconds, so that a calibration holds on any machine.

A calibration is keyed by (model digest, budget digest, engine version, distance): with less work a generator misses its
own pictures more often, so limits measured under one budget say nothing under another.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any, cast

from ...schemas import jcs
from ...schemas.errors import EvidenceError, UsageError
from ...schemas.text import digest_text

FLOOR = 1.0 / (12.0 * 255.0**2)
"""Mean squared error of 8-bit rounding on a [0, 1] scale: the residual of a true match (1.28e-6)."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Work per probe and generator.

    A round moves a pool of `adam_starts` latents, drawn from the prior, `adam_steps` Adam steps (rate `adam_rate`,
    penalty `adam_prior` x mean z^2) and hands `lm_starts` of the best to Levenberg-Marquardt, at most `lm_iterations`
    Jacobians each, with `lm_chords` chord steps per Jacobian and the pull `lm_prior` of the prior (lm.py). Rounds are
    added, at most `rounds`, until a start reaches the floor; every second round draws a fresh pool. `exact_iterations`
    Jacobians serve the bit-exact certificate. Up to a change (relaxed.py) the same numbers mean its own rounds.
    `seconds` is an outer guard only: past it the result is marked out of budget, never silently weaker, and it is no
    part of the digest.
    """

    adam_starts: int = 8
    adam_steps: int = 40
    adam_rate: float = 0.2
    adam_prior: float = 1e-5
    lm_starts: int = 2
    lm_iterations: int = 24
    lm_chords: int = 3
    lm_prior: float = 30.0
    rounds: int = 2
    exact_iterations: int = 4
    seconds: float | None = None

    def __post_init__(self) -> None:
        for field in ("adam_starts", "rounds"):
            if getattr(self, field) < 1:
                raise UsageError(f"a budget needs {field} of at least 1")
        for field in ("adam_steps", "lm_starts", "lm_iterations", "lm_chords", "exact_iterations"):
            if getattr(self, field) < 0:
                raise UsageError(f"a budget's {field} cannot be negative")
        if self.lm_starts > self.adam_starts:
            raise UsageError("a budget polishes at most as many starts as it draws")
        if not (self.adam_rate > 0 and self.adam_prior >= 0 and self.lm_prior >= 0):
            raise UsageError("a budget needs a positive Adam rate and priors of at least 0")

    def to_json(self) -> dict[str, Any]:
        """The counted fields as JSON, floats wrapped; what the digest is taken of."""
        fields = dataclasses.asdict(self)
        del fields["seconds"]
        return cast("dict[str, Any]", jcs.wrap_value(fields))

    @classmethod
    def from_json(cls, value: object) -> Budget:
        """The budget that `to_json` wrote; `EvidenceError` for anything else."""
        fields = jcs.unwrap_value(value)
        names = {field.name for field in dataclasses.fields(cls)} - {"seconds"}
        if not isinstance(fields, dict) or set(cast("dict[str, Any]", fields)) != names:
            raise EvidenceError(f"a budget has the fields {', '.join(sorted(names))}")
        for name, number in cast("dict[str, Any]", fields).items():
            kind = float if name in ("adam_rate", "adam_prior", "lm_prior") else int
            if type(number) is not kind:
                raise EvidenceError(f"a budget's {name} must be of type {kind.__name__}")
        try:
            return cls(**cast("dict[str, Any]", fields))
        except UsageError as error:
            raise EvidenceError(str(error)) from error

    @property
    def digest(self) -> str:
        """`sha256:...` of the JCS of `to_json`."""
        return digest_text(hashlib.sha256(jcs.encode(self.to_json())).digest())
