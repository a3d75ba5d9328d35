"""How fast is the log, layer by layer, against bare SQLite and pymerkle in the same minutes?

    make bench-ledger                                            # all of it, under ten minutes, into docs/benchmarks.md
    python -m benchmarks.ledger.speed --quick                    # small logs, half a minute
    python -m benchmarks.ledger.speed --only append --peer build/peers/bin/python

Every subject is a process of its own on the same core; they take turns, round after round, so that a machine that slows
down slows down all of them. A figure is the median over rounds; a ratio is the median of each round's own ratio. All
subjects append the same entries, and all that have a root must end with the same one. `wall` is what a user waits,
disk included; `cpu` moves less on a busy machine.

pymerkle runs in a virtual environment of its own (`--peer`, which `make bench-ledger` makes); without it its rows are
left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.ledger.speed.plan import FULL, GROUPS, QUICK, run
from benchmarks.ledger.speed.table import markdown, text, write_between


def main() -> int:
    """Run, print, write; 1 with --check if a line was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small logs")
    parser.add_argument(
        "--only", nargs="*", choices=GROUPS, default=list(GROUPS), metavar="GROUP", help=", ".join(GROUPS)
    )
    parser.add_argument("--peer", type=Path, help="a Python that has pymerkle")
    parser.add_argument("--core", type=int, default=0, help="the core that all subjects run on")
    parser.add_argument("--folder", type=Path, help="where the logs are made (default: a temporary folder)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="put the table between the markers of this file")
    parser.add_argument("--check", action="store_true", help="exit 1 if a line was missed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-ledger-", dir=options.folder) as folder:
        _spread(Path(folder))
        plan = QUICK if options.quick else FULL
        result = run(plan, Path(folder), groups=options.only, peer=options.peer, core=options.core, progress=_say)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.docs is not None:
        write_between(options.docs, markdown(result))
    print(text(result))
    missed = [line["what"] for line in result["lines"] if line["met"] is False]
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed and options.check else 0


def _spread(folder: Path) -> None:
    """Let ext4 keep the subjects' folders apart (chattr +T), as it does for the folders at its root.

    Without a journal it looks, before it makes a file, at every inode deleted nearby within the last minute; a subject
    that deletes a file in every transaction would slow down all others' files.
    """
    with contextlib.suppress(OSError):
        subprocess.run(["chattr", "+T", str(folder)], check=False, capture_output=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
