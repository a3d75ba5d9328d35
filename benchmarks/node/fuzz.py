"""Bodies and requests that no client sends, to every kind of endpoint of running services: each gets an answer that
the OpenAPI document names, and the service goes on.

    python -m benchmarks.node.fuzz                                  # 100,000 for each kind: `make fuzz-node`
    python -m benchmarks.node.fuzz -n 2000 --service log --kind entry

Each service is a process of its own (`pd node ...`) that holds something. Inputs are valid ones mutated (changed, cut,
doubled, deep, 4 MiB), sent plain, chunked, gzipped or broken off, over kept connections side by side; "whole requests"
are mutated heads. Meanwhile and at the end it must be alive and answer a valid request. Counted, and exit 1 if any:

    5xx         but for a 503 with Retry-After, which the document names
    unnamed     a status or content type that the document does not name
    lost        no answer, though the request was whole and not too large
    hung        no answer in 30 seconds, or a valid request that was not answered as it must be
    traces      exceptions that nobody caught, in what the service tells its operator
    memory      more than 256 MiB beyond what it had after the first inputs
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plausible.node.openapi import SERVICES

from benchmarks.ledger.mutations import Mutator
from benchmarks.node.targets import DOCUMENTS, TARGETS, Kind, Target, get
from benchmarks.node.wire import Answer, Connection

GROWTH = 256
"""MiB a service may grow: a mirror holds packages of 17 MiB, a witness requests of 128 KiB that wait."""
_NO_HTTP = b"Invalid HTTP request received."


@dataclass(slots=True)
class Outcome:
    """What one kind of endpoint did. Memory is in MiB, `slowest` in seconds."""

    service: str
    kind: str
    inputs: int
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter[int])
    """How many answers of each status; 0: cut off, as may be."""
    checks: int = 0
    slowest_check: float = 0.0
    memory_before: int = 0
    memory_peak: int = 0
    counts: Counter[str] = field(default_factory=Counter[str])
    """Faults by name."""
    faults: list[str] = field(default_factory=list[str])

    def fault(self, name: str, what: str) -> None:
        """Count a fault, and keep the first ones."""
        self.counts[name] += 1
        if self.counts[name] <= 5:
            self.faults.append(f"{name}: {what}")


class Run:
    """One kind of endpoint under fire."""

    def __init__(self, target: Target, kind: Kind, count: int, seed: str) -> None:
        self._target, self._kind = target, kind
        self._seed = f"{seed}/{target.service}/{kind.name}"
        self._mutator = Mutator(self._seed, kind.corpus)
        self._numbers = itertools.count()
        self._count = count
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._answers = next(
            (op.answers for op in SERVICES[DOCUMENTS[target.service]][1]
             if (op.method.upper(), op.path) == (kind.method, kind.path)), {})  # fmt: skip
        self.outcome = Outcome(target.service, kind.name, count)

    def go(self) -> Outcome:
        """Send everything."""
        outcome = self.outcome
        told = self._target.told.stat().st_size
        threads = [threading.Thread(target=self._send) for _ in range(self._kind.connections)]
        watch = threading.Thread(target=self._watch)
        began = time.perf_counter()
        for thread in (watch, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        outcome.seconds = time.perf_counter() - began
        self._end.set()
        watch.join()
        self._check()
        outcome.memory_peak = self._memory("VmHWM")
        if outcome.memory_peak > outcome.memory_before + GROWTH:
            outcome.fault("memory", f"{outcome.memory_before} MiB became {outcome.memory_peak}")
        with self._target.told.open("rb") as file:
            file.seek(told)
            traces = file.read().decode("utf-8", "replace").split("Traceback (most recent call last)")[1:]
        for trace in traces:
            outcome.fault("traces", " ".join(trace.split())[-300:])
        return outcome

    def _send(self) -> None:
        with Connection(self._target.port) as connection:
            while (number := next(self._numbers)) < self._count and not self._end.is_set():
                data = self._mutator.input(number)
                request, ends = self._kind.request(random.Random(f"{self._seed}/sent/{number}"), data)
                try:
                    self._judge(number, connection.ask(request, ends=ends), len(data), ends)
                except TimeoutError:
                    self._fault("hung", f"input {number} ({len(data)} bytes)")
                except OSError as error:  # nobody listens
                    self._fault("hung", f"input {number}: {error}")
                    self._end.set()
                if number == min(2000, self._count // 10):
                    self.outcome.memory_before = self._memory("VmRSS")

    def _judge(self, number: int, answer: Answer, size: int, ends: bool) -> None:
        status = answer.status
        with self._lock:
            self.outcome.statuses[status] += 1
        where = f"input {number} ({size} bytes): {status} {answer.kind} {answer.body[:120]!r}"
        if status == 0:
            if not ends and size <= self._kind.limit:
                self._fault("lost", where)
        elif status >= 500 and not (status == 503 and 503 in self._answers and answer.retry_after):
            self._fault("5xx", where)
        elif self._kind.path and not (status == 400 and answer.body == _NO_HTTP):
            named = self._answers.get(status)
            if named is None or answer.kind not in named[1]:
                self._fault("unnamed", where)

    def _fault(self, name: str, what: str) -> None:
        with self._lock:
            self.outcome.fault(name, what)

    def _watch(self) -> None:
        while not self._end.wait(1):
            self._check()

    def _check(self) -> None:
        """It is alive, and does what it is for."""
        for request, status in ((get("/healthz"), 200), self._target.valid()):
            began = time.perf_counter()
            try:
                with Connection(self._target.port) as connection:
                    answer = connection.ask(request)
                if answer.status != status:
                    self._fault("hung", f"a valid request got {answer.status} {answer.body[:200]!r}")
            except OSError as error:
                self._fault("hung", f"a valid request got no answer: {error}")
            self.outcome.slowest_check = max(self.outcome.slowest_check, time.perf_counter() - began)
        self.outcome.checks += 1

    def _memory(self, name: str) -> int:
        """MiB: resident now (VmRSS), or at most so far (VmHWM); 0 where there is no /proc."""
        path = Path(f"/proc/{self._target.process.pid}/status")
        if not path.exists():
            return 0
        return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name)) >> 10


def _line(outcome: Outcome) -> str:
    statuses = " ".join(f"{status or 'cut'}:{count}" for status, count in sorted(outcome.statuses.items()))
    return (
        f"{outcome.service:8}{outcome.kind:16}{outcome.inputs:>8}{outcome.inputs / outcome.seconds:>9,.0f}"
        f"{sum(outcome.counts.values()):>8}{outcome.slowest_check:>9.2f}{outcome.memory_before:>8}"
        f"{outcome.memory_peak:>6}  {statuses}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if there was a fault."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("-n", type=int, default=100_000, help="inputs for each kind of endpoint")
    options.add_argument("--service", choices=list(TARGETS), action="append", help="default: all")
    options.add_argument("--kind", action="append", help="default: all of the service")
    options.add_argument("--seed", default="1")
    options.add_argument("--json", action="store_true", help="one document on stdout, the table on stderr")
    given = options.parse_args(arguments)
    out = sys.stderr if given.json else sys.stdout
    columns = f"{'inputs':>8}{'each s':>9}{'faults':>8}{'slowest':>9}{'MiB':>8}{'peak':>6}  answers"
    print(f"{'service':8}{'kind':16}{columns}", file=out, flush=True)
    outcomes: list[Outcome] = []
    for service in given.service or TARGETS:
        with tempfile.TemporaryDirectory(prefix="plausible-fuzz-") as folder, TARGETS[service](Path(folder)) as target:
            for kind in target.kinds:
                if given.kind and kind.name not in given.kind:
                    continue
                outcome = Run(target, kind, given.n, given.seed).go()
                outcomes.append(outcome)
                print(_line(outcome), *(f"    {text}" for text in outcome.faults), sep="\n", file=out, flush=True)
    bad = not outcomes or any(outcome.counts for outcome in outcomes)
    if given.json:
        body: dict[str, Any] = {"format": "plausible.fuzz-node/1", "seed": given.seed, "exit_code": int(bad)}
        print(json.dumps({**body, "kinds": [asdict(outcome) for outcome in outcomes]}, indent=2))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
