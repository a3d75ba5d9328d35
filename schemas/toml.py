"""TOML that people wrote: read whole, with a bound, and one error for whatever is wrong with it.

`tomllib` lets more than its own error out: a number of 5,000 digits is a plain ValueError, arrays nested a thousand
deep are a RecursionError, a key of many dotted parts takes time with its square, and a long file takes a hundred times
its size in memory. So lines are bounded too.
"""

from __future__ import annotations

import tomllib
from typing import Any

from .errors import EvidenceError

MAX_TOML_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 10


def decode(data: bytes, what: str) -> dict[str, Any]:
    """The table of a TOML file; `EvidenceError` for more bytes than the bounds, and for what is not TOML."""
    if len(data) > MAX_TOML_BYTES:
        raise EvidenceError(f"{what} has more than {MAX_TOML_BYTES} bytes")
    if any(len(line) > MAX_LINE_BYTES for line in data.split(b"\n")):
        raise EvidenceError(f"{what} has a line of more than {MAX_LINE_BYTES} bytes")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{what} is not valid TOML: {str(error)[:200]}") from None
