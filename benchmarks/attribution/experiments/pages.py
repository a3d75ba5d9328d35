"""The generated parts of docs/experiments: tables and plots between markers, from the document a run left.

    <!-- E1:begin -->
    ... written by: python -m benchmarks.attribution E1 --docs
    <!-- E1:end -->

Everything else on a page is written by hand. A quick run is refused: its figures mean nothing.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plausible.schemas.errors import UsageError

from benchmarks.attribution.experiments.frame import FORMAT, Experiment

DOCS = Path(__file__).resolve().parents[3] / "docs" / "experiments"
FIGURES = "figures"
"""The folder beside the pages that gets the plots, as ID-NAME.svg."""


def markers(name: str) -> tuple[str, str]:
    """The lines between which the block of an id stands."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def cell(value: object) -> str:
    """A cell of a table: floats to three figures unless they are whole, text with its bars escaped."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value).replace("|", "\\|").replace("\n", " ")
    if value.is_integer() and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"


def markdown(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """One table with its title."""
    lines = [
        f"**{title}**",
        "",
        "| " + " | ".join(map(cell, header)) + " |",
        "| " + " | ".join(["---"] * len(header)) + " |",
    ]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def block(document: Mapping[str, Any], name: str) -> str:
    """What stands between the markers of an id."""
    where = document["machine"]
    told = [where["processor"], f"{where['cores']} cores", f"torch {where['torch']}", f"Python {where['python']}"]
    told += [where["accelerator"]] if "accelerator" in where else []
    rows = document["rows"]
    # in a run that went on, the clock of the last command says nothing about the work
    spent = f"{rows['n']} rows in {rows['seconds']:.0f} s" if rows["n"] else f"{document['seconds']:.0f} s"
    load = " and ".join("unknown" if value is None else str(value) for value in document["load"])
    parts = [
        f"`{document['command']}`, {document['time'][:10]}: {', '.join(told)}; {spent}; load {load} before and after."
    ]
    parts += [markdown(t["title"], t["header"], t["rows"]) for t in document["tables"] if t["block"] == name]
    for plot in document["plots"]:
        if plot["block"] == name:
            parts.append(f"![{plot['caption'] or plot['name']}]({FIGURES}/{document['ids'][0]}-{plot['name']}.svg)")
    if name == document["ids"][0]:
        parts += [f"- {note}" for note in document["notes"]]
        parts += [f"- **Not met:** {failure}" for failure in document["failures"]]
    return "\n\n".join(parts)


def fill(text: str, document: Mapping[str, Any], name: str) -> str:
    """A page with the block of an id written anew; `UsageError` if its markers are missing or not in order."""
    begin, end = markers(name)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UsageError(f"the page has not one {begin} before one {end}")
    # a function: the text may hold what would be a group's name
    return re.sub(
        f"{re.escape(begin)}.*?{re.escape(end)}",
        lambda _: f"{begin}\n{block(document, name)}\n{end}",
        text,
        flags=re.DOTALL,
    )


def write(experiment: Experiment, document: Mapping[str, Any], plots: Path, docs: Path = DOCS) -> Path:
    """Write the blocks of all ids into the experiment's page and copy its SVGs (from `plots`); the page's path."""
    if document.get("format") != FORMAT or tuple(document["ids"]) != experiment.ids:
        raise UsageError(f"the document is not one of {', '.join(experiment.ids)}")
    if document["quick"]:
        raise UsageError("a quick run's figures do not go into a page: run it without --quick")
    if experiment.page is None:
        raise UsageError(f"{experiment.name} has no page")
    page = docs / experiment.page
    text = page.read_text(encoding="utf-8")
    for name in experiment.ids:
        text = fill(text, document, name)
    drawn = [plots / f"{plot['name']}.svg" for plot in document["plots"]]
    if missing := [path for path in drawn if not path.is_file()]:
        raise UsageError(f"{missing[0]} is not there: name the folder of the run's plots with --out")
    for path in drawn:
        (docs / FIGURES).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, docs / FIGURES / f"{experiment.name}-{path.name}")
    temporary = page.with_name(page.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(page)
    return page
