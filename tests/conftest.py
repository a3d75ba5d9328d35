"""What all rooms' tests share: where the known-answer files lie, and the rule that tests use no network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Properties are about results; how long an example takes on a busy machine is not one of them.
settings.register_profile("plausible", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plausible")

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PLAUSIBLE_SHARED", ROOT.parent / "shared"))


def known_answers(name: str) -> Any:
    """The known-answer file `vectors/NAME`, parsed; skips the test, saying so, where the folder is absent."""
    path = SHARED / "vectors" / name
    if not path.is_file():
        pytest.skip(f"known answers {path} are absent; set PLAUSIBLE_SHARED to the folder that holds vectors/")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def vectors() -> Any:
    """`vectors("signed_note.json")` reads one known-answer file or skips the test."""
    return known_answers
