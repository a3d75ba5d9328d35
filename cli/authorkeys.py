"""`pd keys successor|rotate|revoke|history`: one author key after the other, as the log has it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output, sources
from .options import JsonOption, LedgerFolder, LedgerOption, PolicyOption

if TYPE_CHECKING:
    from ..ledger import Ledger
    from ..ledger.keys.keyhistory import KeyHistory
    from ..ledger.writing.receipt import Receipt

Vkey = Annotated[str, typer.Argument(metavar="VKEY", help="A verifier key, as `pd keys show` prints it.")]


def successor(vkey: Vkey, ledger: LedgerFolder = None, as_json: JsonOption = False) -> None:
    """\b
        pd keys successor "$(pd keys show spare.key)" --ledger studio.ledger

    Log which key may follow the author's, and go on signing with the one in use.

    For a spare key that is kept elsewhere: named before anything happened, nobody can doubt later whose it is.

    Python: plausible.ledger.Ledger.name_successor
    """
    with sources.own(ledger, "append") as opened:
        receipt = opened.name_successor(vkey)
        _deliver(opened, receipt, {"named": vkey}, as_json)
    if not as_json:
        output.result(f"named     {vkey}")


def rotate(
    ledger: LedgerFolder = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The successor's private key. [default: a fresh one]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd keys rotate --ledger studio.ledger
        pd keys rotate --ledger studio.ledger --key spare.key

    Log a successor of the author's key and sign with it from now on, in a chain of its own.

    The old key stays good for what it signed. Verifiers must add the line that is printed to their authors file. A
    running program that records into this ledger follows by itself.

    Python: plausible.ledger.Ledger.rotate_author_key
    """
    from ..ledger.keys.keyfile import read_key

    with sources.own(ledger, "append") as opened:
        before = opened.author_vkey
        receipt = opened.rotate_author_key(None if key is None else read_key(key))
        now = opened.author_vkey
        _deliver(opened, receipt, {"before": before, "author": now}, as_json)
    if not as_json:
        output.result(f"author {now}")
        output.note("give verifiers this line for their authors file; the line of the old key stays in it")


def revoke(vkey: Vkey, ledger: LedgerFolder = None, as_json: JsonOption = False) -> None:
    """\b
        pd keys revoke "$(pd keys show studio.ledger/keys/author.key)" --ledger studio.ledger

    Log that a former author key counts no more from now on, and set its private key aside.

    Signed by the successor that the key named. What the key signed before stays good. Verifiers who read the log see it
    themselves; those who check evidence offline need the line that is printed in their authors file.

    Python: plausible.ledger.Ledger.revoke_author_key
    """
    with sources.own(ledger, "append") as opened:
        receipt = opened.revoke_author_key(vkey)
        line = f"author {vkey} {opened.origin} {receipt.index}"
        _deliver(opened, receipt, {"revoked": vkey, "first_refused": receipt.index, "line": line}, as_json)
    if not as_json:
        output.result(line)
        output.note("give verifiers this line for their authors file, in place of the key's old line")


def rotate_log(
    ledger: LedgerFolder = None,
    finish: Annotated[bool, typer.Option("--finish", help="Let the new key sign alone from now on.")] = False,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd keys rotate-log --ledger studio.ledger
        pd keys rotate-log --finish --ledger studio.ledger

    Change the log's key under its old name: heads carry both signatures until --finish.

    Between the two, verifiers and witnesses elsewhere add the line that is printed to their policies. Kept heads are
    signed again, so that evidence made later fits new policies; evidence made before stays good under old ones. No
    other process may have the ledger open meanwhile.

    Python: plausible.ledger.keys.logkeys.begin
    """
    from ..ledger.keys import logkeys

    folder = sources.folder(ledger)
    found = logkeys.finish(folder) if finish else logkeys.begin(folder)
    if as_json:
        output.document("plausible.log-keys/1", {"origin": found.origin, "keys": [key.encode() for key in found.keys]})
        return
    for key in found.keys:
        output.result(f"log {key}")
    if finish:
        output.note("policies that still name the old key alone refuse newer heads")
    else:
        output.note("give these lines to verifiers and witnesses; then pd keys rotate-log --finish")


def history(ledger: LedgerOption = None, policy: PolicyOption = None, as_json: JsonOption = False) -> None:
    """\b
        pd keys history --ledger studio.ledger
        pd keys history --ledger https://log.example/studio --policy court.policy

    Say what a log's entries say about authors' keys: who named whom, and which key counts no more from where on.

    Every entry is read and compared with the checkpoint, so that nothing is left out.

    Python: plausible.ledger.keys.keyhistory.KeyHistory
    """
    from ..ledger.entries.entry import parse_entry
    from ..ledger.keys.keyhistory import KeyHistory
    from ..schemas.errors import EvidenceError

    found = KeyHistory()
    with sources.served(ledger, policy) as log:
        size = log.checkpoint.size
        for index, leaf in enumerate(log.log.entries(0, size, size) if size else ()):
            try:
                found.pass_by(index, parse_entry(leaf))
            except EvidenceError:
                continue  # anyone may log anything
    if as_json:
        output.document("plausible.key-history/1", {"origin": log.checkpoint.origin, "size": size, **_document(found)})
        return
    rows = [(index, "names", key, named) for key, by in found.successors.items() for named, index in by.items()]
    rows += [(index, "counts no more", key, "") for key, index in found.revoked.items()]
    output.table(("index", "what", "key", "successor"), sorted(rows))
    for ignored in found.ignored:
        output.note(f"entry {ignored.index} says nothing: {ignored.reason}")
    output.note(f"{size} entries of {log.checkpoint.origin} read")


def _document(found: KeyHistory) -> dict[str, Any]:
    return {
        "successors": [
            {"index": index, "key": key, "successor": named}
            for key, by in found.successors.items()
            for named, index in by.items()
        ],
        "revoked": [{"first_refused": index, "key": key} for key, index in found.revoked.items()],
        "ignored": [{"index": item.index, "reason": item.reason} for item in found.ignored],
    }


def _deliver(ledger: Ledger, receipt: Receipt, body: dict[str, Any], as_json: bool) -> None:
    """Wait for the quorum, say where the entry stands."""
    ledger.flush()
    if as_json:
        output.document("plausible.key-entry/1", {"index": receipt.index, "origin": ledger.origin, **body})
    else:
        output.note(f"entry {receipt.index} of {ledger.origin}")
