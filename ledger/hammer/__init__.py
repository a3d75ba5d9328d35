"""Load on a log, and every answer verified: writers, full readers, random readers, one common view.

view      the common checkpoint: whatever any reader is served must be of its history, or there is evidence
readers   the whole tree again and again; entries at random with their inclusion; what writers were promised
writers   processes that append to a ledger directory and report what they were acknowledged
run       `hammer`: starts and ends them, keeps the counts, says what was found

Everything under a checkpoint must be there and hash into it. A log that says it has no such file, or serves one that
does not, has broken what it signed: that ends the run with evidence. A peer that cannot be reached has only failed.
"""

from __future__ import annotations

from .run import Goal, Hammered, hammer
from .view import Broken

__all__ = ["Broken", "Goal", "Hammered", "hammer"]
