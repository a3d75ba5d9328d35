"""All logs of a monitor, once or for ever: a thread for each, so that one that drips does not hide another.

A monitor holds its folder's lock: two at once would write the same evidence twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...ledger.fsck import Kind
from ...ledger.storage.lock import SequencerLock
from ...schemas.errors import PlausibleError, SetupError
from ...schemas.verdict import worst_exit
from .config import LOCK, STATE, MonitorConfig, WatchedLog, read_config
from .state import MonitorState
from .views import Finding
from .watch import Outcome, Watch

_log = logging.getLogger("plausible.monitor")
STOP_SECONDS = 20.0
Report = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Monitor:
    """An open monitor."""

    config: MonitorConfig
    state: MonitorState

    def once(self, report: Report) -> int:
        """One look at every log, side by side; the worst exit code. `SetupError` if there is nothing to follow."""
        if not self.config.logs:
            raise SetupError(f"{self.config.folder} follows no log: add one with pd monitor add")
        with ThreadPoolExecutor(len(self.config.logs), thread_name_prefix="monitor") as pool:
            codes: list[int] = []
            for outcome in pool.map(self._look, self.config.logs):
                report(outcome)
                codes.append(outcome.exit_code)
        return worst_exit(codes)

    def follow(self, report: Report, stop: threading.Event) -> int:
        """Look at every log each `poll_seconds` until `stop`; the worst of the last looks. `report` has one caller."""
        if not self.config.logs:
            raise SetupError(f"{self.config.folder} follows no log: add one with pd monitor add")
        codes: dict[str, int] = dict.fromkeys((log.origin for log in self.config.logs), Kind.UNREAD.exit_code)
        lock = threading.Lock()

        def run(log: WatchedLog) -> None:
            while not stop.is_set():
                outcome = self._look(log)
                with lock:
                    codes[log.origin] = outcome.exit_code
                    report(outcome)
                stop.wait(self.config.poll_seconds)

        threads = [
            threading.Thread(target=run, args=(log,), name=f"monitor {log.origin}", daemon=True)
            for log in self.config.logs
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        # a look may hang on a log that drips; what it stored is whole, and it is a daemon's
        end = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return worst_exit(codes.values())

    def _look(self, log: WatchedLog) -> Outcome:
        outcome = self._looked(log)
        fields = {"origin": outcome.origin, "entries": outcome.size, "exit_code": outcome.exit_code}
        _log.info("look", extra={"fields": fields})
        for finding in outcome.findings:
            _log.info("%s", finding.what, extra={"fields": {
                "origin": outcome.origin, "kind": finding.kind.value, "place": finding.place,
            }})  # fmt: skip
        return outcome

    def _looked(self, log: WatchedLog) -> Outcome:
        try:
            return Watch(self.config, log, self.state).look()
        except PlausibleError as error:
            what = str(error)
        except Exception as error:  # noqa: BLE001  a bug must not look like a log that nobody complains about
            _log.exception("looking at %s failed", log.origin)
            what = f"the monitor itself failed: {type(error).__name__}"
        return Outcome(log.origin, 0, (Finding(Kind.UNREAD, "monitor", what),))


@contextmanager
def open_monitor(where: Path) -> Generator[Monitor]:
    """The monitor of a folder or monitor.toml; `SetupError` if another process runs it."""
    config = read_config(where)
    lock = SequencerLock(config.folder / LOCK)
    if not lock.acquire():
        raise SetupError(f"another process runs the monitor in {config.folder}")
    try:
        state = MonitorState(config.folder / STATE)
        try:
            yield Monitor(config, state)
        finally:
            state.close()
    finally:
        lock.release()


__all__ = ["Monitor", "open_monitor"]
