"""`pd fsck`: is everything that a log stores what was signed?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output, sources, vaultkeys
from .options import IndexPolicyOption, JsonOption, PolicyOption

if TYPE_CHECKING:
    from ..ledger.absence.note import IndexPolicy
    from ..ledger.fsck import Report


def fsck(
    where: Annotated[
        str | None, typer.Argument(metavar="DIR|URL", help="A ledger, a copy of its public/ folder, or a served log.")
    ] = None,
    policy: PolicyOption = None,
    index_policy: IndexPolicyOption = None,
    cross_check: Annotated[bool, typer.Option("--cross-check", help="Recompute the root with merkly too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd fsck studio.ledger
        pd fsck https://log.example/studio --policy court.policy --json

    Re-derive every tile, root, bundle, author chain and the index root of a log and compare; of an own ledger also
    state, vault, lookup and absence index, witnesses, keys and models. Nothing is changed.

    Each finding names the file, the entry, what is wrong and what to do. Exit code 0: sound, as far as it was looked
    at (what was skipped is listed); 1: something is false; 5: the policy is not met; 4: something is missing or could
    not be read. An own ledger is held against its own policy unless --policy gives another.

    Python: plausible.ledger.fsck.check_ledger
    """
    report = _check(where, policy, sources.index_policy(index_policy), cross_check)
    if as_json:
        output.document("plausible.fsck/1", report.to_json())
    else:
        _print(report)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _check(where: str | None, policy: Path | None, index: IndexPolicy | None, cross_check: bool) -> Report:
    from ..ledger.config import CONFIG_FILE
    from ..ledger.fsck import check_ledger, check_log
    from ..ledger.merkle.reader import DirectorySource

    place = sources.place(where)
    common: dict[str, Any] = {"index_policy": index, "cross_check": cross_check}
    # a question for the passphrase comes before the progress bar
    key = vaultkeys.to_check(place) if isinstance(place, Path) else None
    with output.stages() as tell:
        if isinstance(place, str):
            from ..node.client import HttpSource

            with HttpSource(place) as source:
                return check_log(source, policy=sources.policy(policy), progress=tell, **common)
        if (place / CONFIG_FILE).is_file():
            given = sources.policy(policy) if policy is not None else None
            return check_ledger(place, policy=given, progress=tell, **common, vault_key=key)
        source = DirectorySource(sources.public_folder(place))
        return check_log(source, policy=sources.policy(policy), progress=tell, **common)


def _print(report: Report) -> None:
    for name in report.done:
        output.note(f"checked: {name}")
    for name, reason in report.skipped:
        output.note(f"skipped: {name}: {reason}")
    for text in report.notes:
        output.note(f"note: {text}")
    if report.findings:
        rows = [(f.kind.value, f.file, "" if f.index is None else f.index, f.what, f.remedy) for f in report.findings]
        output.table(("found", "file", "entry", "what", "what to do"), rows)
        if report.uncounted:
            output.note(f"{report.uncounted} findings more are not listed")
    count = len(report.findings) + report.uncounted
    verdict = f"{count} findings" if count else "sound"
    output.result(f"{report.origin or 'unnamed log'}, {report.size} entries: {verdict}")
