"""The papers' experiments on source attribution, each by its id.

    python -m benchmarks.attribution                        # the list
    python -m benchmarks.attribution E1 --quick             # small enough to look at
    python -m benchmarks.attribution all --docs             # every one, hours
    python -m benchmarks.attribution E1 E6 --json build/run.json
    python -m benchmarks.attribution E1 --docs              # whole, and its tables into docs/experiments
    python -m benchmarks.attribution E1 --docs-from build/experiments/E1.json

An interrupted command goes on where it stopped: rows are kept beside the document it writes (FILE.jsonl). Exit 1 if an
experiment does not show what it must, 2 for wrong usage, 130 if interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch
from plausible.schemas.errors import PlausibleError, UsageError

from benchmarks.attribution.experiments import experiments, find, pages
from benchmarks.attribution.experiments.frame import Experiment, Rows, Settings, dumps, execute, stderr


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attribution",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--quick", action="store_true", help="small, about a minute each; no figure to quote")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda, where an experiment can use it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the document of the run [OUT/ID.json]")
    parser.add_argument(
        "--out", type=Path, default=Path("build/experiments"), metavar="FOLDER", help="plots, documents"
    )
    parser.add_argument("--fresh", action="store_true", help="throw away the rows that an earlier run kept")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/experiments afterwards")
    parser.add_argument("--docs-from", type=Path, metavar="FILE", help="only that, from the document of an earlier run")
    options = parser.parse_args(arguments)
    if not options.ids:
        for experiment in experiments():
            print(f"{' '.join(experiment.ids):24} {experiment.paper:8} {experiment.title}")
        return 0
    try:
        every = "all" in options.ids
        chosen = experiments() if every else list({one.name: one for one in map(find, options.ids)}.values())
        if options.docs_from is not None and (len(chosen) != 1 or options.docs or options.quick):
            raise UsageError("--docs-from takes one id and nothing that would run")
        if options.docs and options.quick:
            raise UsageError("a quick run's figures do not go into a page: --docs without --quick")
        if options.docs_from is not None:
            document = json.loads(options.docs_from.read_text(encoding="utf-8"))
            print(pages.write(chosen[0], document, options.out / chosen[0].name))
            return 0
        torch.set_num_threads(options.threads)
        return max([_run(one, options, alone=len(chosen) == 1) for one in chosen], default=0)
    except PlausibleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 4
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130


def _run(experiment: Experiment, options: argparse.Namespace, *, alone: bool) -> int:
    suffix = "-quick" if options.quick else ""
    target: Path = options.out / f"{experiment.name}{suffix}.json"
    if options.json is not None:
        target = options.json if alone else options.json.with_stem(f"{options.json.stem}-{experiment.name}")
    settings = Settings(options.quick, options.threads, options.seed, options.out, stderr, device=options.device)
    rows = Rows(target.with_suffix(".jsonl"), experiment.header(settings), fresh=options.fresh)
    if rows.resumed:
        stderr(f"{experiment.name}: {rows.resumed} rows are kept from an earlier run")
    try:
        document, outcome = execute(experiment, dataclasses.replace(settings, rows=rows))
    finally:
        rows.close()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".new")
    temporary.write_text(dumps(document, indent=1) + "\n", encoding="utf-8")
    temporary.replace(target)
    _show(document)
    if options.docs and experiment.page is not None:
        print(pages.write(experiment, document, options.out / experiment.name))
    return 1 if outcome.failures else 0


def _show(document: dict[str, Any]) -> None:
    print(f"\n{document['ids'][0]}: {document['title']} ({document['paper']})\n{document['command']}\n")
    for table in document["tables"]:
        print(pages.markdown(table["title"], table["header"], table["rows"]) + "\n")
    for name, value in document["figures"].items():
        print(f"{name}: {dumps(value)}")
    for note in document["notes"]:
        print(f"- {note}")
    for failure in document["failures"]:
        print(f"NOT MET: {failure}")


if __name__ == "__main__":
    sys.exit(main())
