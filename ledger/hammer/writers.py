"""Writers: processes that append small pictures to a ledger and report each acknowledgement. What they log stays."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...schemas.errors import PlausibleError

MODEL = "hammer"
_BATCH = 20


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Entries that one writer was told are witnessed: (index, leaf hash) each, and the seconds the first one took."""

    entries: tuple[tuple[int, bytes], ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Died:
    """A writer ended with an error."""

    message: str


def manifest() -> dict[str, Any]:
    """What the pictures are said to be made by."""
    from ..entries.digests import model_manifest

    sampling = {"output_range": [0, 255], "rounding": "mul255_add0.5_floor"}
    return model_manifest("hammer", {"latent": 1}, sampling, [("w", "float32", [1], bytes(32))])


class Writers:
    """`count` writer processes on one ledger directory; together they stop after `goal` entries (None: when told)."""

    def __init__(self, path: Path, count: int, goal: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        self._left = context.Value("q", -1 if goal is None else goal)
        self._told = context.Queue(1000)
        self._processes = [
            context.Process(target=_write, args=(str(path), number, self._left, self._stop, self._told), daemon=True)
            for number in range(count)
        ]
        for process in self._processes:
            process.start()

    def heard(self) -> list[Acknowledged | Died]:
        """What they reported since the last call."""
        found: list[Acknowledged | Died] = []
        while not self._told.empty():
            found.append(self._told.get())
        return found

    @property
    def alive(self) -> bool:
        """Whether any of them still runs."""
        return any(process.is_alive() for process in self._processes)

    def dead(self) -> list[int]:
        """Exit codes of those that were killed or crashed without saying why."""
        return [process.exitcode for process in self._processes if process.exitcode not in (None, 0)]

    def stop(self) -> None:
        """Have them finish what they wait for and end."""
        self._stop.set()

    def kill(self) -> None:
        """End them at once."""
        for process in self._processes:
            if process.is_alive():
                process.kill()
            process.join(10)
        self._told.close()
        self._told.cancel_join_thread()


def _write(path: str, number: int, left: Any, stop: Any, told: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which tells us
    try:
        _append_until(path, number, left, stop, told)
    except PlausibleError as error:
        told.put(Died(f"writer {number}: {error}"))


def _append_until(path: str, number: int, left: Any, stop: Any, told: Any) -> None:
    import numpy as np

    from ..ledger import Ledger

    rng = np.random.default_rng([number, os.getpid(), time.time_ns()])
    with Ledger.open(path) as ledger:
        while not stop.is_set() and (count := _take(left)):
            began = time.monotonic()
            pictures = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
            receipts = [ledger.append(image=picture, model=MODEL) for picture in pictures]
            done: list[tuple[int, bytes]] = []
            for receipt in receipts:
                receipt.wait("witnessed", 120)

                done.append((receipt.index or 0, receipt.leaf or b""))
            told.put(Acknowledged(tuple(done), time.monotonic() - began))


def _take(left: Any) -> int:
    """How many entries this writer makes next; 0 when the goal is shared out."""
    with left.get_lock():
        if left.value < 0:
            return _BATCH
        count = min(_BATCH, left.value)
        left.value -= count
        return count


__all__ = ["MODEL", "Acknowledged", "Died", "Writers", "manifest"]
