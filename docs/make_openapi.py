"""Write docs/openapi/*.json from node/openapi.py: `python docs/make_openapi.py` (`--check` only compares)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from plausible.node.openapi import SERVICES, document

FOLDER = Path(__file__).resolve().parent / "openapi"


def text(service: str) -> str:
    """The file of a service."""
    return json.dumps(document(service), indent=1, ensure_ascii=True) + "\n"


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` name those that differ and return 1."""
    stale = 0
    FOLDER.mkdir(exist_ok=True)
    for service in SERVICES:
        path = FOLDER / f"{service}.json"
        if not path.exists() or path.read_text(encoding="utf-8") != text(service):
            stale += 1
            print(f"{path.name}: {'differs' if '--check' in arguments else 'written'}")
            if "--check" not in arguments:
                path.write_text(text(service), encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
