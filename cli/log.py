"""`pd log ...`: what the log says, and evidence cut out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output, sources
from .options import ForceOption, JsonOption, LedgerFolder, LedgerOption, PolicyOption

if TYPE_CHECKING:
    from ..ledger.entries.entry import Entry

Which = Annotated[str, typer.Argument(metavar="INDEX|IMAGE", help="An entry's index, or a logged picture.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to write it; `-` means stdout.")]


def list_entries(
    ledger: LedgerOption = None,
    policy: PolicyOption = None,
    start: Annotated[int, typer.Option("--from", min=0, help="First index.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most so many entries.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd log list --ledger studio.ledger
        pd log list --ledger https://log.example/studio --from 200 --limit 50

    List entries of a log, near or far: index, time as the author says it, kind, digest.

    Every entry is compared with its tile and the tiles with the checkpoint. Signatures are checked under --policy.

    Python: plausible.ledger.merkle.reader.TiledLog.entries
    """
    with sources.served(ledger, policy) as found:
        size = found.checkpoint.size
        end = min(size, start + limit)
        leaves = found.log.entries(start, end, size) if start < end else ()
        origin = found.checkpoint.origin
        rows = [(index, leaf, _entry(leaf)) for index, leaf in enumerate(leaves, start)]
    if as_json:
        entries = [_row(i, e) if e is not None else _stranger(i, leaf, origin) for i, leaf, e in rows]
        body = {"origin": origin, "size": size, "entries": entries}
        output.document("plausible.log-list/1", body)
        return
    output.table(
        ("index", "time", "kind", "digest", "author"),
        [
            (i, e.header.time, _kind(e), _subject(e)[:19], e.author.name) if e is not None else _line(i, leaf, origin)
            for i, leaf, e in rows
        ],
    )
    output.note(f"{len(rows)} of {size} entries of {found.checkpoint.origin}")


def show(
    index: Annotated[int, typer.Argument(metavar="INDEX", min=0)],
    ledger: LedgerOption = None,
    policy: PolicyOption = None,
) -> None:
    """\b
        pd log show 3 --ledger studio.ledger

    Print one entry: its statement, as signed, and its leaf hash.

    Python: plausible.ledger.entries.entry.parse_entry
    """
    from ..schemas.errors import UsageError

    with sources.served(ledger, policy) as found:
        if index >= found.checkpoint.size:
            raise UsageError(f"entry {index} is not among the {found.checkpoint.size} of {found.checkpoint.origin}")
        leaf = found.log.entry(index, found.checkpoint.size)
        entry = _entry(leaf)
        row = _row(index, entry) if entry is not None else _stranger(index, leaf, found.checkpoint.origin)
    output.document("plausible.log-entry/1", row)


def prove(
    which: Which,
    ledger: LedgerFolder = None,
    dated: Annotated[
        bool, typer.Option("--dated", help="Under the first checkpoint that covers the entry, which dates it earliest.")
    ] = False,
    out: Out = None,
    force: ForceOption = False,
) -> None:
    """\b
        pd log prove image.png --ledger studio.ledger
        pd log prove 3 --ledger studio.ledger --dated --out face.png.tlog-proof

    Write a proof that an entry is in the log: one file that anyone can check offline.

    For a picture it goes beside it, as IMAGE.tlog-proof, where `pd verify` looks for it. It is made under the latest
    checkpoint, which says most about the log; with --dated, under the one that says earliest when the entry existed.

    Python: plausible.ledger.Ledger.proof
    """
    with sources.own(ledger) as opened:
        index, image = sources.index_of(opened, which)
        data = opened.proof(index, at=opened.dated_by(index) if dated else None)
    _deliver(data, out, image, ".tlog-proof", force)


def open_record(
    which: Which,
    ledger: LedgerFolder = None,
    field: Annotated[
        list[str] | None, typer.Option("--field", metavar="NAME", help="Disclose this field; repeatable.")
    ] = None,
    out: Out = None,
    force: ForceOption = False,
) -> None:
    """\b
        pd log open image.png --ledger studio.ledger
        pd log open 3 --ledger studio.ledger --field rng --field latent --out face.png.opening.json

    Disclose fields of a record, each with the proof that it is what was committed to.

    Without --field everything is disclosed that a replay needs. `context` always is. What is disclosed cannot be taken
    back: a court may get the seed and not the prompt. For a picture it goes beside it, as IMAGE.opening.json,
    and where the seed was fixed by an epoch, the proof of that epoch as IMAGE.epoch-proof.

    Python: plausible.ledger.Ledger.opening
    """
    with sources.own(ledger) as opened:
        index, image = sources.index_of(opened, which)
        data = opened.opening(index, fields=tuple(field)) if field else opened.opening(index)
        epoch = opened.epoch_proof(index) if not field or "latent" in field else None
    _deliver(data, out, image, ".opening.json", force)
    if epoch is not None and image is not None and out is None:
        _deliver(epoch, None, image, ".epoch-proof", force)


def epoch(
    ledger: LedgerFolder = None,
    count: Annotated[int, typer.Option(min=1, help="How many seeds it fixes: one for each picture.")] = 1024,
    show: Annotated[bool, typer.Option("--list", help="List the epochs that there are; open none.")] = False,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd log epoch --count 1024 --ledger studio.ledger
        pd log epoch --list --ledger studio.ledger

    Fix the seeds of the next generations in advance and publish their root, so that nobody can say they were chosen.

    Programs that wrap with epoch=True draw from it, each seed once; their records have the grade committed-epoch.

    Python: plausible.ledger.Ledger.open_epoch
    """
    with sources.own(ledger, "read" if show else "append") as opened:
        if not show:
            opened.open_epoch(count)
        rows = opened.epochs() if show else opened.epochs()[-1:]
    if as_json:
        body = [
            {"index": r.position, "first_draw": r.first_draw, "count": r.count, "left": r.left, "root": r.root.hex()}
            for r in rows
        ]
        output.document("plausible.epochs/1", {"epochs": body})
        return
    output.table(
        ("entry", "first draw", "seeds", "left", "root"),
        [(r.position, r.first_draw, r.count, r.left, r.root.hex()[:16]) for r in rows],
    )


def checkpoint(
    ledger: LedgerOption = None,
    policy: PolicyOption = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd log checkpoint --ledger studio.ledger --policy court.policy

    Print a log's signed checkpoint, as served; under --policy, say who vouches for it.

    Python: plausible.ledger.notes.policy.Policy.check
    """
    with sources.served(ledger, policy) as found:
        pass
    if as_json:
        accepted = found.accepted
        body: dict[str, Any] = {
            "origin": found.checkpoint.origin,
            "size": found.checkpoint.size,
            "root": found.checkpoint.root.hex(),
            "policy": "met" if accepted else "not given",
            "cosigners": [{"name": c.name, "time": c.time} for c in accepted.cosigners] if accepted else [],
            "existence_time": accepted.existence_time if accepted else None,
            "note": found.note.decode(),
        }
        output.document("plausible.log-checkpoint/1", body)
        return
    output.raw(found.note)
    if found.accepted is not None:
        names = ", ".join(cosigner.name for cosigner in found.accepted.cosigners) or "none"
        output.note(f"the policy is met; cosigned by: {names}")


def _deliver(data: bytes, out: Path | None, image: Path | None, suffix: str, force: bool) -> None:
    """To the file named, beside the image, or on stdout."""
    if out is None and image is not None:
        out = image.with_name(image.name + suffix)
    if out is None or str(out) == "-":
        output.raw(data)
        return
    output.write_file(out, data, force=force)
    output.note(f"wrote {out}")


def continue_in(
    folder: Annotated[Path, typer.Argument(metavar="NEW", help="The new ledger's folder; absent or empty.")],
    origin: Annotated[str, typer.Option("--origin", metavar="NAME", help="The new log's name for ever.")],
    ledger: LedgerFolder = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd log continue studio-2.ledger --origin models.example/studio/log-2 --ledger studio.ledger

    Close a ledger's log and go on in a new one, whose entry 0 is the last checkpoint of the old.

    The author, the policy's witnesses and what they said stay; the log's name and key are new. The old ledger signs no
    more, and its folder must stay where it is: it keeps its records and the witnesses' state. Verifiers add the line
    that is printed to their policies, and look for absence in both logs. Models are registered again (pd models add).

    Python: plausible.ledger.Ledger.succeed
    """
    from ..ledger import Ledger
    from . import vaultkeys

    old = sources.folder(ledger)
    with Ledger.succeed(old, folder, origin=origin, vault_key=vaultkeys.given()) as opened:
        carried = opened.predecessor()
        body = {
            "folder": str(folder),
            "log": opened.policy.logs[0].key.encode(),
            "continues": None if carried is None else {"origin": carried.origin, "size": carried.size},
        }
    if as_json:
        output.document("plausible.log-continue/1", body)
        return
    output.result(f"log {body['log']}")
    output.note(f"{old} is closed; give verifiers and witnesses elsewhere the line above, beside that of the old log")


def _entry(leaf: bytes) -> Entry | None:
    """The entry in a leaf; None for anything else, since anyone may log anything."""
    from ..ledger.entries.entry import parse_entry
    from ..schemas.errors import EvidenceError

    try:
        return parse_entry(leaf)
    except EvidenceError:
        return None


def _stranger(index: int, leaf: bytes, origin: str) -> dict[str, Any]:
    from ..ledger.merkle.tree import hash_leaf
    from ..ledger.writing.succession import read_predecessor

    carried = read_predecessor(leaf, origin) if index == 0 else None
    row: dict[str, Any] = {"index": index, "leaf": hash_leaf(leaf).hex(), "author": None, "statement": None}
    if carried is not None:
        row["continues"] = {"origin": carried.origin, "size": carried.size, "note": carried.note.decode()}
    return row


def _line(index: int, leaf: bytes, origin: str) -> tuple[object, ...]:
    continues = _stranger(index, leaf, origin).get("continues")
    if continues is None:
        return (index, "", "unknown", "", "")
    return (index, "", "continues", f"size {continues['size']}", continues["origin"])


def _kind(entry: Entry) -> str:
    return entry.kind.removeprefix("urn:plausible:")


def _subject(entry: Entry) -> str:
    """The first subject's digest, as hex with its algorithm."""
    statement: Any = json.loads(entry.envelope.payload)
    algorithm, value = next(iter(statement["subject"][0]["digest"].items()))
    return f"{'pixels' if algorithm == 'plausiblePixels1' else algorithm}:{value}"


def _row(index: int, entry: Entry) -> dict[str, Any]:
    return {
        "index": index,
        "leaf": entry.leaf_hash.hex(),
        "author": entry.header.author,
        "statement": json.loads(entry.envelope.payload),
    }
