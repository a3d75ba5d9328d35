"""What leaves the program: results on stdout, everything else on stderr, files by temporary name and rename.

Text that came from outside (names in entries, paths, peers' messages) goes through `printable` before it reaches a
terminal: an entry must not be able to move the cursor or colour a verdict.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..schemas.errors import SetupError, UsageError

# C0 and C1 controls except newline and tab, and the bidirectional overrides that can reorder a line
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` with control and direction-changing characters written as escapes."""
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def result(text: str = "") -> None:
    """One line (or block) of the answer, on stdout."""
    sys.stdout.write(printable(text) + "\n")


def note(text: str) -> None:
    """One line for the person watching, on stderr."""
    sys.stderr.write(printable(text) + "\n")


def document(kind: str, body: dict[str, Any]) -> None:
    """One versioned JSON document on stdout. `kind` is its name and version, for instance `plausible.log-list/1`."""
    sys.stdout.write(json.dumps({"format": kind, **body}, indent=2, ensure_ascii=True, sort_keys=False) + "\n")


def raw(data: bytes) -> None:
    """Bytes of an artefact on stdout, unchanged."""
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(data.decode("utf-8", "surrogateescape"))
    else:
        buffer.write(data)
        buffer.flush()


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns on stdout; plain text, so that it can be cut and grepped."""
    cells = [[str(cell) for cell in header], *[[printable(str(cell)) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def write_file(path: Path, data: bytes, *, force: bool, mode: int = 0o644) -> None:
    """Write `data` to `path` whole or not at all; an existing file stays unless `force`.

    Raises UsageError if the file is there and `force` is not given, SetupError if the folder cannot be written.
    """
    if not force and path.exists():
        raise UsageError(f"{path} exists already; name another file or pass --force")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror or error}") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        if force:
            temporary.replace(path)
        else:
            _place(temporary, path)
    except FileExistsError:
        raise UsageError(f"{path} exists already; name another file or pass --force") from None
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _place(temporary: Path, path: Path) -> None:
    """Give `temporary` its name unless somebody else took it meanwhile (a link cannot overwrite, a rename can)."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system: the check at the start has to do
        temporary.replace(path)


@contextlib.contextmanager
def progress(title: str, total: int | None) -> Generator[Any]:
    """A function `advance(n=1, note="")`; draws a bar on stderr only if a person is watching."""
    if not watched():
        yield lambda _count=1, _note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)

        def advance(count: int = 1, text: str = "") -> None:
            bar.update(task, advance=count, description=f"{title} {text}".rstrip())

        yield advance


@contextlib.contextmanager
def stages() -> Generator[Any]:
    """A function `(stage, done, total)`; draws one bar, that of the current stage, if a person is watching."""
    if not watched():
        yield lambda _stage, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verifying", total=None)
        current = ""

        def tell(stage: str, done: int, total: int) -> None:
            nonlocal current
            if stage != current:
                current = stage
                bar.reset(task)
            bar.update(task, description=printable(stage), completed=done, total=total)

        yield tell


def watched() -> bool:
    """Whether a person may be looking at stderr."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
