"""Workers of Ray: the same function on one machine or on many. Ray is the extra `ray`.

Pictures go with their jobs; model folders are read by path, so every machine of a cluster needs them at the same place,
and the same release of this package. Without an address a cluster of this machine alone is started and ended with the
run: no dashboard, no usage reports, on the loopback address.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

from ...schemas.errors import SetupError
from .jobs import Task
from .work import Done, Lost, run_task

OBJECT_STORE = 128 * 1024 * 1024
"""Bytes of shared memory of a cluster that is started here: jobs and rows are small."""

QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Who uses what is nobody's business, and a run must not depend on a network."""
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
"""For a cluster of this machine alone: Ray listens on every address unless it is told that there are no other machines
(the variable is named after the systems where that is its default). Other users of the machine need its token."""


class Ray:
    """`count` jobs at a time, each with `threads` threads."""

    def __init__(self, count: int, threads: int | None = None, address: str | None = None) -> None:
        for name, value in (QUIET if address else {**QUIET, **ALONE}).items():
            os.environ.setdefault(name, value)
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise SetupError("ray is not installed: pip install 'plausible-deniability[ray]'") from error
        self.deaths = 0
        self._ray = ray
        self._count = count
        self._threads = threads or 1
        self._running: dict[Any, bytes] = {}
        self._own = not ray.is_initialized()
        if self._own:
            self._begin(address)
        # deaths are counted here and jobs given out again by the run, as with local workers
        self._work: Any = ray.remote(max_retries=0, num_cpus=self._threads if address else 1)(work)

    def _begin(self, address: str | None) -> None:
        settings: dict[str, Any] = {"address": address} if address else {
            "address": "local", "num_cpus": self._count, "num_gpus": 0, "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
        }  # fmt: skip
        try:
            self._ray.init(log_to_driver=False, configure_logging=False, **settings)
        except (OSError, RuntimeError, ValueError) as error:
            raise SetupError(f"ray does not start: {str(error).splitlines()[0]}") from error

    @property
    def room(self) -> int:
        """How many more jobs may be under way."""
        return self._count - len(self._running)

    def submit(self, task: Task) -> None:
        """Give a job to the cluster."""
        self._running[self._work.remote(task, self._threads)] = task.key

    def collect(self, timeout: float) -> Sequence[Done | Lost]:
        """What ended within `timeout` seconds, deaths included."""
        if not self._running:
            return []
        errors = self._ray.exceptions
        ended: list[Done | Lost] = []
        for reference in self._ray.wait(list(self._running), timeout=timeout)[0]:
            key = self._running.pop(reference)
            try:
                ended.append(self._ray.get(reference))
            except errors.OutOfMemoryError:
                self.deaths += 1
                ended.append(Lost(key, "memory", "out of memory: ray ended its worker"))
            except errors.RayError as error:
                self.deaths += 1
                ended.append(Lost(key, "died", f"its ray worker was lost: {_brief(error)}"))
        return ended

    def close(self, *, kill: bool = False) -> None:
        """End what runs, and the cluster if it was started here."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running = {}
        if self._own:
            self._ray.shutdown()


def work(task: Task, threads: int) -> Done | Lost:
    """The job, in a process of Ray's."""
    import torch

    torch.set_num_threads(threads)
    return run_task(task)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
