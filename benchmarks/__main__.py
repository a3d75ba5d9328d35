"""All measured claims of README and docs, each by its own command, one after the other on an otherwise idle machine.

    python -m benchmarks                 # those of minutes
    python -m benchmarks --long          # those of an hour too
    python -m benchmarks faces copies    # some by name

Each is a module of its own that can be run alone with its own options; this runner prints the command before each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

QUICK = {
    "verify-evidence": ("benchmarks.ledger.verify_evidence",),
    "speed": ("benchmarks.ledger.speed", "--quick"),
    "bitflips": ("benchmarks.ledger.bitflips",),
    "absence": ("benchmarks.ledger.absence",),
    "fuzz": ("benchmarks.ledger.fuzz", "-n", "2000"),
    "race": ("benchmarks.ledger.race",),
    "wrap-overhead": ("benchmarks.ledger.wrap_overhead",),
    "witness": ("benchmarks.node.witness",),
    "mirror": ("benchmarks.node.mirror",),
    "copies": ("benchmarks.attribution.copies",),
    "faces": ("benchmarks.attribution.faces",),
    "batch": ("benchmarks.attribution.batch",),
}
LONG = {
    "faults": ("benchmarks.ledger.faults", "--progress"),
    "classes": ("benchmarks.attribution.classes", "--workers", "2", "--threads", "1"),
    "calibrate": ("benchmarks.attribution.calibrate", "--workers", "2", "--threads", "1"),
}


def main() -> int:
    """Run what was asked for; the exit code is that of the first that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join([*QUICK, *LONG]))
    parser.add_argument("--long", action="store_true", help="those that take an hour too")
    options = parser.parse_args()
    known = {**QUICK, **LONG}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    chosen = options.names or list(known if options.long else QUICK)
    code = 0
    for name in chosen:
        print(f"\n== {name}: python -m {' '.join(known[name])}", flush=True)
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", *known[name]], check=False)
        print(f"== {name}: {time.monotonic() - began:.0f} s, exit {done.returncode}", flush=True)
        code = code or done.returncode
    return code


if __name__ == "__main__":
    sys.exit(main())
