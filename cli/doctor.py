"""`pd doctor`: what is installed, what is missing, and what to do about it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from . import output, settings

OK, MISSING, WARN = "ok", "missing", "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `needed` means that recording and checking evidence does not work without it."""

    name: str
    state: str
    detail: str
    remedy: str = ""
    needed: bool = False


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """\b
        pd doctor

    Say what is installed, what is missing and what to do.

    Exit code 0 if evidence can be recorded and checked here, 4 if something for that is missing. Missing extras are
    named, with the commands that need them, and do not change the exit code.

    Python: plausible.cli.doctor.findings
    """
    found = findings()
    if as_json:
        output.document(
            "plausible.doctor/1",
            {
                "findings": [
                    {"name": f.name, "state": f.state, "detail": f.detail, "remedy": f.remedy, "needed": f.needed}
                    for f in found
                ]
            },
        )
    else:
        output.table(("state", "what", "detail"), [(f.state, f.name, f.detail) for f in found])
        for finding in found:
            if finding.remedy:
                output.result(f"-> {finding.name}: {finding.remedy}")
    if any(f.needed and f.state == MISSING for f in found):
        raise typer.Exit(4)


def findings() -> list[Finding]:
    """Everything looked at, in the order a person should read it."""
    return [*_python(), *_packages(), *_signatures(), *_torch(), *_sqlite(), *_disk(), *_files(), *_trust()]


def _python() -> list[Finding]:
    import platform

    text = f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}"
    return [Finding("Python", OK, text)]


_BASE = (
    "cryptography",
    "httpx",
    "jinja2",
    "numpy",
    "pillow",
    "pydantic",
    "rfc8785",
    "rich",
    "sqlite-utils",
    "stamina",
    "typer",
)
_EXTRAS = (
    ("attribution", ("torch", "safetensors", "scipy", "pdqhash", "matplotlib"), "replay, changed copies, inversion"),
    ("node", ("fastapi", "prometheus-client", "uvicorn"), "pd node"),
)


def _packages() -> list[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    found: list[Finding] = []
    for name in _BASE:
        have = installed(name)
        if have is None:
            found.append(Finding(name, MISSING, "", "pip install plausible-deniability", needed=True))
        else:
            found.append(Finding(name, OK, have))
    for extra, names, purpose in _EXTRAS:
        for name in names:
            have = installed(name)
            remedy = "" if have else f"for {purpose}: pip install 'plausible-deniability[{extra}]'"
            found.append(Finding(name, OK if have else MISSING, have or f"extra {extra}", remedy))
    return found


def _signatures() -> list[Finding]:
    try:
        from ..ledger.notes.keytypes import has_ml_dsa
    except ImportError:  # reported above
        return []
    if has_ml_dsa():
        return [Finding("ML-DSA-44", OK, "post-quantum cosignatures are made and checked")]
    remedy = "for policies with ML-DSA-44 witnesses: install cryptography 48 or newer"
    return [Finding("ML-DSA-44", MISSING, "this cryptography package lacks it", remedy)]


def _torch() -> list[Finding]:
    """Where generators could run. Replays are bit-equal only on the same torch, device, dtype, threads and flags."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return []
    try:
        import torch
    except (ImportError, OSError) as error:
        return [Finding("torch runs", MISSING, str(error), "reinstall torch for this machine")]
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    detail = f"{', '.join(devices)}; {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return [Finding("torch devices", OK, detail)]


def _sqlite() -> list[Finding]:
    import sqlite3

    text = f"{sqlite3.sqlite_version}, thread safety {sqlite3.threadsafety}"
    if sqlite3.sqlite_version_info < (3, 35):
        return [Finding("SQLite", MISSING, text, "3.35 or newer is needed (RETURNING)", needed=True)]
    return [Finding("SQLite", OK, text)]


def _disk() -> list[Finding]:
    """Can a file be made durable here, and how long does that take: it limits how fast a ledger accepts."""
    import tempfile
    import time

    try:
        with tempfile.TemporaryFile(dir=Path.cwd()) as file:
            times: list[float] = []
            for _ in range(5):
                file.write(b"plausible")
                file.flush()
                start = time.perf_counter()
                os.fsync(file.fileno())
                times.append(time.perf_counter() - start)
    except OSError as error:
        text = f"{Path.cwd()}: {error.strerror or error}"
        return [Finding("disk", WARN, text, "this folder cannot hold a ledger: choose a writable one")]
    return [Finding("disk", OK, f"{Path.cwd()} is writable; a flush takes {sorted(times)[2] * 1e3:.1f} ms")]


def _files() -> list[Finding]:
    """The files the settings name."""
    found: list[Finding] = []
    for name, resolved in settings.effective().items():
        value = resolved.value
        if not isinstance(value, Path):
            continue
        state = OK if value.exists() else MISSING
        remedy = "" if state == OK else f"named by {resolved.source}; make the file or change the setting"
        found.append(Finding(f"setting {name}", state, str(value), remedy))
    if settings.get("inception") is None:
        text = "not set: 004's feature distance is skipped"
        found.append(
            Finding("Inception weights", WARN, text, "name torchvision's weights, as safetensors, in `inception`")
        )
    return found


def _trust() -> list[Finding]:
    """Whom the settings believe: what is missing or weak in it, and what to do."""
    from ..schemas.errors import PlausibleError

    try:
        from .policy import review

        _, found = review(None, None, None, None, now=False)
    except ImportError:  # reported above
        return []
    except PlausibleError as error:
        return [Finding("trust", WARN, str(error), "correct the file, or make another: pd policy --help")]
    if not found:
        return [Finding("trust", OK, "policy, authors and index policy say whom to believe: pd policy check")]
    return [Finding("trust", WARN, weakness.what, weakness.remedy) for weakness in found]
