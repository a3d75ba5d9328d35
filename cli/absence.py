"""`pd prove-absence` and `pd log index`: what a log does not hold, as a file that anyone can check offline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..schemas.errors import EvidenceError, SetupError, UsageError
from ..schemas.verdict import Verdict
from . import output, sources
from .options import ForceOption, IndexPolicyOption, JsonOption, LedgerOption, PolicyOption

if TYPE_CHECKING:
    from ..ledger.absence.note import IndexPolicy
    from ..ledger.absence.proof import AbsenceProof
    from ..ledger.entries.images import Image
    from ..ledger.notes.policy import Policy

Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to write it; `-` means stdout.")]


def prove_absence(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture.")],
    ledger: LedgerOption = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="FILE", help="Verify this proof offline instead of making one.")
    ] = None,
    policy: PolicyOption = None,
    index_policy: IndexPolicyOption = None,
    out: Out = None,
    as_json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """\b
        pd prove-absence image.png --ledger studio.ledger
        pd prove-absence image.png --check image.png.absence-proof --policy court.policy --index-policy index.policy

    Write a proof that a log does not hold a picture, beside it as IMAGE.absence-proof, or check such a file offline.

    The log must serve an index note (pd log index). With both policies the proof is verified as its reader will.
    Exit code 0: absence is proven under both policies, or, without them, from an own ledger (`self-attested`). 6: the
    picture is in the log, and the proof says where. 5: a policy is not met, nobody but the log vouches, or a policy is
    missing for a log that is not one's own. 1: the proof is false. 4: something cannot be read, or is of another
    picture. Absence is exact: one changed bit of the picture ends it, and it never says who made the picture.

    Python: plausible.ledger.absence.prove.prove_absence
    """
    from ..ledger.absence.proof import MAX_PROOF_BYTES, AbsenceProof
    from ..ledger.entries.images import read_image

    picture = read_image(image)
    trust = _trust(policy, index_policy)
    if check is not None:
        if trust is None:
            raise UsageError("checking a proof of absence needs --policy and --index-policy: whom to believe is yours")
        proof = AbsenceProof.parse(sources.read_bytes(check, "the proof", MAX_PROOF_BYTES))
        proof.require_about(pixels=picture.pixel_digest, file=picture.file_digest)
        raise typer.Exit(_answer(image, _checked(proof, picture, trust), as_json))
    proof, own = _made(picture, ledger, policy)
    target = out if out is not None else image.with_name(image.name + ".absence-proof")
    to_stdout = str(target) == "-"
    if to_stdout and as_json:
        raise UsageError("--out - and --json both want stdout: name a file")
    if to_stdout:
        output.raw(proof.encode())
    else:
        output.write_file(target, proof.encode(), force=force)
        output.note(f"wrote {target}")
    answer = _checked(proof, picture, trust) if trust is not None else _unchecked(proof, own)
    raise typer.Exit(_answer(image, answer, as_json, output.note if to_stdout else output.result))


def sign_index(
    ledger: LedgerOption = None,
    policy: PolicyOption = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Sign with this index key (name ends in /index).")
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Read every entry again, whatever absence.db keeps of the last time.")
    ] = False,
    add: Annotated[
        list[Path] | None, typer.Option("--add", metavar="NOTE", help="Add others' signatures; repeatable.")
    ] = None,
    out: Out = None,
    force: ForceOption = False,
) -> None:
    """\b
        pd log index --ledger studio.ledger --key index.key
        pd log index --ledger https://log.example/studio --policy court.policy --key monitor-index.key --out index.note
        pd log index --ledger studio.ledger --add index.note

    Recompute the absence index from a log's entries, sign its root, and serve the note or hand it over.

    Every entry is read and hashed to the checkpoint's root first: nobody signs what he did not recompute. For the index
    key of a ledger's own log absence.db keeps what was recomputed when it signed last, and only entries that came since
    are read; a file that is damaged, or of another log, is said so and made again. For a folder the note goes to
    public/index/latest, unless --out names another place. Without --key the recomputed root is only compared with the
    note that is served.

    Python: plausible.ledger.Ledger.sign_index
    """
    from ..ledger.absence import prove
    from ..ledger.absence.note import IndexHead
    from ..ledger.absence.pages import ABSENCE_FILE, remove_file
    from ..ledger.keys.keyfile import read_key
    from ..ledger.notes.note import Note

    signer = None if key is None else read_key(key)
    place = sources.place(ledger)
    with sources.served(ledger, policy) as found:
        store = None
        if isinstance(place, Path) and (place / "log.toml").is_file():
            if anew:
                remove_file(place / ABSENCE_FILE)
            store = prove.kept(place, found.checkpoint.origin, signer, output.note)
        with output.progress("entries", found.checkpoint.size) as advance:
            head = prove.recompute(found.log, found.checkpoint, _steps(advance), store=store)
        served = prove.published(found.log)
        notes = [] if served is None else [Note.parse(served)]
        if notes:
            prove.require_no_other_root(head, IndexHead.parse(notes[0].text))
        for path in add or []:
            notes.append(Note.parse(sources.read_bytes(path, "the index note")))
            if IndexHead.parse(notes[-1].text) != head:
                raise EvidenceError(f"{path} is no index note over the root recomputed from {head.size} entries")
    made = Note(head.text)
    if signer is not None:
        made = head.sign(signer)
    for other in notes:
        if other.text == head.text:
            made = prove.merged(made, other)
    if not made.signatures:
        raise UsageError("the index was recomputed, and no signature over it is here: give --key or --add")
    public = None if isinstance(place, str) else place / "public"
    if str(out) == "-" or (out is None and public is None):
        output.raw(made.encode())
    elif out is not None:
        output.write_file(out, made.encode(), force=force)
        output.note(f"wrote {out}")
    elif public is not None:
        prove.publish(public, made)
        output.note(f"{public / 'index' / 'latest'}: size {head.size}, {len(made.signatures)} signatures")


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a proof says, and what that is worth: `standing` is a key of `_STANDINGS`."""

    origin: str
    size: int
    indices: tuple[int, ...]
    standing: str
    reason: str = ""

    @property
    def code(self) -> int:
        """The exit code, one of the verdicts'."""
        fixed = _STANDINGS[self.standing]
        if fixed is not None:
            return fixed.exit_code
        return Verdict.CLAIMED.exit_code if self.indices else 0


_STANDINGS: dict[str, Verdict | None] = {
    "proven": None,
    "self-attested": None,
    "not vouched for": Verdict.UNTRUSTED,
    "refuted": Verdict.REFUTED,
}


def _trust(policy: Path | None, index_policy: Path | None) -> tuple[Policy, IndexPolicy] | None:
    """Both policies, or None where one is missing."""
    believed, index = sources.policy(policy), sources.index_policy(index_policy)
    return None if believed is None or index is None else (believed, index)


def _made(picture: Image, ledger: str | None, policy: Path | None) -> tuple[AbsenceProof, bool]:
    """A proof made from the log that is named, and whether the ledger is one's own."""
    from ..ledger.absence import prove
    from ..ledger.absence.pages import ABSENCE_FILE
    from ..ledger.absence.store import AbsenceStore

    where = sources.place(ledger)
    # a ledger of one's own keeps its index; of a log elsewhere it is made in memory, from all its entries
    own = isinstance(where, Path) and (where / "log.toml").is_file()
    store = AbsenceStore(Path(where) / ABSENCE_FILE if own else None)
    with sources.served(ledger, policy) as found:
        note = prove.published(found.log)
        if note is None:
            raise SetupError(f"{found.label} serves no index note: pd log index --ledger {found.label} --key FILE")
        with output.progress("entries", found.checkpoint.size) as advance:
            made = prove.prove_absence(
                found.log,
                note,
                found.note,
                pixels=picture.pixel_digest,
                file=picture.file_digest,
                store=store,
                progress=_steps(advance),
            )
    return made, own


def _steps(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """From "so many of so many" to what a progress bar wants: how many more."""
    done = 0

    def step(now: int, _of: int) -> None:
        nonlocal done
        advance(now - done)
        done = now

    return step


def _checked(proof: AbsenceProof, picture: Image, trust: tuple[Policy, IndexPolicy]) -> _Answer:
    """The proof as its reader verifies it. `PolicyError` where a policy is not met."""
    import time

    from ..ledger.absence.proof import verify_absence

    try:
        found = verify_absence(
            proof,
            pixels=picture.pixel_digest,
            file=picture.file_digest,
            policy=trust[0],
            index_policy=trust[1],
            now=int(time.time()),
        )
    except EvidenceError as error:  # it was read before: what fails now is false
        return replace(_unchecked(proof, False), standing="refuted", reason=str(error))
    standing = "proven" if found.weakness is None else "not vouched for"
    return _Answer(found.origin, found.size, found.indices, standing, found.weakness or "")


def _unchecked(proof: AbsenceProof, own: bool) -> _Answer:
    """What a proof says that no policies were held against."""
    from ..ledger.absence.note import IndexHead
    from ..ledger.notes.note import Note

    head = IndexHead.parse(Note.parse(proof.note).text)
    indices = tuple(sorted({index for one in proof.proofs.values() for index in one.indices}))
    if own:
        return _Answer(head.origin, head.size, indices, "self-attested", "held against no policies of the reader's")
    reason = "whom to believe about this log was not said: --policy and --index-policy"
    return _Answer(head.origin, head.size, indices, "not vouched for", reason)


def _answer(image: Path, answer: _Answer, as_json: bool, tell: Callable[[str], None] = output.result) -> int:
    """Print it and return the exit code."""
    if as_json:
        body: dict[str, Any] = {
            "image": str(image),
            "origin": answer.origin,
            "size": answer.size,
            "absent": None if answer.standing == "refuted" else not answer.indices,
            "entries": list(answer.indices),
            "standing": answer.standing,
            "reason": answer.reason,
            "exit_code": answer.code,
        }
        output.document("plausible.absence/1", body)
        return answer.code
    if answer.standing == "refuted":
        says = "the proof is false"
    elif answer.indices:
        says = f"in {answer.origin}, entry {', '.join(map(str, answer.indices[:10]))}"
    else:
        says = f"absent from the first {answer.size} entries of {answer.origin}, exactly as it is"
    worth = answer.standing + (f": {answer.reason}" if answer.reason else "")
    tell(f"{image}: {says} ({worth})")
    return answer.code
