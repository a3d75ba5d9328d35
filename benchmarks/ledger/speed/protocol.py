"""How a bench process is spoken to, and the entries all append. Standard library only: a peer's process uses it too.

One JSON object a line: {"do": NAME, ...} in, the result out. Whoever measures does it here, beside what is measured;
the parent only takes turns, so that at any moment one of them works.

Entry i is the same for every subject, so that all of them must end up with the same root.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

_POOL = random.Random(1).randbytes(1 << 20)


class Subject(Protocol):
    """Something that entries are appended to."""

    def append(self, entries: list[bytes]) -> None:
        """Store entries durably and know the root over all of them (where there is one)."""
        ...

    def size(self) -> int:
        """Entries stored so far."""
        ...

    def root(self) -> str:
        """Root over all of them, hex; "" where there is none."""
        ...

    def reopen(self) -> None:
        """From a closed store to one that knows its root again."""
        ...

    def shut(self) -> None:
        """Close the store."""
        ...


@runtime_checkable
class Prover(Protocol):
    """A subject that proves; a log that was not published does not."""

    def prove(self, index: int) -> int:
        """An inclusion proof of an entry in the whole tree, as it is handed out; returns its number of hashes."""
        ...


def entry(index: int, size: int) -> bytes:
    """Entry `index` of `size` bytes: its number and bytes from a fixed random pool."""
    start = index * 709 % (len(_POOL) - size)
    return index.to_bytes(8, "big") + _POOL[start : start + size - 8]


def pin(core: int | None) -> None:
    """Stay on one core, where the system can do that."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """(wall, CPU) seconds of a call; CPU of the whole process."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    wall = time.perf_counter() - wall
    return wall, time.process_time() - cpu


class Bench:
    """The measurements of one subject."""

    def __init__(self, subject: Subject, size: int) -> None:
        self.subject = subject
        self.entry_size = size
        self._rng = random.Random(7)

    def append(self, batch: int, count: int) -> dict[str, Any]:
        """`count` batches: wall and CPU seconds of each."""
        first = self.subject.size()
        wall: list[float] = []
        cpu: list[float] = []
        for number in range(count):
            entries = [entry(first + number * batch + place, self.entry_size) for place in range(batch)]
            seconds = timed(lambda entries=entries: self.subject.append(entries))
            wall.append(seconds[0])
            cpu.append(seconds[1])
        return {"wall": wall, "cpu": cpu}

    def fill(self, to: int, batch: int) -> dict[str, Any]:
        """Batches up to a size; nothing is measured closely."""
        began = time.perf_counter()
        while (first := self.subject.size()) < to:
            self.subject.append([entry(index, self.entry_size) for index in range(first, min(to, first + batch))])
        return {"seconds": time.perf_counter() - began, "size": self.subject.size()}

    def root(self) -> dict[str, Any]:
        """Size and root."""
        return {"size": self.subject.size(), "root": self.subject.root()}

    def reopen(self, count: int) -> dict[str, Any]:
        """Seconds from closed to a known root."""
        wall: list[float] = []
        for _ in range(count):
            self.subject.shut()
            wall.append(timed(self.subject.reopen)[0])
        return {"wall": wall}

    def prove(self, cold: int, warm: int) -> dict[str, Any]:
        """Seconds of the first proof after opening, `cold` times, and of `warm` later ones at random places."""
        if not isinstance(self.subject, Prover):
            raise TypeError(f"{type(self.subject).__name__} makes no proofs")
        prover: Prover = self.subject
        size = self.subject.size()
        first: list[float] = []
        for _ in range(cold):
            self.subject.shut()
            self.subject.reopen()
            index = self._rng.randrange(size)
            first.append(timed(lambda index=index: prover.prove(index))[0])
        places = [self._rng.randrange(size) for _ in range(64)]
        for index in places:
            prover.prove(index)
        later = [timed(lambda: prover.prove(self._rng.choice(places)))[0] for _ in range(warm)]
        return {"cold": first, "warm": later, "hashes": prover.prove(places[0])}

    def cpu(self) -> dict[str, Any]:
        """CPU seconds of this process so far."""
        return {"cpu": time.process_time()}


def serve(bench: object) -> None:
    """Answer commands on stdin until it ends."""
    for line in sys.stdin:
        command = json.loads(line)
        name = command.pop("do")
        try:
            answer = getattr(bench, name)(**command)
        except Exception as error:  # noqa: BLE001  (told to the parent, which stops)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
