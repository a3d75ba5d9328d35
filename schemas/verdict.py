"""The closed set of verdicts of `pd verify`, their exit codes and the order in which a batch takes the worst.

Exit codes 2 (wrong usage), 70 (a bug) and 130 (interrupted) are no verdicts: nothing was said about an image.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from .errors import UsageError

EXIT_USAGE = 2
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

BATCH_ORDER = (70, 1, 5, 4, 3, 11, 10, 6, 12, 0)
"""Exit codes from worst to best: a batch exits with the first of these that one of its images had."""


class Verdict(StrEnum):
    """What was found about one image; the value is the word printed."""

    LOGGED = "logged"
    CLAIMED = "claimed"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    INCOMPLETE = "incomplete"
    UNTRUSTED = "untrusted"
    DERIVED = "derived"
    ATTRIBUTED = "attributed"
    DENIABLE = "deniable"

    @property
    def exit_code(self) -> int:
        """The exit code of `pd verify` for this verdict."""
        return _EXIT_CODES[self]

    @classmethod
    def of_exit_code(cls, code: int) -> Verdict:
        """The verdict behind an exit code; `UsageError` if the code is none."""
        for verdict, value in _EXIT_CODES.items():
            if value == code:
                return verdict
        raise UsageError(f"exit code {code} belongs to no verdict")


_EXIT_CODES = {
    Verdict.LOGGED: 0,
    Verdict.REFUTED: 1,
    Verdict.INCONCLUSIVE: 3,
    Verdict.INCOMPLETE: 4,
    Verdict.UNTRUSTED: 5,
    Verdict.CLAIMED: 6,
    Verdict.DERIVED: 10,
    Verdict.ATTRIBUTED: 11,
    Verdict.DENIABLE: 12,
}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict a batch exits with; `UsageError` for an empty batch."""
    return Verdict.of_exit_code(worst_exit(verdict.exit_code for verdict in verdicts))


def worst_exit(codes: Iterable[int]) -> int:
    """The worst of exit codes in batch order, 70 included; `UsageError` if there is none or an unknown one."""
    seen = set(codes)
    if not seen or not seen.issubset(BATCH_ORDER):
        raise UsageError(f"no batch exit code for {sorted(seen)}")
    return next(code for code in BATCH_ORDER if code in seen)
