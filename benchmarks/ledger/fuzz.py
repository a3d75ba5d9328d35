"""Mutated inputs for every parser of what others made: only the project's own error may escape, nothing hangs or grows.

    python -m benchmarks.ledger.fuzz                       # 100,000 inputs for each parser: `make fuzz`
    python -m benchmarks.ledger.fuzz -n 2000 note policy   # some of them
    python -m benchmarks.ledger.fuzz --again note 4711     # one input again, with its traceback

The corpus are artefacts of a small ledger made here, and the known answers in ../shared/vectors where they are. Each
parser runs in a process of its own, with a limit on its memory and on the CPU time of one input. Counted:

    accepted, refused     refused: by an error of the project; `reasons` are how many different texts that were
    respelt               accepted, but not how the program would write it again (formats with one spelling only)
    escaped               any other exception, a hang, or memory beyond the limit: exit 1, and the input is kept
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plausible.schemas.errors import PlausibleError

from benchmarks.ledger.mutations import Mutator
from benchmarks.ledger.parsers import Parser, make_ledger, parsers

HANG_SECONDS = 5.0
"""CPU time of one input above which it is a hang."""
MEMORY = 1 << 30
"""Address space beyond what a parser's process has when it begins."""


class Hang(BaseException):
    """Raised by the timer inside a parser; no parser catches it."""


@dataclass(slots=True)
class Outcome:
    """What happened to one parser's inputs. Times are CPU seconds, memory is in MiB."""

    parser: str
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    reasons: int = 0
    respelt: int = 0
    escaped: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    slowest_input: int = 0
    slowest_bytes: int = 0
    longest_bytes: int = 0
    memory_before: int = 0
    memory_peak: int = 0
    escapes: list[str] = field(default_factory=list[str])


def _alarm(_number: int, _frame: object) -> None:
    raise Hang


def run(parser: Parser, count: int, seed: str, keep: Path | None) -> Outcome:
    """Give a parser its first `count` inputs; those that escape are written to `keep`."""
    outcome = Outcome(parser.name, count)
    mutator = Mutator(f"{seed}/{parser.name}", parser.corpus)
    reasons: Counter[str] = Counter()
    outcome.memory_before = _peak()
    before = signal.signal(signal.SIGPROF, _alarm)
    began = time.process_time()
    try:
        for number in range(count):
            data = mutator.input(number)
            outcome.longest_bytes = max(outcome.longest_bytes, len(data))
            start = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
            try:
                again = parser.parse(data)
                signal.setitimer(signal.ITIMER_PROF, 0)
                outcome.accepted += 1
                outcome.respelt += again is not None and again != data
            except PlausibleError as error:
                signal.setitimer(signal.ITIMER_PROF, 0)
                outcome.refused += 1
                reasons[re.sub(r"[0-9]+|'[^']*'|\"[^\"]*\"", "*", str(error))[:100]] += 1
            except (Exception, Hang) as error:  # noqa: BLE001  (this is what is looked for)
                signal.setitimer(signal.ITIMER_PROF, 0)
                _escape(outcome, number, data, error, keep)
            spent = time.process_time() - start
            if spent * 1000 > outcome.slowest_ms:
                outcome.slowest_ms, outcome.slowest_input, outcome.slowest_bytes = spent * 1000, number, len(data)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    outcome.seconds = time.process_time() - began
    outcome.reasons = len(reasons)
    outcome.memory_peak = _peak()
    return outcome


def _escape(outcome: Outcome, number: int, data: bytes, error: BaseException, keep: Path | None) -> None:
    outcome.escaped += 1
    text = traceback.format_exception_only(error)[-1].strip()[:200]
    where = traceback.extract_tb(error.__traceback__)[-1]
    if len(outcome.escapes) < 20:
        outcome.escapes.append(f"input {number}: {text} ({Path(where.filename).name}:{where.lineno})")
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{outcome.parser}-{number}").write_bytes(data)


def _peak() -> int:
    """Most memory this process has had resident, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def _limit() -> None:
    """No more than `MEMORY` beyond what is mapped now: an allocation beyond it is a MemoryError, which escapes."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        mapped = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _child(ledger: str, name: str, count: int, seed: str, keep: str, told: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="plausible-fuzz-") as folder:
        parser = parsers(Path(ledger), Path(folder))[name]
        _limit()
        told.send(asdict(run(parser, count, seed, Path(keep))))


def run_apart(ledger: Path, name: str, count: int, seed: str, keep: Path) -> Outcome:
    """The same in a process of its own; one that dies has escaped too."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(str(ledger), name, count, seed, str(keep), there))
    process.start()
    there.close()
    try:
        return Outcome(**here.recv())
    except EOFError:
        process.join()
        died = f"the parser's process ended with exit code {process.exitcode}"
        return Outcome(name, count, escaped=1, escapes=[died])
    finally:
        process.join()


_COLUMNS: tuple[tuple[str, Callable[[Outcome], str]], ...] = (
    ("parser", lambda o: f"{o.parser:14}"),
    ("inputs", lambda o: f"{o.inputs:>8}"),
    ("accepted", lambda o: f"{o.accepted:>9}"),
    ("refused", lambda o: f"{o.refused:>8}"),
    ("reasons", lambda o: f"{o.reasons:>8}"),
    ("respelt", lambda o: f"{o.respelt:>8}"),
    ("escaped", lambda o: f"{o.escaped:>8}"),
    ("slowest ms", lambda o: f"{o.slowest_ms:>11.1f}"),
    ("its bytes", lambda o: f"{o.slowest_bytes:>10}"),
    ("MiB before", lambda o: f"{o.memory_before:>11}"),
    ("peak", lambda o: f"{o.memory_peak:>6}"),
    ("CPU s", lambda o: f"{o.seconds:>7.0f}"),
)


def _print(outcome: Outcome, out: Any) -> None:
    print("".join(show(outcome) for _, show in _COLUMNS), file=out, flush=True)
    for text in outcome.escapes:
        print(f"    {text}", file=out, flush=True)


def _again(ledger: Path, name: str, number: int, seed: str) -> int:
    with tempfile.TemporaryDirectory(prefix="plausible-fuzz-") as folder:
        parser = parsers(ledger, Path(folder))[name]
        data = Mutator(f"{seed}/{name}", parser.corpus).input(number)
        print(repr(data[:4000]))
        parser.parse(data)
    print("accepted")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if anything escaped or was respelt."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="PARSER", help="default: all")
    options.add_argument("-n", type=int, default=100_000, help="inputs for each parser")
    options.add_argument("--seed", default="1")
    options.add_argument(
        "--keep", type=Path, default=Path("out/fuzz"), help="where the ledger of the corpus is, and inputs that escape"
    )
    options.add_argument("--again", nargs=2, metavar=("PARSER", "NUMBER"))
    options.add_argument("--json", action="store_true", help="one document on stdout, the table on stderr")
    given = options.parse_args(arguments)
    # it stays, with its keys, so that an input of this number is the same the next time
    ledger = given.keep / "fuzz.ledger"
    if not ledger.exists():
        make_ledger(ledger)
    if given.again:
        return _again(ledger, given.again[0], int(given.again[1]), given.seed)
    known = list(parsers(ledger, given.keep))
    unknown = set(given.names) - set(known)
    if unknown:
        options.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    out = sys.stderr if given.json else sys.stdout
    widths = [len(show(Outcome("x"))) for _, show in _COLUMNS]
    print("".join(f"{title:<{w}}" if not i else f"{title:>{w}}" for i, ((title, _), w) in
                  enumerate(zip(_COLUMNS, widths, strict=True))), file=out, flush=True)  # fmt: skip
    outcomes: list[Outcome] = []
    for name in given.names or known:
        outcomes.append(run_apart(ledger, name, given.n, given.seed, given.keep))
        _print(outcomes[-1], out)
    bad = sum(outcome.escaped + outcome.respelt for outcome in outcomes)
    if given.json:
        body = {"format": "plausible.fuzz/1", "seed": given.seed, "inputs_each": given.n, "exit_code": int(bad > 0)}
        print(json.dumps({**body, "parsers": [asdict(outcome) for outcome in outcomes]}, indent=2))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
