"""What is run, in which turns, and which lines it is held against."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ENTRY, REAL_ENTRY = 700, 1200
GROUPS = ("append", "growth", "real", "proofs", "signed")
COMMAND = "python -m benchmarks.ledger.speed --only"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything."""

    small: int
    large: int
    rounds: int
    batches: int
    """Batches of 1,000 a subject's turn has."""
    batch: int
    singles: int
    """Appends of one entry a turn has."""
    cold: int
    warm: int
    opens: int
    signed_rounds: int


FULL = Plan(100_000, 1_000_000, 11, 5, 1000, 30, 7, 1000, 7, 5)
QUICK = Plan(5_000, 20_000, 5, 2, 1000, 10, 3, 200, 3, 2)
TINY = Plan(300, 700, 2, 1, 50, 2, 1, 5, 1, 1)
"""For the test: results, not times."""


class Turns:
    """Bench processes, spoken to one at a time."""

    def __init__(self, folder: Path, core: int, peer: Path | None) -> None:
        self._folder = folder
        self._core = core
        self._peer = peer
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, kind: str, entry_bytes: int) -> None:
        """A subject's process under a name of its own."""
        folder = self._folder / name
        folder.mkdir()
        if kind == "pymerkle":
            # its environment has neither this project nor what the project needs
            command = [str(self._peer), "-m", "benchmarks.ledger.speed.peer"]
        elif kind == "signed":
            command = [sys.executable, "-m", "benchmarks.ledger.speed.signed"]
        else:
            command = [sys.executable, "-m", "benchmarks.ledger.speed.subjects", kind]
        command += [str(folder), "--bytes", str(entry_bytes), "--core", str(self._core)]
        root = Path(__file__).resolve().parents[3]
        self._processes[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
        )

    def ask(self, name: str, do: str, **arguments: Any) -> dict[str, Any]:
        """One command, one answer; `SystemExit` if the subject failed."""
        process = self._processes[name]
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{name} ended with exit code {process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise SystemExit(f"{name}: {answer['error']}")
        return answer

    def stop(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.stdout.close()
            process.wait()
        self._processes.clear()


@contextlib.contextmanager
def turns(folder: Path, core: int, peer: Path | None, subjects: dict[str, tuple[str, int]]) -> Generator[Turns]:
    """Processes for {name: (kind, entry bytes)}, ended with the block."""
    made = Turns(folder, core, peer)
    try:
        for name, (kind, entry_bytes) in subjects.items():
            made.start(name, kind, entry_bytes)
        yield made
    finally:
        made.stop()


def run(
    plan: Plan,
    folder: Path,
    *,
    groups: Sequence[str] = GROUPS,
    peer: Path | None = None,
    core: int = 0,
    progress: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The results as one document."""
    began, load = time.monotonic(), os.getloadavg()
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {"format": "plausible.bench.ledger/1", "plan": asdict(plan), "rows": rows}
    if {"append", "growth", "proofs"} & set(groups):
        _opaque(plan, folder, groups, peer, core, rows, progress)
    if "real" in groups:
        names = {n: (n, REAL_ENTRY) for n in ("sqlite", "pymerkle", "bare", "published") if n != "pymerkle" or peer}
        (folder / "real").mkdir()
        with turns(folder / "real", core, peer, names) as bench:
            _fill(bench, list(names), plan.small // 10, plan, progress)
            rows += _rates(bench, list(names), plan, plan.batch, plan.batches, "real", f"{REAL_ENTRY} B entries")
            _same_roots(bench, list(names))
    if "signed" in groups:
        result["profile"] = _signed(plan, folder, core, rows, progress)
    result["machine"] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "system": platform.platform(), "cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version, "load_before": load, "load_after": os.getloadavg(),
        "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    result["lines"] = held(rows, result.get("profile"))
    return result


def _opaque(
    plan: Plan,
    folder: Path,
    groups: Sequence[str],
    peer: Path | None,
    core: int,
    rows: list[dict[str, Any]],
    progress: Callable[[str], None],
) -> None:
    names = {name: (name, ENTRY) for name in ("sqlite", "bare", "published")}
    if "append" in groups:
        names["indexed"] = ("indexed", ENTRY)
    if peer is not None and {"append", "proofs"} & set(groups):
        names["pymerkle"] = ("pymerkle", ENTRY)
    small = {}
    if "growth" in groups:
        small = {"bare small": ("bare", ENTRY), "published small": ("published", ENTRY)}
    with turns(folder, core, peer, names | small) as bench:
        _fill(bench, list(small), plan.small, plan, progress)
        _fill(bench, list(names), plan.large, plan, progress)
        note = f"{ENTRY} B entries, at {plan.large:,}"
        if "append" in groups:
            progress("append")
            rows += _rates(bench, list(names), plan, plan.batch, plan.batches, "append", note)
            singles = [name for name in names if name != "indexed"]
            rows += _rates(bench, singles, plan, 1, plan.singles, "append", note)
        if "growth" in groups:
            progress("growth")
            for layer in ("bare", "published"):
                pair = [layer, f"{layer} small"]
                found = _rates(bench, pair, plan, plan.batch, plan.batches, "growth", f"at {plan.large:,}")
                found[0]["ratios"] = {"small": _ratio(found[0]["rounds"], found[1]["rounds"])}
                found[1]["note"] = f"{ENTRY} B entries, at {plan.small:,}"
                rows += found
        if "proofs" in groups:
            progress("proofs")
            _proofs(bench, [name for name in ("pymerkle", "published") if name in names], plan, note, rows)
        _same_roots(bench, list(names))


def _fill(bench: Turns, names: Sequence[str], size: int, plan: Plan, progress: Callable[[str], None]) -> None:
    for name in names:
        seconds = bench.ask(name, "fill", to=size, batch=min(plan.batch, max(1, size)))["seconds"]
        progress(f"{name}: {size:,} entries in {seconds:.1f} s")


def _rates(
    bench: Turns, names: Sequence[str], plan: Plan, batch: int, count: int, group: str, note: str
) -> list[dict[str, Any]]:
    """Entries a second of each subject, in turns; ratios to both controls round by round."""
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for number in range(plan.rounds):
        # another one begins each time
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            found = bench.ask(name, "append", batch=batch, count=count)
            wall[name].append(batch * count / sum(found["wall"]))
            cpu[name].append(batch * count / max(sum(found["cpu"]), 1e-9))
    rows: list[dict[str, Any]] = []
    for name in names:
        row = _row(group, name, f"durable append, batches of {batch:,}", "entries/s", wall[name], note)
        row["cpu"] = statistics.median(cpu[name])
        row["batch"] = batch
        for control in ("sqlite", "pymerkle"):
            if control in names and control != name:
                row["ratios"][control] = _ratio(wall[name], wall[control])
                row["ratios"][f"{control}, CPU"] = _ratio(cpu[name], cpu[control])
        rows.append(row)
    return rows


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(each), "low": min(each), "high": max(each)}


def _row(group: str, layer: str, what: str, unit: str, values: Sequence[float], note: str) -> dict[str, Any]:
    return {
        "group": group, "layer": layer, "what": what, "unit": unit, "note": note, "n": len(values),
        "median": statistics.median(values), "low": min(values), "high": max(values), "rounds": list(values),
        "ratios": {}, "command": f"{COMMAND} {group}",
    }  # fmt: skip


def _proofs(bench: Turns, names: Sequence[str], plan: Plan, note: str, rows: list[dict[str, Any]]) -> None:
    known: dict[tuple[str, str], float] = {}
    for name in names:
        opened = bench.ask(name, "reopen", count=plan.opens)["wall"]
        made = bench.ask(name, "prove", cold=plan.cold, warm=plan.warm)
        for what, values in (
            ("reopen to a root", opened),
            ("inclusion proof, first after opening", made["cold"]),
            ("inclusion proof, later", made["warm"]),
        ):
            row = _row("proofs", name, what, "ms", [1e3 * value for value in values], note)
            del row["rounds"]
            known[name, what] = row["median"]
            if ("pymerkle", what) in known and name != "pymerkle":
                row["ratios"]["pymerkle"] = {"median": known["pymerkle", what] / row["median"]}
            rows.append(row)


def _signed(
    plan: Plan, folder: Path, core: int, rows: list[dict[str, Any]], progress: Callable[[str], None]
) -> dict[str, Any]:
    progress("signed")
    with turns(folder, core, None, {"signed": ("signed", 0), "sqlite real": ("sqlite", REAL_ENTRY)}) as bench:
        bench.ask("signed", "append", batch=plan.batch, count=1)
        for batch, count in ((plan.batch, 1), (1, plan.singles)):
            wall: list[float] = []
            cpu: list[float] = []
            control: list[float] = []
            for _ in range(plan.signed_rounds):
                found = bench.ask("signed", "append", batch=batch, count=count)
                wall.append(batch * count / sum(found["wall"]))
                cpu.append(batch * count / sum(found["cpu"]))
                control.append(
                    batch * count / sum(bench.ask("sqlite real", "append", batch=batch, count=count)["wall"])
                )
            size = bench.ask("signed", "entry_bytes")["bytes"]
            what = f"whole signed path, batches of {batch:,}"
            row = _row("signed", "ledger", what, "entries/s", wall, f"entries of {size:,} B, quorum none")
            row |= {"cpu": statistics.median(cpu), "batch": batch, "ratios": {"sqlite": _ratio(wall, control)}}
            rows.append(row)
        profile = bench.ask("signed", "profile", batch=plan.batch, count=1)
        bench.ask("signed", "close")
    return profile


def _same_roots(bench: Turns, names: Sequence[str]) -> None:
    """Subjects of one size have one root."""
    roots: dict[int, set[str]] = {}
    for name in names:
        found = bench.ask(name, "root")
        if found["root"]:
            roots.setdefault(found["size"], set()).add(found["root"])
    for size, different in roots.items():
        if len(different) > 1:
            raise SystemExit(f"subjects disagree about the root of {size} entries: {sorted(different)}")


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# --- what it is held against ---


def held(rows: Sequence[dict[str, Any]], profile: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The lines the project set itself, with what was measured; `met` is None where nothing was."""
    del profile

    def find(group: str, layer: str, what: str) -> dict[str, Any] | None:
        return next(
            (r for r in rows if (r["group"], r["layer"]) == (group, layer) and r["what"].startswith(what)), None
        )

    lines: list[dict[str, Any]] = []

    def line(what: str, row: dict[str, Any] | None, control: str | None, limit: float, *, most: bool = False) -> None:
        value: float | None = None
        if row is not None:
            value = row["median"] if control is None else row["ratios"].get(control, {}).get("median")
        met = None if value is None else (value <= limit if most else value >= limit)
        lines.append({"what": what, "limit": limit, "most": most, "value": value, "met": met})

    thousands = "durable append, batches of 1,000"
    line("bare log, batches of 1,000, against pymerkle", find("append", "bare", thousands), "pymerkle", 1.5)
    line("bare log, batches of 1,000, against bare SQLite", find("append", "bare", thousands), "sqlite", 0.7)
    line("with files published, against pymerkle", find("append", "published", thousands), "pymerkle", 1.0)
    line("with the absence index too, against pymerkle", find("append", "indexed", thousands), "pymerkle", 0.25)
    single = "durable append, batches of 1"
    alone = next(
        (r for r in rows if (r["group"], r["layer"], r.get("batch")) == ("append", "bare", 1) and r["what"] == single),
        None,
    )
    line("single durable append, against pymerkle", alone, "pymerkle", 2.5)
    line("bare log, rate when large over rate when small", find("growth", "bare", thousands), "small", 0.75)
    line("published, rate when large over rate when small", find("growth", "published", thousands), "small", 0.75)
    line(
        "whole signed path, entries/s in batches of 1,000",
        find("signed", "ledger", "whole signed path, batches of 1,000"),
        None,
        2000,
    )
    cold = find("proofs", "published", "inclusion proof, first")
    line("first inclusion proof, times faster than pymerkle's", cold, "pymerkle", 100)
    line("later inclusion proofs, ms", find("proofs", "published", "inclusion proof, later"), None, 0.05, most=True)
    line("reopen, ms", find("proofs", "published", "reopen"), None, 5.0, most=True)
    line("reopen, times faster than pymerkle", find("proofs", "published", "reopen"), "pymerkle", 100)
    return lines
