"""Several tests of one set of inputs, and what they say together.

Each test gives a p-value under the hypothesis "drawn from the prior". Together they hold a family-wise level by Holm's
step-down correction, which needs no independence: with m tests the smallest p counts m times, the next m - 1 times.
Source: Holm (1979).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

REPORT_LEVEL = 1e-3
"""Family-wise level in reports: of a thousand honest records about one is named."""


@dataclass(frozen=True, slots=True)
class Test:
    """One test of one input: its statistic and the p-value under the prior, in [0, 1]."""

    __test__ = False  # no test case of pytest's

    name: str
    statistic: float
    p: float
    about: str = "latent"


@dataclass(frozen=True, slots=True)
class SeedPlausibility:
    """The tests that could be made, the level they hold together, and what could not be tested."""

    tests: tuple[Test, ...]
    level: float = REPORT_LEVEL
    untested: tuple[str, ...] = ()

    @property
    def adjusted(self) -> tuple[float, ...]:
        """Holm's adjusted p-value of each test, in the order of `tests`."""
        count = len(self.tests)
        order = sorted(range(count), key=lambda i: self.tests[i].p)
        found = [1.0] * count
        largest = 0.0
        for rank, index in enumerate(order):
            largest = max(largest, min(1.0, (count - rank) * self.tests[index].p))
            found[index] = largest
        return tuple(found)

    @property
    def rejected(self) -> tuple[Test, ...]:
        """Tests that reject "drawn from the prior" at the level."""
        return tuple(test for test, p in zip(self.tests, self.adjusted, strict=True) if p <= self.level)

    @property
    def plausible(self) -> bool | None:
        """Whether nothing rejects; None where nothing could be tested."""
        return not self.rejected if self.tests else None

    def __str__(self) -> str:
        rest = f"; not tested: {', '.join(self.untested)}" if self.untested else ""
        if not self.tests:
            return f"screening, not proof: nothing could be tested{rest}"
        head = f"screening, not proof: {len(self.tests)} tests at level {self.level:g} together (Holm)"
        if not self.rejected:
            return f"{head}, none rejects (smallest adjusted p {min(self.adjusted):.2g}){rest}"
        worst = sorted(zip(self.adjusted, self.tests, strict=True), key=lambda pair: pair[0])[: len(self.rejected)]
        named = ", ".join(f"{test.about} {test.name} (p {_small(p)})" for p, test in worst)
        return f"{head}; not as drawn from the prior: {named}{rest}"


def _small(p: float) -> str:
    return f"{p:.1g}" if p >= 1e-12 and math.isfinite(p) else "below 1e-12"
