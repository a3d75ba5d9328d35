"""How to verify, and what becomes known of one probe on its way through the stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ...ledger.absence.note import IndexPolicy
from ...ledger.entries.images import Image
from ...ledger.notes.note import SignerKey
from ..calibration.classes import RELAXED, STRICT
from ..copies.search import Copy
from ..inversion.budget import Budget
from .candidate import Candidate
from .copies import Original
from .entries import Judged
from .findings import Check, CopyFinding, Coverage, Scope

SCOPES = {"strict": Scope("strict", STRICT), "relaxed": Scope("relaxed", RELAXED)}

_NO_COVERAGE = Coverage("unknown", (), "the verdict was reached before")
_NO_COPIES = CopyFinding(False, reason="the verdict was reached before")


@dataclass(frozen=True, slots=True)
class Options:
    """How to verify: see `verify`."""

    scope: str = "relaxed"
    budget: Budget = field(default_factory=Budget)
    accused: tuple[str, ...] = ()
    claimed: datetime | None = None
    device: str = "cpu"
    threads: int | None = None
    seed: int = 0
    encoder: bool = False  # searches begin at the latent that a generator's own encoder gives
    inception: Path | str | None = None
    max_age: float | None = None
    index_policy: IndexPolicy | None = None
    offline: bool = False
    auditor: SignerKey | None = None
    command: str = ""


@dataclass(slots=True)
class Run:
    """What accumulates while one probe goes through the stages."""

    image: Image | None = None
    checks: list[Check] = field(default_factory=list[Check])
    judged: list[Judged] = field(default_factory=list[Judged])
    incomplete: list[str] = field(default_factory=list[str])
    coverage: Coverage = _NO_COVERAGE
    copies: CopyFinding = _NO_COPIES
    flat: str | None = None
    copy: Copy | None = None
    original: Original | None = None
    candidates: list[Candidate] = field(default_factory=list[Candidate])
    latent_of: str | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])
