"""Log lines for programs: one JSON object a line, of the time, level, logger, message and named fields.

What is logged here is about the service: sizes, statuses, origins of logs, what failed. Records, prompts, pictures and
their digests are never passed to a logger; a traceback has no values of variables. Text that came from outside is
written with escapes, so a line is always one line.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any, cast

from ..schemas.errors import UsageError
from ..schemas.text import format_time, now

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
_MAX_TEXT = 4096


class JsonLines(logging.Formatter):
    """One record as one line of JSON; `extra={"fields": {...}}` adds named values."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": format_time(now()),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage()[:_MAX_TEXT],
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= {name: value for name, value in cast("dict[str, Any]", fields).items() if name not in line}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = "".join(traceback.format_exception(record.exc_info[1]))[-_MAX_TEXT:]
        return json.dumps(line, ensure_ascii=True, default=str)


class TextLines(logging.Formatter):
    """The same for people: time, level, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields = getattr(record, "fields", None)
        more = ""
        if isinstance(fields, dict):
            more = "".join(f" {name}={value}" for name, value in cast("dict[str, Any]", fields).items())
        text = _printable(f"{record.levelname.lower():7} {record.name}: {record.getMessage()}{more}"[:_MAX_TEXT])
        if record.exc_info and record.exc_info[1] is not None:
            lines = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n").split("\n")
            text += "".join(f"\n    {_printable(line)}" for line in lines)
        return f"{format_time(now())} {text}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


@contextmanager
def logging_to(service: str, *, kind: str = "text", level: str = "warning", stream: IO[str] | None = None) -> (
    Generator[None]
):  # fmt: skip
    """Send log lines to standard error while the block runs; `UsageError` for an unknown format or level."""
    if kind not in FORMATS or level not in LEVELS:
        raise UsageError(f"logs are {' or '.join(FORMATS)}, of level {', '.join(LEVELS)}; not {kind!r}, {level!r}")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(service) if kind == "json" else TextLines())
    loggers = [logging.getLogger(name) for name in ("plausible", "uvicorn")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
    # uvicorn tells of its own start and stop at info, which the services say themselves
    loggers[0].setLevel(level.upper())
    loggers[1].setLevel("ERROR" if level == "error" else "WARNING")
    try:
        yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(was)


__all__ = ["FORMATS", "LEVELS", "JsonLines", "TextLines", "logging_to"]
