"""Evidence for one image: a tlog-proof with the entry inside, and an opening of the record behind it.

The checks of the format run in their order, each under its own name, and every one of them ends as passed, failed or
skipped; false evidence raises nothing, because the caller decides what a failed check means:

| check | passes when | a failure is |
| --- | --- | --- |
| proof | the tlog-proof can be read and brings an entry | malformed |
| checkpoint | the policy accepts it: log signature and quorum | policy, or false |
| inclusion | leaf = SHA-256(0x00 || entry bytes as received) lies under it | false |
| canonical | the entry's bytes equal their own JCS | malformed |
| profile | it is one of the five statements, keyid and all | malformed |
| author | signed by an author pinned in authors.txt and not revoked there | policy, or false |
| subject | a subject equals the digest of the image at hand | other-image |
| opening | each disclosed field hashes into the commitment | malformed, or false |
| context | `context` equals the entry, `output` equals `context` | false |
| epoch | the latent's seed was fixed by the epoch its record names, at a lower index | false |

What was not asked is said too: `revocation` (unless authors.txt names one), `chain`, `replay`. Nobody is trusted but
the policy and the authors, which are the verifier's own. Source: docs/spec/evidence.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

from ...schemas import jcs
from ...schemas.errors import EvidenceError, PolicyError
from ...schemas.opening import Opening
from ...schemas.record import Grade
from ..merkle.tree import hash_leaf, verify_inclusion
from ..notes.policy import AcceptedCheckpoint, Policy
from ..notes.proof import TlogProof
from ..seeds.epochs import EpochIndex, EpochProven
from .authors import NOT_CHECKED, Author, Authors
from .entry import MAX_ENTRY_BYTES, Entry, parse_entry, verify_entry
from .images import Image
from .record import OpenedRecord, check_commitment, check_context, check_stored_values, parse_opening, read_fields

Outcome: TypeAlias = Literal["passed", "failed", "skipped"]
Fault: TypeAlias = Literal["malformed", "false", "policy", "other-image"]
Match: TypeAlias = Literal["pixels", "file"]
_T = TypeVar("_T")

CHECKS = (
    "proof", "checkpoint", "inclusion", "canonical", "profile", "author", "revocation", "chain", "subject", "opening",
    "context", "epoch", "replay",
)  # fmt: skip
"""Names of all checks, in the order in which an `Evidence` lists them."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, how it ended, one sentence, and for a failure whose fault it is."""

    name: str
    outcome: Outcome
    detail: str
    fault: Fault | None = None

    @property
    def line(self) -> str:
        """The line that is printed; a check that nobody could make here reads `NAME: not checked`."""
        return f"{self.name}: {self.detail if self.outcome == 'skipped' else f'{self.outcome} ({self.detail})'}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the checks found; a part is None where it could not be read or was not given.

    `entry` and `opened` are believed only as far as `checks` say. `match` says which digest of the image an entry's
    subject equals: its pixels, or only its file.
    """

    checks: tuple[Check, ...]
    proof: TlogProof | None = field(default=None, repr=False)
    checkpoint: AcceptedCheckpoint | None = field(default=None, repr=False)
    entry: Entry | None = field(default=None, repr=False)
    author: Author | None = None
    match: Match | None = None
    opened: OpenedRecord | None = field(default=None, repr=False)
    epoch: EpochProven | None = None

    @property
    def latent_grade(self) -> Grade | None:
        """The grade of the disclosed latent, as far as it was shown: `committed-epoch` only where its epoch passed.

        A latent that follows from its seed is at least `committed-fresh`. None where no latent was disclosed.
        """
        latent = None if self.opened is None else self.opened.latent
        if latent is None or latent.grade != "committed-epoch":
            return None if latent is None else latent.grade
        return "committed-fresh" if self.epoch is None else "committed-epoch"

    def check(self, name: str) -> Check:
        """The check of this name."""
        return next(check for check in self.checks if check.name == name)

    def passed(self, *names: str) -> bool:
        """Whether all checks of these names passed."""
        return all(self.check(name).outcome == "passed" for name in names)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The failed checks in order."""
        return tuple(check for check in self.checks if check.outcome == "failed")

    def fault(self, fault: Fault) -> Check | None:
        """The first check that failed for this reason."""
        return next((check for check in self.failed if check.fault == fault), None)

    @property
    def index(self) -> int | None:
        """The entry's index in the log, as the proof says."""
        return None if self.proof is None else self.proof.index

    @property
    def present(self) -> bool:
        """Whether an entry for this image by a pinned author lies in the log under the policy."""
        return self.passed("proof", "checkpoint", "inclusion", "canonical", "profile", "author", "subject")


def verify_evidence(
    image: Image | None,
    proof: bytes,
    opening: bytes | None,
    policy: Policy,
    authors: Authors,
    *,
    now: int | None = None,
    skew: int = 300,
    epochs: EpochIndex | None = None,
) -> Evidence:
    """Run the checks on evidence of any kind; never raises for what the evidence contains.

    `image` None leaves out the subject, `opening` None what it would show. `now` and `skew` (seconds) bound the
    witnesses' clocks. `epochs` are the seed epochs of the log, as far as it was read. Replay
    needs the model and is `attribution.replay`'s; the whole chain is the monitor's.
    """
    run = _Run()
    parsed = run.attempt("proof", lambda: _read_proof(proof), "read, with its entry", "malformed")
    accepted = _check_checkpoint(run, parsed, policy, now, skew)
    entry = _check_entry(run, parsed)
    author = _check_author(run, entry, parsed, accepted, authors)
    match = _check_subject(run, entry, image)
    opened = _check_opening(run, entry, opening)
    epoch = _check_epoch(run, opened, parsed, epochs)
    run.add("replay", "skipped", NOT_CHECKED)
    return Evidence(
        checks=tuple(sorted(run.checks, key=lambda check: CHECKS.index(check.name))),
        proof=parsed,
        checkpoint=accepted,
        entry=entry,
        author=author,
        match=match,
        opened=opened,
        epoch=epoch,
    )


class _Run:
    """Collects checks; a check whose subject is missing is skipped by name."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def add(self, name: str, outcome: Outcome, detail: str, fault: Fault | None = None) -> None:
        self.checks.append(Check(name, outcome, detail, fault))

    def skip(self, detail: str, *names: str) -> None:
        for name in names:
            self.add(name, "skipped", detail)

    def attempt(self, name: str, work: Callable[[], _T], detail: str, fault: Fault) -> _T | None:
        """The result of `work`; a `PolicyError` fails as policy, an `EvidenceError` as `fault`."""
        try:
            result = work()
        except PolicyError as error:
            self.add(name, "failed", str(error), "policy")
            return None
        except EvidenceError as error:
            self.add(name, "failed", str(error), fault)
            return None
        self.add(name, "passed", detail)
        return result


def _read_proof(data: bytes) -> TlogProof:
    proof = TlogProof.parse(data)
    if proof.extra is None:
        raise EvidenceError("the proof brings no entry (no extra line)")
    if len(proof.extra) > MAX_ENTRY_BYTES:
        raise EvidenceError(f"the entry has more than {MAX_ENTRY_BYTES} bytes")
    return proof


def _check_checkpoint(
    run: _Run, proof: TlogProof | None, policy: Policy, now: int | None, skew: int
) -> AcceptedCheckpoint | None:
    if proof is None:
        run.skip("no proof to check", "checkpoint", "inclusion")
        return None
    checkpoint = proof.checkpoint
    detail = f"{checkpoint.origin} at size {checkpoint.size} meets the policy"
    accepted = run.attempt("checkpoint", lambda: policy.check(proof.note, now=now, skew=skew), detail, "false")
    # inclusion is about the tree in the proof and is checked even where nobody vouches for that tree
    leaf = hash_leaf(proof.extra or b"")
    run.attempt(
        "inclusion",
        lambda: verify_inclusion(proof.index, checkpoint.size, leaf, proof.path, checkpoint.root),
        f"leaf {proof.index} of {checkpoint.size}",
        "false",
    )
    return accepted


def _check_entry(run: _Run, proof: TlogProof | None) -> Entry | None:
    if proof is None or proof.extra is None:
        run.skip("no entry to check", "canonical", "profile", "chain")
        return None
    leaf = proof.extra
    # one proof shows one entry; its predecessor's inclusion needs the log, the whole chain a monitor or fsck
    run.add("chain", "skipped", NOT_CHECKED)
    try:
        jcs.decode(leaf, limit=MAX_ENTRY_BYTES, what="entry")
    except EvidenceError as error:
        run.add("canonical", "failed", str(error), "malformed")
        run.skip("the entry is not canonical", "profile")
        return None
    run.add("canonical", "passed", "the entry's bytes equal their own JCS")
    return run.attempt("profile", lambda: parse_entry(leaf), "an entry of a known type", "malformed")


def _check_author(
    run: _Run, entry: Entry | None, proof: TlogProof | None, accepted: AcceptedCheckpoint | None, authors: Authors
) -> Author | None:
    if entry is None or proof is None:
        run.skip("no entry to check", "author", "revocation")
        return None
    origin = accepted.origin if accepted else None
    author = run.attempt(
        "author",
        lambda: verify_entry(entry, authors, index=proof.index, origin=origin),
        f"signed by {entry.author.name}",
        "false",
    )
    known = authors.revocation(entry.header.author, origin)
    if known == NOT_CHECKED or author is None:
        run.add("revocation", "skipped", NOT_CHECKED)
    else:
        run.add("revocation", "passed", f"{known}; this entry has index {proof.index}")
    return author


def _check_subject(run: _Run, entry: Entry | None, image: Image | None) -> Match | None:
    if entry is None or image is None:
        run.skip("no image at hand" if image is None else "no entry to check", "subject")
        return None
    statement = entry.generation
    if statement is None:
        run.add("subject", "failed", f"the entry is not about an image ({entry.kind})", "other-image")
        return None
    if statement.pixels == image.pixel_digest:
        run.add("subject", "passed", "the image's pixels are the entry's")
        return "pixels"
    if statement.file is not None and statement.file == image.file_digest:
        run.add("subject", "passed", "the image's file is the entry's, its pixels as read here are not")
        return "file"
    run.add("subject", "failed", "the evidence is for another image", "other-image")
    return None


def _check_opening(run: _Run, entry: Entry | None, opening: bytes | None) -> OpenedRecord | None:
    if opening is None:
        run.skip("no opening given", "opening", "context")
        return None
    if entry is None:
        run.skip("no entry to check", "opening", "context")
        return None
    try:
        parsed: Opening = parse_opening(opening)
        opened = read_fields(parsed)
    except EvidenceError as error:
        run.add("opening", "failed", str(error), "malformed")
        run.skip("the opening cannot be read", "context")
        return None
    names = ", ".join(part.name for part in parsed.fields)

    def matches() -> bool:
        check_commitment(parsed, entry)
        check_stored_values(opened)
        return True

    def is_of_the_entry() -> bool:
        check_context(opened, entry)
        return True

    committed = run.attempt("opening", matches, f"discloses {names}", "false")
    same = run.attempt("context", is_of_the_entry, "the record is this entry's", "false")
    return opened if committed and same else None


def _check_epoch(
    run: _Run, opened: OpenedRecord | None, proof: TlogProof | None, epochs: EpochIndex | None
) -> EpochProven | None:
    latent = None if opened is None else opened.latent
    if opened is None or proof is None or latent is None or latent.epoch is None:
        run.skip("no epoch is claimed" if latent is not None else "no latent was disclosed", "epoch")
        return None
    if epochs is None:
        run.skip(NOT_CHECKED, "epoch")
        return None
    try:
        found = epochs.check(latent, opened.context, proof.checkpoint.origin, proof.index)
    except EvidenceError as error:
        run.add("epoch", "failed", str(error), "false")
        return None
    if found is None:
        run.skip(f"{NOT_CHECKED}: the epoch's own entry is not at hand", "epoch")
        return None
    run.add("epoch", "passed", str(found))
    return found
