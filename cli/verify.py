"""`pd verify`: one verdict a picture, with every check that was made and every check that was not."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..schemas.errors import PlausibleError, UsageError
from . import output, settings, sources
from .options import AuthorsOption, ExitZero, ForceOption, IndexPolicyOption, JsonOption, PolicyOption

if TYPE_CHECKING:
    from datetime import datetime

    from ..attribution.report.assemble import Report
    from ..attribution.verifier import Options, Verifier
    from ..ledger.absence.note import IndexPolicy
    from ..ledger.notes.note import SignerKey

_STDIN = "-"
ABSENCE_SUFFIX = ".absence-proof"
_MAX_STDIN = 128 * 1024 * 1024
_BUG = 70


class Integrity(StrEnum):
    """What a denial would claim."""

    STRICT = "strict"
    RELAXED = "relaxed"


Images = Annotated[list[str], typer.Argument(metavar="IMAGE", help="Pictures; `-` reads one from stdin.")]
ModelsOption = Annotated[
    list[Path] | None,
    typer.Option("--models", metavar="FOLDER", help="A model folder, or a folder of them; repeatable. [PD_MODELS]"),
]
DeviceOption = Annotated[str | None, typer.Option(help="Where generators run: cpu, cuda, cuda:1, mps. [PD_DEVICE]")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="Threads on the CPU.")]
SecondsOption = Annotated[
    float | None, typer.Option(min=0.1, help="Stop inverting after so many seconds a picture: then `incomplete`.")
]
ReportOption = Annotated[
    Path | None,
    typer.Option("--report", metavar="OUT.html", help="Write the page, and OUT.json beside it; a folder for several."),
]
KeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Your auditor key: signs OUT.json. [PD_AUDITOR_KEY]")
]


def verify(
    images: Images,
    ledger: Annotated[
        list[str] | None,
        typer.Option(
            "--ledger",
            metavar="DIR|URL",
            help="A ledger, a public folder or an address; repeatable. [PD_LEDGER]",
        ),
    ] = None,
    policy: PolicyOption = None,
    authors: AuthorsOption = None,
    evidence: Annotated[
        list[Path] | None,
        typer.Option("--evidence", metavar="FILE", help="Proofs and openings; repeatable. [default: beside IMAGE]"),
    ] = None,
    models: ModelsOption = None,
    integrity: Annotated[
        Integrity | None, typer.Option(help="What a denial claims: these very pixels, or changed ones too.")
    ] = None,
    accused: Annotated[
        list[str] | None, typer.Option("--accused", metavar="NAME", help="Accused author; repeatable. [PD_ACCUSED]")
    ] = None,
    claimed_date: Annotated[
        str | None, typer.Option("--claimed-date", metavar="DATE", help="When the picture is said to be from (UTC).")
    ] = None,
    max_age: Annotated[
        float | None,
        typer.Option(min=0, help="Absence counts only under a checkpoint so many seconds old. [PD_MAX_AGE]"),
    ] = None,
    index_policy: IndexPolicyOption = None,
    seconds: SecondsOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use no network.")] = False,
    as_json: JsonOption = False,
    report: ReportOption = None,
    key: KeyOption = None,
    exit_zero: ExitZero = False,
    force: ForceOption = False,
) -> None:
    """\b
        pd verify face.png --policy court.policy --authors authors.txt
        pd verify face.png --ledger studio.ledger --report face.html
        pd verify *.png --ledger https://log.example/studio --policy court.policy --authors authors.txt --json

    Say what can be shown about a picture: logged, a changed copy, made by a registered generator, or none of these.

    Every check made and every check skipped goes to stderr, the verdict to stdout and into the exit code: 0 logged,
    1 refuted, 3 inconclusive, 4 incomplete, 5 untrusted, 6 claimed, 10 derived, 11 attributed, 12 deniable. Several
    pictures exit with the worst. Without --policy and --authors the ledger's own decide, and the answer says
    `self-attested`.

    Evidence is given with --evidence, or found beside IMAGE as IMAGE.tlog-proof, IMAGE.opening.json and
    IMAGE.absence-proof. With --index-policy absence is also held against the signed absence index that a log serves.
    Replay, changed copies and inversion need the extra `attribution`; without it the evidence alone is checked.

    Python: plausible.attribution.verifier.verify
    """
    targets = targets_for(report, images, force)
    files = {image: list(evidence) if evidence else _beside(image) for image in images}
    flags = {"policy": policy, "authors": authors, "ledger": ledger, "models": models, "integrity": integrity,
             "accused": accused, "max_age": max_age}  # fmt: skip
    for line in settings.chosen_by_files(name for name, flag in flags.items() if flag in (None, [], ())):
        output.note(line)
    trust = _trust(policy, authors)
    if not sources.has_attribution():
        from .evidence_only import verify_evidence_only

        if report is not None or ledger:
            raise UsageError("--report and --ledger need torch: pip install 'plausible-deniability[attribution]'")
        code = verify_evidence_only(
            images,
            files,
            trust,
            index_policy=sources.index_policy(index_policy),
            max_age=settings.get("max_age", max_age),
            as_json=as_json,
        )
        raise typer.Exit(0 if exit_zero else code)
    with contextlib.ExitStack() as stack:
        options = options_for(
            integrity=integrity.value if integrity else None,
            accused=tuple(accused or ()),
            claimed_date=claimed_date,
            max_age=max_age,
            index_policy=sources.index_policy(index_policy),
            seconds=seconds,
            device=device,
            threads=threads,
            offline=offline,
            key=key,
        )
        everything = list(dict.fromkeys(path for paths in files.values() for path in paths))
        logs = _ledgers(stack, ledger, offline)
        verifier = stack.enter_context(verifier_for(logs, trust, everything, model_folders(models), options))
        code = run_all(verifier, images, files, targets, as_json=as_json, force=force, tell=_checks)
    raise typer.Exit(0 if exit_zero else code)


@contextlib.contextmanager
def verifier_for(
    ledgers: Sequence[Any],
    trust: tuple[bytes | None, bytes | None],
    evidence: Sequence[Path],
    models: Sequence[Path],
    options: Options,
) -> Generator[Verifier]:
    """A verifier with a progress bar, open until the block ends."""
    from ..attribution.verifier import Verifier

    with (
        output.stages() as progress,
        Verifier(
            ledgers=ledgers,
            policy=trust[0],
            authors=trust[1],
            evidence=list(evidence),
            models=list(models),
            options=options,
            progress=progress,
        ) as verifier,
    ):
        yield verifier


# --- what is asked ---------------------------------------------------------------------------------------------------


def _trust(policy: Path | None, authors: Path | None) -> tuple[bytes | None, bytes | None]:
    """The bytes of policy and authors."""
    found: list[bytes | None] = []
    for name, flag in (("policy", policy), ("authors", authors)):
        path = settings.get(name, flag)
        found.append(None if path is None else sources.read_bytes(path, f"the {name} file"))
    return found[0], found[1]


def options_for(
    *,
    integrity: str | None = None,
    accused: tuple[str, ...] = (),
    claimed_date: str | None = None,
    max_age: float | None = None,
    index_policy: IndexPolicy | None = None,
    seconds: float | None = None,
    device: str | None = None,
    threads: int | None = None,
    offline: bool = False,
    key: Path | None = None,
    seed: int = 0,
    encoder: bool = False,
) -> Options:
    """The verifier's options from flags and settings."""
    from ..attribution.inversion.budget import Budget
    from ..attribution.verifier import Options

    return Options(
        scope=str(settings.get("integrity", integrity)),
        budget=Budget(seconds=seconds),
        accused=tuple(settings.get("accused", accused)),
        claimed=_date(claimed_date),
        device=str(settings.get("device", device)),
        threads=threads,
        seed=seed,
        encoder=encoder,
        inception=settings.get("inception"),
        max_age=settings.get("max_age", max_age),
        index_policy=index_policy,
        offline=offline,
        auditor=_auditor(key),
        command=shlex.join(["pd", *sys.argv[1:]]),
    )


def _date(text: str | None) -> datetime | None:
    from datetime import UTC, datetime

    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no date: write 2026-03-01 or 2026-03-01T12:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _auditor(key: Path | None) -> SignerKey | None:
    path = settings.get("auditor_key", key)
    if path is None:
        return None
    from ..ledger.keys.keyfile import read_key

    return read_key(path)


def _ledgers(stack: contextlib.ExitStack, flags: list[str] | None, offline: bool) -> list[Any]:
    """Folders as paths, addresses as logs read over HTTP."""
    found: list[Any] = []
    places = [settings.get("ledger", flag) for flag in flags] if flags else [settings.get("ledger")]
    for place in places:
        if isinstance(place, str):
            if offline and flags:
                raise UsageError(f"--offline, but {place} is reached over the network")
            if offline:
                output.note(f"offline: {place} is not asked")
                continue
            from ..ledger.merkle.reader import TiledLog
            from ..node.client import HttpSource

            found.append(TiledLog(stack.enter_context(HttpSource(place))))
        elif place is not None:
            found.append(_folder(stack, place))
    return found


def _folder(stack: contextlib.ExitStack, place: Path) -> Any:
    """A folder as its path, or opened where its vault is encrypted and the key is known here."""
    if not (place / "log.toml").is_file():
        return place
    from . import vaultkeys

    key = vaultkeys.opening(place)
    if key is None:
        return place
    from ..ledger import Ledger

    ledger = Ledger.open(place, mode="read", vault_key=key)
    stack.callback(ledger.close)
    return ledger


def model_folders(flags: list[Path] | None) -> list[Path]:
    """Each flag is a model folder, or a folder of them."""
    places = flags or [path for path in [settings.get("models")] if path is not None]
    found: list[Path] = []
    for place in places:
        if (place / "manifest.json").is_file():
            found.append(place)
            continue
        below = sorted(path.parent for path in place.glob("*/manifest.json"))
        if not below:
            raise UsageError(f"{place} is no model folder and holds none (manifest.json, weights.safetensors)")
        found += below
    return found


def _beside(image: str) -> list[Path]:
    if image == _STDIN:
        return []
    path = Path(image)
    names = (path.name + ".tlog-proof", path.name + ".opening.json", path.name + ABSENCE_SUFFIX)
    return [beside for name in names if (beside := path.with_name(name)).is_file()]


@dataclass(frozen=True, slots=True)
class Target:
    """Where the page and the document of one image go."""

    page: Path
    document: Path


def targets_for(report: Path | None, images: list[str], force: bool) -> dict[str, Target]:
    """Where each image's page goes; refused now rather than after the work if a file is in the way."""
    if len(set(images)) != len(images):
        raise UsageError("a picture is named twice")
    if report is None:
        return {}
    if len(images) == 1 and not report.is_dir():
        pages = {images[0]: report}
    elif report.suffix == ".html":
        raise UsageError(f"{report} is one page, but there are {len(images)} pictures: name a folder")
    else:
        pages = {image: report / f"{'stdin' if image == _STDIN else Path(image).name}.html" for image in images}
    if len(set(pages.values())) != len(pages):
        raise UsageError("two pictures have one name: their pages would overwrite each other")
    found = {image: Target(page, page.with_suffix(".json")) for image, page in pages.items()}
    for target in found.values():
        for path in (target.page, target.document):
            if path.exists() and not force:
                raise UsageError(f"{path} exists already; name another file or pass --force")
    return found


# --- what is answered ------------------------------------------------------------------------------------------------


def run_all(
    verifier: Verifier,
    images: list[str],
    files: dict[str, list[Path]],
    targets: dict[str, Target],
    *,
    as_json: bool,
    force: bool,
    tell: Callable[[Report], None] | None,
) -> int:
    """Verify one after the other, each answer out as soon as it is there; the batch's exit code.

    `files` is the evidence of each image; `tell` prints what lies behind a verdict.
    """
    from ..attribution.logs.sources import read_evidence
    from ..schemas.verdict import worst_exit

    codes: list[int] = []
    reports: list[Report] = []
    interrupted = False
    for image in images:
        try:
            verifier.evidence = read_evidence(files.get(image, []))
            found = verifier.verify(_stdin() if image == _STDIN else image, name="stdin" if image == _STDIN else None)
        except KeyboardInterrupt:
            interrupted = True
            break
        except (PlausibleError, OSError, MemoryError):
            raise
        except Exception as error:
            from .main import report_bug

            if len(images) == 1:
                raise
            codes.append(report_bug(error, image))
            continue
        codes.append(found.exit_code)
        reports.append(found)
        if tell is not None:
            tell(found)
        if not as_json:
            output.result(f"{'stdin' if image == _STDIN else image}: {found.verdict}: {found.line}")
        if image in targets:
            _save(found, targets[image], force)
    if as_json:
        _document(reports, single=len(images) == 1, interrupted=interrupted)
    if interrupted:
        raise KeyboardInterrupt
    return worst_exit(codes)


def _stdin() -> bytes:
    data = sys.stdin.buffer.read(_MAX_STDIN + 1)
    if len(data) > _MAX_STDIN:
        raise UsageError(f"more than {_MAX_STDIN} bytes on stdin")
    return data


def _checks(report: Report) -> None:
    """Every check, under its stage, on stderr."""
    words = {"made": "ok", "failed": "FAIL", "skipped": "skip"}
    stage = None
    for check in report.checks:
        if check.stage != stage:
            stage = check.stage
            output.note(f"{stage}:")
        output.note(f"  {words[check.state]:4}  {check.name}: {check.reason}")


def _save(report: Report, target: Target, force: bool) -> None:
    output.write_file(target.page, report.html().encode(), force=force)
    output.write_file(target.document, report.signed() or report.to_jcs(), force=force)
    output.note(f"wrote {target.page} and {target.document}")


def _document(reports: list[Report], *, single: bool, interrupted: bool) -> None:
    """One report as its own canonical document; several in a list, with the exit code they give together."""
    from ..schemas.verdict import worst_exit

    if single and reports:
        output.raw(reports[0].to_jcs() + b"\n")
        return
    body = {
        "interrupted": interrupted,
        "exit_code": worst_exit(r.exit_code for r in reports) if reports else None,
        "reports": [json.loads(r.to_jcs()) for r in reports],
    }
    output.document("plausible.reports/1", body)
