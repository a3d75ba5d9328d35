"""Do all heads describe one history? The largest that somebody serves the entries of is the measure of the others.

Two heads of one size are compared as they are. A smaller head must have the root of that many entries of the measure,
by a consistency proof from its tiles; if it has not, that proof is the evidence. A larger head, whose entries nobody
serves, can neither be confirmed nor refuted: it is kept until it can be, and meanwhile nothing is called sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...ledger import contradiction
from ...ledger.fsck import Kind
from ...ledger.merkle.reader import TiledLog
from ...ledger.merkle.tree import CompactRange, consistency_path, verify_consistency
from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.note import VerifierKey
from ...schemas.errors import EvidenceError, PeerError, SetupError, UsageError
from .views import Finding, Reader, View

Tell = Callable[[Finding], None]


@dataclass(frozen=True, slots=True)
class Caught:
    """Something proven false, with its file. `stops`: the log itself signed it."""

    kind: str
    accused: str
    subject: str
    what: str
    data: bytes
    stops: bool = True


@dataclass(frozen=True, slots=True)
class Compared:
    """What the comparison gave: the head to follow and whose tiles lead to it; what is false; what is still open."""

    measure: View | None
    reader: TiledLog | None
    caught: tuple[Caught, ...]
    waiting: tuple[View, ...]


def compare(origin: str, keys: Sequence[VerifierKey], heads: Sequence[View], readers: Sequence[Reader], tell: Tell) -> (
    Compared
):  # fmt: skip
    """Compare all heads, remembered ones among them."""
    distinct: dict[tuple[int, bytes], View] = {}
    for view in sorted(heads, key=_others):
        distinct.setdefault((view.head.size, view.head.root), view)
    caught: list[Caught] = []
    by_size: dict[int, View] = {}
    for view in distinct.values():
        other = by_size.setdefault(view.head.size, view)
        if other is not view:
            data = contradiction.two_heads(keys, other.note, view.note)
            what = f"{other.place} and {view.place} show two trees of size {view.head.size}"
            roots = "-".join(sorted((other.head.root.hex()[:16], view.head.root.hex()[:16])))
            caught.append(Caught("two-heads", origin, f"size {view.head.size} {roots}", what, data))
    measure, reader = _measure(list(distinct.values()), readers, tell)
    if measure is None or reader is None:
        return Compared(None, None, tuple(caught), tuple(view for view in distinct.values() if view.head.size))
    waiting: list[View] = []
    for view in distinct.values():
        if view.head.size > measure.head.size:
            waiting.append(view)
            what = f"a head of size {view.head.size} that cannot be compared: nobody serves that many entries"
            tell(Finding(Kind.UNREAD, view.place, what))
        elif view.head.size < measure.head.size:
            try:
                if beginning(reader, view.head.size, measure.head) != view.head.root:
                    data = contradiction.inconsistent_heads(keys, view.note, measure.note, reader)
                    sizes = f"{view.head.size} of {view.place} and {measure.head.size} of {measure.place}"
                    subject = f"sizes {view.head.size} {view.head.root.hex()[:16]} {measure.head.root.hex()[:16]}"
                    what = f"the heads of size {sizes} are of two histories"
                    caught.append(Caught("inconsistent-heads", origin, subject, what, data))
            except (EvidenceError, PeerError, SetupError) as error:
                waiting.append(view)
                tell(Finding(Kind.UNREAD, view.place, f"its head cannot be compared: {error}"))
    return Compared(measure, reader, tuple(caught), tuple(waiting))


def beginning(log: TiledLog, size: int, head: Checkpoint) -> bytes:
    """The root of the first `size` entries of a head's tree, led to that head; `EvidenceError` if the tiles do not."""

    def get(level: int, index: int) -> bytes:
        return log.hash(level, index, head.size)

    root = CompactRange.read(get, size).root()
    verify_consistency(size, root, head.size, head.root, consistency_path(get, size, head.size))
    return root


def _measure(heads: Sequence[View], readers: Sequence[Reader], tell: Tell) -> tuple[View | None, TiledLog | None]:
    """The largest head whose root somebody's tiles give, and those tiles."""
    trouble = ""
    for view in sorted(heads, key=lambda one: one.head.size, reverse=True):
        for reader in readers:
            try:
                if reader.log.root(view.head.size) == view.head.root:
                    _own_trouble(trouble, tell)
                    return view, reader.log
                what = f"its tiles do not give the head of size {view.head.size} that it signed"
            except (EvidenceError, PeerError, SetupError, UsageError) as error:
                what = str(error)
            if reader.place == "log" and not _others(view):
                trouble = trouble or what
    _own_trouble(trouble, tell)
    return None, None


def _own_trouble(what: str, tell: Tell) -> None:
    # somebody else's head may be beyond what the log shows; its own head it must serve, also where a mirror does
    if what:
        tell(Finding(Kind.UNREAD, "log", what))


def _others(view: View) -> bool:
    """Whether somebody else than the log showed this head."""
    return not view.place.startswith("log")


__all__ = ["Caught", "Compared", "beginning", "compare"]
