"""Results as text for a terminal and as the tables of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench-ledger: begin -->", "<!-- bench-ledger: end -->"


def number(value: float) -> str:
    """Three digits that mean something."""
    if value >= 1000:
        return f"{round(value, -1 if value < 10_000 else -2):,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _ratios(row: dict[str, Any]) -> str:
    parts: list[str] = []
    for control, ratio in row["ratios"].items():
        spread = f" [{number(ratio['low'])}..{number(ratio['high'])}]" if "low" in ratio else ""
        parts.append(f"{number(ratio['median'])}x {control}{spread}")
    return "; ".join(parts)


def _cells(result: dict[str, Any]) -> list[list[str]]:
    return [
        [
            row["layer"], row["what"], row["note"], f"{number(row['median'])} {row['unit']}",
            f"{number(row['low'])}..{number(row['high'])}", str(row["n"]),
            number(row["cpu"]) if "cpu" in row else "", _ratios(row), row["command"],
        ]
        for row in result["rows"]
    ]  # fmt: skip


HEADINGS = ("layer", "what", "on", "median", "range", "n", "per CPU s", "ratio in the same round", "command")


def _line_cells(result: dict[str, Any]) -> list[list[str]]:
    words = {True: "met", False: "missed", None: "not measured"}
    return [
        [
            line["what"], f"{'at most' if line['most'] else 'at least'} {number(line['limit'])}",
            "" if line["value"] is None else number(line["value"]), words[line["met"]],
        ]
        for line in result["lines"]
    ]  # fmt: skip


def _profile_cells(result: dict[str, Any]) -> list[list[str]]:
    profile = result.get("profile")
    if profile is None:
        return []
    whole = profile["wall"]
    parts = sorted(profile["parts"].items(), key=lambda part: -part[1])
    return [[name, f"{1e6 * seconds:.0f} us", f"{100 * seconds / whole:.0f} %"] for name, seconds in parts]


def _about(result: dict[str, Any]) -> str:
    machine = result["machine"]
    before, after = machine["load_before"][0], machine["load_after"][0]
    return (
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, SQLite "
        f"{machine['sqlite']}; load {before:.1f} before and {after:.1f} after, {machine['seconds']} s in all. Subjects "
        "share one core and take turns."
    )


def markdown(result: dict[str, Any]) -> str:
    """The tables."""
    parts = [_about(result), "", *_markdown(("line", "wanted", "measured", ""), _line_cells(result)), ""]
    rows = [[*cells[:-1], f"`{cells[-1]}`"] for cells in _cells(result)]
    parts += _markdown(HEADINGS, rows)
    if profile := _profile_cells(result):
        parts += [
            "",
            "Where the time of the whole signed path goes, an entry in a batch (wall time of the writer's thread;",
        ]
        parts += [f"`{result['rows'][-1]['command'].rpartition(' ')[0]} signed`):", ""]
        parts += _markdown(("part", "time", "share"), profile)
    return "\n".join(parts)


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|" + " --- |" * len(headings)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def text(result: dict[str, Any]) -> str:
    """The same for a terminal."""
    parts = [_about(result), ""]
    for cells in _cells(result):
        layer, what, note, median, spread, n, cpu, ratios, _ = cells
        cpu = f", {cpu} per CPU s" if cpu else ""
        parts.append(f"{layer:16} {what:36} {median:>18} [{spread}] n {n}{cpu}  ({note})  {ratios}")
    parts.append("")
    parts += [f"{part:44} {time:>8} {share:>5}" for part, time, share in _profile_cells(result)]
    parts.append("")
    parts += [f"{met:12} {what}: {value} ({limit})" for what, limit, value, met in _line_cells(result)]
    return "\n".join(parts)


def write_between(path: Path, table: str) -> None:
    """Replace what stands between the markers of a file; `SystemExit` if it has none."""
    whole = path.read_text(encoding="utf-8")
    head, begin, rest = whole.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no lines {BEGIN} and {END}")
    path.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}", encoding="utf-8")
