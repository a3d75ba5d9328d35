"""Seed epochs: seeds that were fixed, and published as one root, before any of them was drawn.

    seed-epoch:v1 {first_draw, count, root}     leaf i = SHA-256(0x00 || seed_secret_i), an RFC 6962 tree
    draw d of the same chain                    must use leaf d - first_draw, and lie in the log after the epoch

An author who may draw q fresh seeds has log2 q bits of choice; inside an epoch he chooses among its `count` draws, and
only until it was witnessed could he choose the epoch itself. So the grade `committed-epoch` of a record is believed
where all of this was checked (`EpochIndex.check`), and an epoch that overlaps an earlier one of its chain is worth
nothing: two epochs for one draw are a choice between two seeds.

Making epochs: `open_epoch`. Keeping their seeds: `EpochSeeds`, a row of the vault, encrypted where the vault is. Which
draws were given out is counted in state.db. Source: docs/spec/committed-seeds.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...schemas.errors import EvidenceError, SetupError
from ...schemas.record import Context, Epoch, Latent
from ...schemas.statement import SeedEpochStatement
from ...schemas.text import digest_text, parse_digest
from ..entries.authors import Authors
from ..entries.entry import Entry, parse_entry, verify_entry
from ..keys.keyhistory import KeyHistory
from ..merkle.tree import MemoryTree, hash_leaf, verify_inclusion
from ..notes.policy import Policy
from ..notes.proof import TlogProof
from .committed import SEED_BYTES, check_latent, epoch_leaf, new_seed_secret, verify_epoch

MAX_COUNT = 1 << 20
"""Seeds in one epoch of ours: 33 MiB in the vault. A verifier accepts any count."""
_KEPT, _ERASED = b"\x01", b"\x02"
_ROW = 1 + SEED_BYTES


@dataclass(frozen=True, slots=True)
class EpochSeeds:
    """The seeds of an epoch as the vault keeps them; an erased seed leaves its leaf hash, which the paths need."""

    seeds: tuple[bytes | None, ...] = field(repr=False)
    tree: MemoryTree = field(repr=False)

    @classmethod
    def generate(cls, count: int) -> EpochSeeds:
        """`count` fresh seeds."""
        return cls.of([new_seed_secret() for _ in range(count)])

    @classmethod
    def of(cls, seeds: Sequence[bytes]) -> EpochSeeds:
        """These seeds, 32 bytes each."""
        return cls(tuple(seeds), MemoryTree(map(epoch_leaf, seeds)))

    @property
    def root(self) -> bytes:
        """What is published, 32 bytes."""
        return self.tree.root()

    def path(self, place: int) -> list[bytes]:
        """The inclusion path of the leaf at `place`."""
        return self.tree.inclusion(place)

    def encode(self) -> bytes:
        """33 bytes a seed: 0x01 || seed, or 0x02 || leaf hash of an erased one."""
        parts: list[bytes] = []
        for place, seed in enumerate(self.seeds):
            parts.append(_ERASED + self.tree.get(0, place) if seed is None else _KEPT + seed)
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> EpochSeeds:
        """The seeds of `encode`; `EvidenceError` for anything else."""
        if not data or len(data) % _ROW:
            raise EvidenceError("the seeds of an epoch are not whole")
        seeds: list[bytes | None] = []
        leaves: list[bytes] = []
        for start in range(0, len(data), _ROW):
            mark, value = data[start : start + 1], data[start + 1 : start + _ROW]
            if mark not in (_KEPT, _ERASED):
                raise EvidenceError("the seeds of an epoch are not readable")
            seeds.append(value if mark == _KEPT else None)
            leaves.append(epoch_leaf(value) if mark == _KEPT else value)
        return cls(tuple(seeds), MemoryTree(leaves))

    def without(self, place: int) -> EpochSeeds:
        """The same with one seed erased."""
        return EpochSeeds((*self.seeds[:place], None, *self.seeds[place + 1 :]), self.tree)


@dataclass(frozen=True, slots=True)
class Seed:
    """A draw with its seed; `epoch` says where the seed stands in a published epoch, None for a fresh one."""

    draw: int
    secret: bytes = field(repr=False)
    epoch: Epoch | None = None


@dataclass(frozen=True, slots=True)
class OpenEpoch:
    """An epoch that draws can be taken from: its entry stands under a witnessed head."""

    id: int
    first_draw: int
    count: int
    entry: bytes
    """Leaf hash of its entry."""
    seeds: EpochSeeds = field(repr=False)

    def seed(self, draw: int) -> Seed:
        """The seed of a draw; `SetupError` if it was erased, which only happens to seeds that were used."""
        found = self.seeds.seeds[draw - self.first_draw]
        if found is None:
            raise SetupError(f"the seed of draw {draw} was erased with its record")
        path = tuple(digest_text(value) for value in self.seeds.path(draw - self.first_draw))
        place = Epoch(count=self.count, entry=digest_text(self.entry), first_draw=self.first_draw, path=path)
        return Seed(draw, found, place)


# --- verifying ---


@dataclass(frozen=True, slots=True)
class EpochEntry:
    """A published epoch and where it stands: signed well, and proven to lie in the log."""

    origin: str
    index: int
    author: str
    chain: str
    first_draw: int
    count: int
    root: bytes
    leaf_hash: bytes

    def covers(self, draw: int) -> bool:
        """Whether a draw of its chain belongs to it."""
        return self.first_draw <= draw < self.first_draw + self.count


@dataclass(frozen=True, slots=True)
class EpochProven:
    """That a latent's seed was fixed by an epoch before it was drawn."""

    epoch: EpochEntry
    place: int
    alone: bool
    """Whether it was checked, too, that no earlier epoch of the chain covers the draw."""

    @property
    def bits(self) -> float:
        """How much the author could choose once the epoch was witnessed: log2(count)."""
        return math.log2(self.epoch.count)

    def __str__(self) -> str:
        others = "" if self.alone else "; earlier epochs of the chain: not checked"
        return (
            f"seed {self.place} of {self.epoch.count} fixed by entry {self.epoch.index}: a choice of at most "
            f"{self.bits:.1f} bits{others}"
        )


@dataclass(slots=True)
class EpochIndex:
    """The epochs of logs, by the leaf hash of their entries. Filled by `pass_by`, in the order of each log."""

    entries: dict[bytes, EpochEntry] = field(default_factory=dict[bytes, EpochEntry])
    complete: dict[str, int] = field(default_factory=dict[str, int])
    """Origin -> size below which every entry was passed by: only then is an epoch that is not here not there."""

    def pass_by(self, origin: str, index: int, entry: Entry, history: KeyHistory | None = None) -> None:
        """Take an entry that is proven to lie at `index`; others than epochs, and badly signed ones, say nothing.

        An epoch by a key that was revoked before is none (`history`).
        """
        statement = entry.statement
        if not isinstance(statement, SeedEpochStatement):
            return
        try:
            entry.envelope.verify(entry.author)
        except EvidenceError:
            return
        header, predicate = statement.header, statement.predicate
        if history is not None and history.counts_no_more(header.author, index):
            return
        made = EpochEntry(
            origin, index, header.author, header.chain, predicate.first_draw, predicate.count,
            parse_digest(predicate.root), entry.leaf_hash,
        )  # fmt: skip
        self.entries.setdefault(entry.leaf_hash, made)

    def add_proof(self, proof: bytes, policy: Policy, authors: Authors) -> None:
        """Take an epoch's entry from a tlog-proof, as it stands beside a picture that is checked offline.

        Raises `EvidenceError` for malformed or false proofs and entries, `PolicyError` where policy or authors do not
        accept them. Nothing is then said about other epochs of the chain.
        """
        parsed = TlogProof.parse(proof)
        if parsed.extra is None:
            raise EvidenceError("the proof brings no entry (no extra line)")
        accepted = policy.check(parsed.note)
        verify_inclusion(parsed.index, accepted.size, hash_leaf(parsed.extra), parsed.path, accepted.root)
        entry = parse_entry(parsed.extra)
        if not isinstance(entry.statement, SeedEpochStatement):
            raise EvidenceError(f"the entry publishes no seed epoch ({entry.kind})")
        verify_entry(entry, authors, index=parsed.index, origin=accepted.origin)
        self.pass_by(accepted.origin, parsed.index, entry)

    def overlaps(self) -> list[tuple[EpochEntry, EpochEntry]]:
        """(epoch, earlier one) of every epoch that covers draws which an earlier one of its chain covers."""
        found: list[tuple[EpochEntry, EpochEntry]] = []
        chains: dict[tuple[str, str, str], list[EpochEntry]] = {}
        for entry in sorted(self.entries.values(), key=lambda entry: entry.index):
            earlier = chains.setdefault((entry.origin, entry.author, entry.chain), [])
            end = entry.first_draw + entry.count
            over = (e for e in earlier if e.first_draw < end and entry.first_draw < e.first_draw + e.count)
            first = next(over, None)
            if first is not None:
                found.append((entry, first))
            earlier.append(entry)
        return found

    def check(self, latent: Latent, context: Context, origin: str, index: int) -> EpochProven | None:
        """Whether the epoch that a record names fixed its seed before the entry at `index` of `origin`.

        None where the epoch's entry is not at hand and nothing says that it is not in the log; `EvidenceError` names
        the claim that is false.
        """
        if latent.epoch is None:
            return None
        epoch = self.entries.get(parse_digest(latent.epoch.entry))
        if epoch is None or epoch.origin != origin:
            if self.complete.get(origin, 0) > index:
                raise EvidenceError(f"no entry of {origin} before {index} publishes the epoch that the record names")
            return None
        said = (latent.epoch.first_draw, latent.epoch.count, context.author, context.chain)
        if said != (epoch.first_draw, epoch.count, epoch.author, epoch.chain):
            raise EvidenceError("the epoch that the record names is of another chain or covers other draws")
        if not epoch.covers(context.draw):
            last = epoch.first_draw + epoch.count - 1
            raise EvidenceError(f"draw {context.draw} is not among the epoch's, {epoch.first_draw} to {last}")
        if epoch.index >= index:
            raise EvidenceError(f"the epoch was published by entry {epoch.index}, after the image's entry {index}")
        verify_epoch(latent, context.draw, epoch.root)
        if not check_latent(latent, context).derived:
            raise EvidenceError("the latent does not follow from the epoch's seed")
        for other in self.entries.values():
            same = (other.origin, other.author, other.chain) == (origin, epoch.author, epoch.chain)
            if same and other.index < epoch.index and other.covers(context.draw):
                raise EvidenceError(
                    f"entry {other.index} had fixed another seed for draw {context.draw}: the first epoch counts"
                )
        return EpochProven(epoch, context.draw - epoch.first_draw, self.complete.get(origin, 0) > epoch.index)


__all__ = ["MAX_COUNT", "EpochEntry", "EpochIndex", "EpochProven", "EpochSeeds", "OpenEpoch", "Seed"]
