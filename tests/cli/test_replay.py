"""`pd replay` and `pd models calibrate` on a real generator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from plausible.attribution.calibration.document import load_calibrations


def test_a_logged_picture_comes_out_again(pd, studio) -> None:
    result = pd("replay", studio.picture(1), "--ledger", studio.ledger, "--out", "again.png")
    assert result.code == 0
    assert ": exact: all 3072 samples equal" in result.out
    again, logged = (np.asarray(PIL.Image.open(path)) for path in ("again.png", studio.picture(1)))
    assert np.array_equal(again, logged)
    found = pd("replay", studio.picture(1), "--ledger", studio.ledger, "--json").document()
    assert (found["state"], found["samples"], found["reproduces_entry"]) == ("exact", 0, True)


def test_from_evidence_alone(pd, studio) -> None:
    picture = studio.picture(2)
    assert pd("log", "prove", picture, "--ledger", studio.ledger).code == 0
    evidence = picture.with_name("2.png.tlog-proof")
    result = pd("replay", picture, "--evidence", evidence, "--models", studio.model)
    assert result.code == 2
    assert "no opening" in result.sentence()
    assert pd("log", "open", picture, "--ledger", studio.ledger).code == 0
    assert pd("replay", picture, "--evidence", evidence, "--models", studio.model).code == 0
    result = pd("replay", picture, "--evidence", evidence)
    assert result.code == 4
    assert "--models" in result.sentence()
    other = pd("replay", studio.picture(3), "--evidence", evidence, "--models", studio.model)
    assert other.code == 3
    assert "different" in other.out


def test_what_cannot_be_replayed(pd, studio, tmp_path: Path) -> None:
    picture = studio.picture(0)
    assert pd("log", "prove", picture, "--ledger", studio.ledger).code == 0
    assert pd("log", "open", picture, "--ledger", studio.ledger, "--field", "environment").code == 0
    evidence = picture.with_name("0.png.tlog-proof")
    result = pd("replay", picture, "--evidence", evidence, "--models", studio.model)
    assert result.code == 4
    assert "does not disclose latent" in result.sentence()
    weights = studio.model / "weights.safetensors"
    weights.write_bytes(b"PK\x03\x04 a torch archive")
    assert pd("log", "open", picture, "--ledger", studio.ledger, "--force").code == 0
    result = pd("replay", picture, "--evidence", evidence, "--models", studio.model)
    assert result.code == 4
    assert "pickle" in result.sentence()
    assert pd("replay", "none.png", "--ledger", studio.ledger).code in (2, 4)


def test_a_device_that_is_not_there(pd, studio) -> None:
    result = pd("replay", studio.picture(0), "--ledger", studio.ledger, "--device", "cuda:7")
    assert result.code == 4
    assert "cuda:7" in result.sentence()


def test_calibrate_writes_what_it_measured(pd, studio) -> None:
    """One own picture of one class: far too few for limits, and it says so."""
    arguments = ("models", "calibrate", studio.model, "--part", "inversion", "--own", 1, "--class", "unprocessed")
    result = pd(*arguments, "--threads", 2)
    assert result.code == 0
    assert "none" in result.out
    [found] = load_calibrations(studio.model)
    limits = found.classes["unprocessed"]
    assert (limits.n, limits.negatives, limits.denial, limits.failures) == (1, 0, None, 0)


@pytest.mark.long
def test_calibrate_with_pictures_it_did_not_make(pd, studio, tmp_path: Path) -> None:
    (tmp_path / "strangers").mkdir()
    noise = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "strangers" / "noise.png")
    arguments = ("models", "calibrate", studio.model, "--part", "inversion", "--own", 2, "--class", "unprocessed")
    assert pd(*arguments, "--negatives", "strangers", "--threads", 2).code == 0
    [found] = load_calibrations(studio.model)
    limits = found.classes["unprocessed"]
    assert (limits.n, limits.negatives) == (2, 1)
    assert max(limits.own) < min(limits.other)
    document = json.loads(next((studio.model / "calibrations").glob("inversion-*.json")).read_bytes())
    assert [row["kind"] for row in document["classes"]["unprocessed"]["negatives"]] == ["strangers"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--negatives", "absent"],
        ["--negatives", "empty"],
        ["--class", "rotated"],
        ["--own", "0"],
    ],
)
def test_calibrate_refuses_what_cannot_be(pd, studio, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    result = pd("models", "calibrate", studio.model, *arguments)
    assert result.code == 2
    assert result.sentence()


def test_calibrate_an_unknown_model(pd, studio) -> None:
    assert pd("models", "calibrate", "faces", "--ledger", studio.ledger).code == 4
    assert pd("models", "calibrate", "faces").code == 2
