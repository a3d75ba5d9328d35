"""What an experiment is, and what it leaves behind. Every experiment of docs/experiments stands on this.

An experiment is a function from `Settings` to an `Outcome`: plain figures, tables, plots, notes and failures. What
takes long is asked for row by row through `Settings.row(key, make)`: a row is written to a JSON-Lines file as soon as
it is made, and a repeated command takes it from there. A kept row counts only for the same experiment, seed, size,
threads and torch (the file's first line); what else it depends on (a recipe's digest, an engine's version) belongs in
its key.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plausible.attribution.lines import Lines
from plausible.schemas.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = "plausible.experiment/1"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page; `block` is the id between whose markers it stands (default: the first)."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]
    block: str | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture: `draw` fills a figure of `size` inches, written as NAME.svg and NAME.png; `block` as in `Table`."""

    name: str
    draw: Callable[[Figure], None] = field(repr=False)
    size: tuple[float, float] = (6.0, 4.0)
    caption: str = ""
    block: str | None = None

    def __post_init__(self) -> None:
        if NAME.fullmatch(self.name) is None:
            raise UsageError(f"{self.name!r} cannot be the name of a plot's file")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an experiment: `figures` to quote, and `failures`, of which one makes the command exit with 1."""

    figures: dict[str, Any]
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    notes: Sequence[str] = ()
    failures: Sequence[str] = ()


class Rows:
    """Rows kept in a JSON-Lines file under a header; without a path in memory only.

    A file with another header is begun anew. A torn last line is dropped, and its row made again. Until `close` no
    other process can write the same file (`SetupError`).
    """

    def __init__(self, path: Path | None = None, header: dict[str, Any] | None = None, *, fresh: bool = False) -> None:
        self.path = path
        self.kept: dict[str, Any] = {}
        self.seconds = 0.0
        """Wall time that all rows took to make, in whichever run."""
        self._lines = None if path is None else Lines(path)
        if self._lines is not None:
            first = _line(header or {})
            whole = [line for _, line in self._lines]
            if fresh or whole[:1] != [first]:
                self._lines.clear()
                self._lines.append(first)
                whole = []
            for line in whole[1:]:
                entry = json.loads(line)
                self.kept[entry["key"]] = entry["row"]
                self.seconds += entry["seconds"]
        self.resumed = len(self.kept)
        """Rows that an earlier run had made."""

    def __contains__(self, key: str) -> bool:
        return key in self.kept

    def __getitem__(self, key: str) -> Any:
        return self.kept[key]

    def add(self, key: str, row: Any, seconds: float = 0.0) -> Any:
        """Keep a row on the disk; it comes back as JSON gives it back, so that a resumed run sees the same."""
        line = _line({"key": key, "row": row, "seconds": round(seconds, 6)})
        if self._lines is not None:
            self._lines.append(line)
        self.kept[key] = json.loads(line)["row"]
        self.seconds += seconds
        return self.kept[key]

    def close(self) -> None:
        """Let another process write."""
        if self._lines is not None:
            self._lines.close()


def _line(value: Any) -> bytes:
    return f"{dumps(value)}\n".encode()


def _silent(_: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class Settings:
    """How an experiment is run. `quick`: small enough for a minute; its figures never go into a page."""

    quick: bool = False
    threads: int = 1
    seed: int = 1
    out: Path = Path("build/experiments")
    """Plots go here; every experiment has a folder of its own."""
    say: Say = _silent
    """Progress, one line each."""
    rows: Rows = field(default_factory=Rows)
    device: str = "cpu"

    def row(self, key: str, make: Callable[[], Any]) -> Any:
        """The row kept under `key`, or the one that `make` gives now (JSON values, numpy numbers allowed)."""
        if key in self.rows:
            return self.rows[key]
        began = time.perf_counter()
        row = make()
        return self.rows.add(key, row, time.perf_counter() - began)

    def pick(self, whole: int, quick: int) -> int:
        """A size: `whole`, or `quick` in a quick run."""
        return quick if self.quick else whole


@dataclass(frozen=True, slots=True)
class Experiment:
    """`ids` as the command line and the page's markers have them (`E1`, `E1-001` for 001's protocol, `R5`).

    One run makes what all its ids show. `page` is the file's name in docs/experiments, or None.
    """

    ids: tuple[str, ...]
    paper: str
    title: str
    page: str | None
    run: Callable[[Settings], Outcome] = field(repr=False)

    def __post_init__(self) -> None:
        wrong = [name for name in self.ids if NAME.fullmatch(name) is None]
        if wrong or not self.ids:
            raise UsageError(f"these cannot be ids of an experiment: {wrong}")

    @property
    def name(self) -> str:
        """Of its folder and files."""
        return self.ids[0]

    def command(self, settings: Settings) -> str:
        """What makes the same figures again, without the options that name folders."""
        words = ["python -m benchmarks.attribution", self.name]
        words += ["--quick"] if settings.quick else []
        words += [f"--threads {settings.threads}", f"--seed {settings.seed}"]
        words += [] if settings.device == "cpu" else [f"--device {settings.device}"]
        return " ".join(words)

    def header(self, settings: Settings) -> dict[str, Any]:
        """What kept rows must agree in."""
        import torch

        return {
            "device": settings.device,
            "experiment": self.name,
            "format": FORMAT,
            "quick": settings.quick,
            "seed": settings.seed,
            "threads": settings.threads,
            "torch": torch.__version__,
        }


def execute(experiment: Experiment, settings: Settings) -> tuple[dict[str, Any], Outcome]:
    """Run; (the document that a run leaves, the outcome). Plots are drawn into `settings.out`/NAME/."""
    from benchmarks.attribution.plots import write

    began, load = time.monotonic(), _load()
    outcome = experiment.run(settings)
    for part in (*outcome.tables, *outcome.plots):
        if part.block is not None and part.block not in experiment.ids:
            raise UsageError(f"{part.block} is none of {', '.join(experiment.ids)}")
    for table in outcome.tables:
        if any(len(row) != len(table.header) for row in table.rows):
            raise UsageError(f"a row of {table.title!r} has not as many cells as its header")
    folder = settings.out / experiment.name
    for plot in outcome.plots:
        write(plot, folder)
    document = {
        "command": experiment.command(settings),
        "device": settings.device,
        "failures": list(outcome.failures),
        "figures": outcome.figures,
        "format": FORMAT,
        "ids": list(experiment.ids),
        "load": [load, _load()],
        "machine": machine(settings.device),
        "notes": list(outcome.notes),
        "paper": experiment.paper,
        "plots": [
            {"caption": p.caption, "block": p.block or experiment.name, "name": p.name} for p in outcome.plots
        ],
        "quick": settings.quick,
        "rows": {
            "kept_from_before": settings.rows.resumed,
            "n": len(settings.rows.kept),
            "seconds": round(settings.rows.seconds, 3),
        },
        "seconds": round(time.monotonic() - began, 3),
        "seed": settings.seed,
        "tables": [
            {
                "header": list(t.header),
                "block": t.block or experiment.name,
                "rows": [list(row) for row in t.rows],
                "title": t.title,
            }
            for t in outcome.tables
        ],
        "threads": settings.threads,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "title": experiment.title,
    }  # fmt: skip
    return json.loads(dumps(document)), outcome


def machine(device: str = "cpu") -> dict[str, Any]:
    """Where it ran, as a page may say it."""
    import numpy as np
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "numpy": np.__version__,
        "processor": model,
        "python": platform.python_version(),
        "system": platform.system(),
        "torch": torch.__version__,
    }
    if device.startswith("cuda"):
        found["accelerator"] = torch.cuda.get_device_name()
    return found


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def dumps(value: Any, *, indent: int | None = None) -> str:
    """JSON with sorted keys; numpy numbers and arrays, dataclasses and paths too; `ValueError` if not finite."""
    return json.dumps(value, default=_plain, sort_keys=True, allow_nan=False, indent=indent)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def stderr(text: str) -> None:
    """Progress of the command line."""
    print(text, file=sys.stderr, flush=True)
