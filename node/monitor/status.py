"""How the last look at each log ended, from the state alone. A look that is too old is not a look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...ledger.fsck import Kind
from ...schemas.text import now, parse_time
from .config import MonitorConfig
from .state import MonitorState


@dataclass(frozen=True, slots=True)
class LogStatus:
    """One log: the exit code that stands, entries checked, when it was looked at and when it was last sound."""

    origin: str
    code: int
    size: int
    time: str | None
    sound: str | None
    findings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As it stands in `pd monitor status --json`."""
        return {
            "origin": self.origin, "exit_code": self.code, "entries": self.size, "looked": self.time,
            "sound": self.sound, "findings": list(self.findings),
        }  # fmt: skip


def read_status(config: MonitorConfig, state: MonitorState, max_age: float | None = None) -> list[LogStatus]:
    """Every followed log; `max_age` in seconds (None: three polls and a minute)."""
    limit = 3 * config.poll_seconds + 60 if max_age is None else max_age
    rows: list[LogStatus] = []
    for log in config.logs:
        look = state.look(log.origin)
        size = state.checked(log.origin).edge.size
        if look is None:
            rows.append(LogStatus(log.origin, Kind.UNREAD.exit_code, size, None, None, ("it was never looked at",)))
            continue
        code, findings = look.code, look.findings
        age = (now() - parse_time(look.time)).total_seconds()
        if age > limit:
            findings = (*findings, f"the last look was {age:.0f} seconds ago: does the monitor run?")
            code = code or Kind.UNREAD.exit_code
        rows.append(LogStatus(log.origin, code, size, look.time, look.sound, findings))
    return rows


__all__ = ["LogStatus", "read_status"]
