"""Workers on this machine: this very process, or processes of which any may die without ending the run.

Each process has one job at a time, so that a death loses one job and everybody knows which. Workers end themselves when
the process that started them is gone, however it went.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from ...schemas.errors import SetupError
from .jobs import Task
from .work import Done, Lost, run_task

STILLBORN = 3
"""Workers in a row that die before their first job: then something is wrong with the machine."""
STARTING = 300.0
"""Seconds that a worker may take to start."""
PATIENCE = 5.0
"""Seconds that an idle worker is given to end."""


class Engine(Protocol):
    """Who runs jobs. `room` is how many more it takes now; `collect` waits for something to end."""

    deaths: int

    @property
    def room(self) -> int: ...

    def submit(self, task: Task) -> None: ...

    def collect(self, timeout: float) -> Sequence[Done | Lost]: ...

    def close(self, *, kill: bool = False) -> None: ...


class Inline:
    """No workers: jobs run in this process, which nothing protects from their memory."""

    def __init__(self) -> None:
        self.deaths = 0
        self._waiting: list[Task] = []

    @property
    def room(self) -> int:
        return 1 - len(self._waiting)

    def submit(self, task: Task) -> None:
        """Take a job; it runs when it is collected."""
        self._waiting.append(task)

    def collect(self, timeout: float) -> Sequence[Done | Lost]:
        """Run what was taken, however long it takes."""
        tasks, self._waiting = self._waiting, []
        return [run_task(task) for task in tasks]

    def close(self, *, kill: bool = False) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    began: float
    ready: bool = False
    key: bytes | None = None


class Processes:
    """`count` processes of `threads` threads each, started when the first job comes."""

    def __init__(self, count: int, threads: int | None = None) -> None:
        self.deaths = 0
        self._count = count
        self._threads = threads or max(1, (os.cpu_count() or 1) // count)
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._queue: list[Task] = []
        self._stillborn = 0

    @property
    def room(self) -> int:
        """How many more jobs there are workers for."""
        return self._count - self.busy - len(self._queue)

    @property
    def busy(self) -> int:
        """How many workers have a job."""
        return sum(worker.key is not None for worker in self._workers)

    @property
    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def submit(self, task: Task) -> None:
        """Give a job to a worker that has none, or to the next that is ready."""
        self._queue.append(task)
        while len(self._workers) < min(self._count, len(self._queue) + self.busy):
            self._workers.append(self._start())
        self._hand_out()

    def collect(self, timeout: float) -> Sequence[Done | Lost]:
        """What ended within `timeout` seconds, deaths included; `SetupError` if workers cannot even start."""
        ended: list[Done | Lost] = []
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                message: object = worker.pipe.recv()
            except (EOFError, OSError):
                ended += self._bury(worker)
                continue
            worker.ready, self._stillborn = True, 0
            if isinstance(message, Done | Lost):
                worker.key = None
                ended.append(message)
        for worker in list(self._workers):
            if not worker.ready and time.monotonic() - worker.began > STARTING:
                worker.process.kill()
        self._hand_out()
        return ended

    def close(self, *, kill: bool = False) -> None:
        """End the workers, at once if `kill`, else when they have done what they have."""
        for worker in self._workers:
            if kill:
                worker.process.kill()
            else:
                with contextlib.suppress(OSError):
                    worker.pipe.send(None)
        for worker in self._workers:
            worker.process.join(PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
            worker.process.close()
        self._workers = []

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=serve, args=(there, self._threads), daemon=True)
        with _deaf():
            process.start()
        there.close()
        return _Worker(process, here, time.monotonic())

    def _hand_out(self) -> None:
        for worker in self._workers:
            if self._queue and worker.ready and worker.key is None:
                task = self._queue[0]
                try:
                    worker.pipe.send(task)
                except OSError:
                    continue  # it died: collect will notice, and this job waits for another worker
                self._queue.pop(0)
                worker.key = task.key

    def _bury(self, worker: _Worker) -> list[Done | Lost]:
        """Take a dead worker's job back and start another worker in its place if there is work for it."""
        worker.process.join()
        code = worker.process.exitcode or 0
        worker.pipe.close()
        worker.process.close()
        self._workers.remove(worker)
        self.deaths += 1
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                raise SetupError(f"worker processes do not start: {cause(code)}")
        if self._queue:
            self._workers.append(self._start())
        return [] if worker.key is None else [Lost(worker.key, "died", f"its worker process {cause(code)}")]


def cause(code: int) -> str:
    """How a process ended, from its exit code as Python gives it."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    often = ": often too little memory" if -code == getattr(signal, "SIGKILL", 9) else ""
    return f"was ended by signal {-code} ({name}){often}"


@contextlib.contextmanager
def _deaf() -> Generator[None]:
    """Processes started meanwhile ignore Ctrl-C, which a terminal sends to all of them: the run decides."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def serve(pipe: Connection, threads: int) -> None:
    """A worker: jobs in, results out, until the other end says so or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    with contextlib.suppress(OSError, EOFError):
        pipe.send(None)
        while (task := pipe.recv()) is not None:
            pipe.send(run_task(task))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
