"""`pd conformance ...`: protocol cases against anybody's server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output
from .options import JsonOption

if TYPE_CHECKING:
    from ..node.conformance.case import Result
    from ..node.conformance.log import LogCases
    from ..node.conformance.witness import WitnessCases


def witness(
    url: Annotated[str, typer.Argument(metavar="URL", help="The witness's submission prefix.")],
    key: Annotated[Path, typer.Option("--log-key", metavar="FILE", help="Private key of a log made for this only.")],
    vkeys: Annotated[list[str], typer.Option("--witness", metavar="VKEY", help="The witness's key; repeatable.")],
    monitoring: Annotated[
        str | None, typer.Option(metavar="URL", help="Its monitoring prefix, if it is another.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd keys generate conformance.example/log --role log --out test.key
        pd conformance witness https://witness.example --log-key test.key --witness witness.example/w+1c25f8a4+BHr...

    Run the cases of C2SP tlog-witness against a witness, ours or anybody's.

    Its operator must watch the key's log first (pd witness add, for ours). The cases move that log forward and can be
    run again. Exits 0 if none failed, 1 if one did, 4 if the witness cannot be reached.

    Python: plausible.node.conformance.witness.WitnessCases
    """
    from ..ledger.keys.keyfile import read_key
    from ..ledger.notes.note import VerifierKey
    from ..node.conformance.witness import WitnessCases

    _run(
        WitnessCases(url, read_key(key), [VerifierKey.parse(text) for text in vkeys], monitoring=monitoring),
        "tlog-witness",
        url,
        as_json,
    )


def mirror(
    url: Annotated[str, typer.Argument(metavar="URL", help="The mirror's submission prefix.")],
    key: Annotated[Path, typer.Option("--log-key", metavar="FILE", help="Private key of a log made for this only.")],
    vkeys: Annotated[list[str], typer.Option("--mirror", metavar="VKEY", help="The mirror's key; repeatable.")],
    monitoring: Annotated[
        str | None, typer.Option(metavar="URL", help="Its monitoring prefix, if it is another.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd keys generate conformance.example/log --role log --out test.key
        pd conformance mirror https://mirror.example --log-key test.key --mirror mirror.example/m+1c25f8a4+BHr...

    Run the cases of C2SP tlog-mirror against a mirror, ours or anybody's.

    Its operator must add the key's log first (pd mirror add, for ours). The cases move that log forward by a few
    thousand entries and can be run again. Exits 0 if none failed, 1 if one did, 4 if the mirror cannot be reached.

    Python: plausible.node.conformance.mirror.MirrorCases
    """
    from ..ledger.keys.keyfile import read_key
    from ..ledger.notes.note import VerifierKey
    from ..node.conformance.mirror import MirrorCases

    _run(
        MirrorCases(url, read_key(key), [VerifierKey.parse(text) for text in vkeys], monitoring=monitoring),
        "tlog-mirror",
        url,
        as_json,
    )


def log(
    url: Annotated[str, typer.Argument(metavar="URL", help="The log's prefix.")],
    key: Annotated[Path, typer.Option("--author-key", metavar="FILE", help="Private key of an author made for this.")],
    policy: Annotated[Path, typer.Option("--policy", metavar="FILE", help="The log's key, witnesses and quorum.")],
    as_json: JsonOption = False,
) -> None:
    """\b
        pd keys generate conformance.example/author --role author --out test.key
        pd conformance log https://log.example/shared --author-key test.key --policy shared.policy

    Run the cases of a log service (docs/nodes.md, "A log") against one, ours or anybody's.

    Its operator must allow the author's key first (authors.txt, for ours). The cases add about fifty entries and can be
    run again. Exits 0 if none failed, 1 if one did, 4 if the log cannot be reached.

    Python: plausible.node.conformance.log.LogCases
    """
    from ..ledger.keys.keyfile import read_key
    from ..ledger.notes.policy import Policy
    from ..node.conformance.log import LogCases
    from .sources import read_bytes

    _run(LogCases(url, read_key(key), Policy.parse(read_bytes(policy, "the policy"))), "plausible-log", url, as_json)


def _run(cases: WitnessCases | LogCases, protocol: str, url: str, as_json: bool) -> None:
    """Run all cases, say what came of each, and exit 1 if one failed."""

    def told(result: Result) -> None:
        if not as_json:
            detail = f": {output.printable(result.detail)}" if result.detail else ""
            output.result(f"{result.state:7}  {result.name}{detail}")

    try:
        results = cases.run(told)
    finally:
        cases.close()
    failed = sum(result.state == "failed" for result in results)
    skipped = sum(result.state == "skipped" for result in results)
    if as_json:
        rows = [{"detail": r.detail, "name": r.name, "state": r.state} for r in results]
        output.document("plausible.conformance/1", {"cases": rows, "protocol": protocol, "url": url})
    output.note(f"{len(results)} cases: {len(results) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    if failed:
        raise typer.Exit(1)
