"""`pd vault ...`: the private records behind the entries. What these commands print is private too."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from . import output, sources
from .options import JsonOption, LedgerFolder

Which = Annotated[str, typer.Argument(metavar="INDEX|IMAGE", help="An entry's index, or a logged picture.")]


def list_records(ledger: LedgerFolder = None, as_json: JsonOption = False) -> None:
    """\b
        pd vault list --ledger studio.ledger

    List the records that are here: entry, time, model, how the seed was made.

    Python: plausible.ledger.Ledger.records
    """
    with sources.own(ledger) as opened:
        names = {model.digest.hex(): model.name for model in opened.models()}
        rows: list[dict[str, Any]] = []
        for index, entry, record in opened.records():
            digest = record.context.model.removeprefix("sha256:")
            rows.append(
                {
                    "index": index,
                    "time": entry.header.time,
                    "model": names.get(digest, digest),
                    "pixels": record.context.pixels,
                    "rng": json.loads(record.to_jcs())["rng"],
                }
            )
    if as_json:
        output.document("plausible.vault-list/1", {"records": rows})
        return
    output.table(
        ("index", "time", "model", "pixels"), [(r["index"], r["time"], r["model"], r["pixels"][:26]) for r in rows]
    )


def show(which: Which, ledger: LedgerFolder = None) -> None:
    """\b
        pd vault show 3 --ledger studio.ledger

    Print the whole record behind an entry: seed, style, noise, call, environment. Private.

    To disclose some of it, provably, use `pd log open`.

    Python: plausible.ledger.Ledger.record_of
    """
    with sources.own(ledger) as opened:
        index, _ = sources.index_of(opened, which)
        record = json.loads(opened.record_of(index).to_jcs())
    output.document("plausible.vault-record/1", {"index": index, "record": record})


def erase(
    which: Which,
    ledger: LedgerFolder = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """\b
        pd vault erase 3 --ledger studio.ledger --yes

    Delete a record and its secret for good. The entry and its digests stay in the log.

    Nobody, you included, can open or replay that entry afterwards.

    Python: plausible.ledger.Ledger.erase
    """
    from ..schemas.errors import UsageError

    with sources.own(ledger, "append") as opened:
        index, _ = sources.index_of(opened, which)
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError("erasing cannot be undone: pass --yes")
            typer.confirm(f"erase the record behind entry {index}? it cannot be undone", abort=True, err=True)
        gone = opened.erase(index)
    output.note(f"the record behind entry {index} is erased; the entry stays in the log")
    if not gone:
        output.note(
            "another process reads vault.db, and the old bytes stand in its write-ahead log: close it, then "
            "erase this entry again"
        )
    output.note("backups and copies of vault.db made before still hold it: destroy them")
