"""The generators of a verification: model folders on this machine, and who registered which model in which log.

A model folder is trusted for nothing but being the bytes of its digest (checked at load). A registration counts if its
`model:v1` entry is in the log under the policy and signed by a pinned author.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...ledger.entries.digests import model_digest
from ...ledger.entries.evidence import Evidence, verify_evidence
from ...schemas.errors import EvidenceError, PlausibleError, SetupError
from ...schemas.text import digest_text, parse_time
from ..generators.check import check_generator
from ..generators.folder import WEIGHTS, load_model_folder, read_manifest
from ..generators.protocol import Generator
from ..inversion.encoder import LoadedEncoder, load_encoder
from ..logs.sources import LogSource

REGISTERED = ("proof", "checkpoint", "inclusion", "canonical", "profile", "author")


@dataclass(frozen=True, slots=True)
class Registration:
    """A `model:v1` entry that counts: `time` is the quorum's existence time if there is one, else the entry's own."""

    author: str
    model: str
    origin: str
    index: int
    time: float
    witnessed: bool


@dataclass(slots=True)
class Model:
    """A model by digest; `folder` None or `problem` set where it cannot be run here."""

    digest: str
    name: str
    folder: Path | None
    problem: str | None = None
    _generator: Generator | None = field(default=None, repr=False)
    _objection: str | None = field(default=None, repr=False)
    _encoder: LoadedEncoder | None = field(default=None, repr=False)
    _checked: bool = field(default=False, repr=False)

    @property
    def present(self) -> bool:
        """Whether its weights are here, sound or not."""
        return self.folder is not None and (self.folder / WEIGHTS).is_file()

    def encoder(self) -> LoadedEncoder | None:
        """The encoder beside the weights, loaded once; None if there is none, `EvidenceError` for a wrong one."""
        generator = self.generator()
        if self._encoder is None and generator is not None and self.folder is not None:
            self._encoder = load_encoder(self.folder, generator)
        return self._encoder

    def objection(self) -> str | None:
        """Why the generator that was loaded cannot be inverted, looked into once; None if it can."""
        generator = self.generator()
        if not self._checked and generator is not None:
            self._checked = True
            try:
                check_generator(generator)
            except EvidenceError as error:
                self._objection = str(error)
        return self._objection

    def generator(self) -> Generator | None:
        """The loaded generator, loaded once; None with `problem` set if it cannot be."""
        if self._generator is None and self.problem is None and self.folder is not None:
            try:
                self._generator = load_model_folder(self.folder, self.digest, self.name)
            except PlausibleError as error:
                self.problem = str(error)
        return self._generator


class Models:
    """All models known to a verification, by digest."""

    def __init__(self, sources: Sequence[LogSource], folders: Iterable[str | Path]) -> None:
        self._known: dict[str, Model] = {}
        for folder in folders:
            path = Path(folder)
            digest = digest_text(model_digest(read_manifest(path)))
            self._known.setdefault(digest, Model(digest, path.name, path))
        for source in sources:
            for row in source.ledger.models() if source.ledger is not None else ():
                digest = digest_text(row.digest)
                known = self._known.get(digest)
                if known is None or known.folder is None:
                    has_weights = (row.folder / WEIGHTS).is_file()
                    problem = None if has_weights else f"the weights {row.folder / WEIGHTS} are missing"
                    self._known[digest] = Model(digest, row.name, row.folder if has_weights else None, problem)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._known.values())

    def __len__(self) -> int:
        return len(self._known)

    def get(self, digest: str) -> Model | None:
        """The model of this digest, if a folder of it is known."""
        return self._known.get(digest)

    def require(self, digest: str) -> Model:
        """The model of this digest; one without a folder is remembered as missing."""
        model = self._known.get(digest)
        if model is None:
            model = Model(digest, digest[:19], None, "no model folder with this digest was given")
            self._known[digest] = model
        return model

    def generator(self, digest: str) -> Generator:
        """The generator of this digest; `SetupError` names what is missing."""
        model = self._known.get(digest)
        generator = None if model is None else model.generator()
        if generator is None:
            reason = "no model folder with this digest was given" if model is None else model.problem
            raise SetupError(f"the model {digest[:19]} cannot be run here: {reason}")
        return generator


def registrations(source: LogSource) -> list[Registration]:
    """The registrations in a log that count under its policy and authors, by index."""
    if source.accepted is None or source.policy is None or source.authors is None:
        return []
    found: list[Registration] = []
    for index, leaf in _model_leaves(source):
        try:
            proof = source.proof(index, leaf)
        except PlausibleError:
            continue
        evidence = verify_evidence(None, proof, None, source.policy, source.authors)
        registration = registration_of(evidence, source)
        if registration is not None:
            found.append(registration)
    return found


def _model_leaves(source: LogSource) -> Iterator[tuple[int, bytes]]:
    if source.ledger is not None:
        size = source.accepted.size if source.accepted is not None else 0
        for row in source.ledger.models():
            if row.index < size:
                yield row.index, source.ledger.entry(row.index)
        return
    scan = source.scan()
    for index, entry in scan.entries() if scan is not None else ():
        if entry.model is not None:
            yield index, entry.leaf


def registration_of(evidence: Evidence, source: LogSource | None) -> Registration | None:
    """What a verified `model:v1` entry registers; None if the evidence is of something else or does not pass."""
    entry, accepted, index = evidence.entry, evidence.checkpoint, evidence.index
    if entry is None or entry.model is None or accepted is None or index is None or not evidence.passed(*REGISTERED):
        return None
    existence = source.existence_time(index) if source is not None else accepted.existence_time
    stated = parse_time(entry.header.time).timestamp()
    return Registration(
        author=entry.author.name,
        model=digest_text(entry.model.manifest),
        origin=accepted.origin,
        index=index,
        time=stated if existence is None else float(existence),
        witnessed=existence is not None,
    )
