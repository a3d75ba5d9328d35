"""`pd verify-contradiction`: what a contradiction file proves, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output, settings, sources
from .options import IndexPolicyOption, JsonOption, PolicyOption

if TYPE_CHECKING:
    from ..ledger.contradiction import Proven
    from ..schemas.contradiction import Contradiction


def verify_contradiction(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A contradiction, written by pd node monitor.")],
    policy: PolicyOption = None,
    index_policy: IndexPolicyOption = None,
    ledger: Annotated[
        str | None,
        typer.Option("--ledger", metavar="DIR|URL", help="A copy of the log, where the file leaves entries out."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd verify-contradiction log-caught.json --policy court.policy

    Check, offline, that a file proves that a log (or a signer of its absence index) signed what cannot be true.

    Everything is derived from signatures and hashes in the file. Whose keys they are only your policy can say. Exit
    code 0: proven, about keys that your policy names; 5: proven about keys that nobody named (no --policy or
    --index-policy given, or they name others); 1: the file proves nothing; 4: it is malformed, or entries that it
    leaves out are not at hand (--ledger).

    Python: plausible.ledger.contradiction.verify_contradiction
    """
    from ..schemas.contradiction import MAX_CONTRADICTION_BYTES, parse_contradiction
    from ..schemas.errors import EvidenceError

    document = parse_contradiction(sources.read_bytes(file, "the contradiction", MAX_CONTRADICTION_BYTES))
    try:
        found = _verify(document, policy, index_policy, ledger)
    except EvidenceError as error:
        output.result(f"proves nothing: {error}")
        raise typer.Exit(1) from None
    if as_json:
        output.document(
            "plausible.contradiction-proven/1",
            {
                "accused": found.accused,
                "keys": list(found.keys),
                "kind": found.kind,
                "origin": found.origin,
                "trusted": found.trusted,
                "what": found.what,
            },
        )
    else:
        output.result(f"proven: {found.accused} {found.what}")
        for key in found.keys:
            output.result(f"  key {key}")
    if not found.trusted:
        option = "--index-policy" if found.kind.startswith("index-") else "--policy"
        output.note(f"nobody says that these keys are those of {found.accused}: name them with {option}")
        raise typer.Exit(5)


def _verify(document: Contradiction, policy: Path | None, index_policy: Path | None, ledger: str | None) -> Proven:
    from contextlib import ExitStack

    from ..ledger.contradiction import verify_contradiction as verify
    from ..ledger.merkle.reader import DirectorySource, TiledLog

    accept, index = sources.policy(policy), sources.index_policy(index_policy)
    with ExitStack() as stack:
        log: TiledLog | None = None
        place = settings.get("ledger", ledger) if ledger is not None else None
        if isinstance(place, str):
            from ..node.client import HttpSource

            log = TiledLog(stack.enter_context(HttpSource(place)))
        elif isinstance(place, Path):
            log = TiledLog(DirectorySource(sources.public_folder(place)))
        return verify(document, policy=accept, index_policy=index, log=log)
