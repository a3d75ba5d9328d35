"""Settings files of nodes: small TOML tables of version 1 in which nothing unknown may stand."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..schemas import toml
from ..schemas.errors import EvidenceError, SetupError


def read_table(path: Path, known: Collection[str], missing: str) -> dict[str, Any]:
    """A file's table of `version` 1 with no keys but `known`, or a `SetupError`: `missing` if it is not there."""
    try:
        with path.open("rb") as file:
            table = toml.decode(file.read(toml.MAX_TOML_BYTES + 1), str(path))
    except FileNotFoundError:
        raise SetupError(missing) from None
    except EvidenceError as error:
        raise SetupError(str(error)) from None
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}") from None
    if unknown := sorted(set(table) - {"version", *known}):
        raise SetupError(f"{path} says something unknown: {', '.join(unknown)}")
    if table.get("version") != 1:
        raise SetupError(f"{path} has version {table.get('version')!r}; this program reads version 1")
    return table


def quoted(text: str) -> str:
    """A TOML string: JSON strings of printable text are TOML basic strings."""
    return json.dumps(text, ensure_ascii=False)
