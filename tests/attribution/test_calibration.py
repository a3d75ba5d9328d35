"""A calibration keeps every measurement, resumes, applies under its own key alone, and derives its limits itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.attribution.calibration.document import (
    Calibration,
    Negative,
    calibrate,
    derive,
    find_calibration,
    load_calibrations,
)
from plausible.attribution.calibration.measure import UNSAID, Row, own_jobs, run_job
from plausible.attribution.generators import load_model_folder, save_model_folder
from plausible.attribution.inversion import COEFFICIENTS_METHOD, RELAXED_VERSION, engine_name
from plausible.attribution.inversion.budget import FLOOR, Budget
from plausible.schemas import jcs
from plausible.schemas.calibration import CalibrationDocument, ClassRows
from plausible.schemas.errors import EvidenceError, PlausibleError, UsageError

from .conftest import UNIT, small_mlp

QUICK = Budget(adam_starts=4, adam_steps=20, lm_starts=2, lm_iterations=15, rounds=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator, config = small_mlp(1)
    save_model_folder(tmp_path / "small", "small", generator.module, "mlp-decoder", config, UNIT)
    return tmp_path / "small"


def noise(count: int) -> list[Negative]:
    rng = np.random.default_rng(5)
    return [
        Negative("noise", str(i), rng.integers(0, 256, (12, 12, 3), dtype=np.uint8), derivative=i == 0)
        for i in range(count)
    ]


def test_written_read_and_found_under_its_key_alone(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    done, processed = calibrate(
        folder,
        classes=["unprocessed", "jpeg"],
        n=4,
        budget=QUICK,
        threads=1,
        negatives={"unprocessed": noise(2), "jpeg": noise(1)},
        progress=lambda count, total, row: seen.append((count, total)),
        command="test",
    )
    assert seen[-1] == (11, 11)
    assert not list(folder.glob("calibrations/*.journal"))
    generator = load_model_folder(folder)
    engine = engine_name(generator)
    found = find_calibration(folder, generator.digest, QUICK, engine)
    assert found is not None
    assert found.digest == done.digest
    assert found.classes["unprocessed"].n == 4
    assert found.classes["unprocessed"].denial is None
    assert found.classes["unprocessed"].negatives == 2
    # the processed class is measured by the relaxed inversion: a document under another key
    changed = find_calibration(folder, generator.digest, QUICK, RELAXED_VERSION)
    assert changed is not None
    assert changed.digest == processed.digest
    assert (set(found.classes), set(changed.classes)) == ({"unprocessed"}, {"jpeg"})
    assert changed.classes["jpeg"].negatives == 0
    assert min(found.classes["unprocessed"].own) < 2 * FLOOR < min(found.classes["unprocessed"].other)
    assert found.mismatch(generator.digest, QUICK, engine) is None
    for other in (
        found.mismatch("sha256:" + "0" * 64, QUICK, engine),
        found.mismatch(generator.digest, Budget(rounds=1), engine),
        found.mismatch(generator.digest, QUICK, engine=engine + "x"),
        found.mismatch(generator.digest, QUICK, engine, distance="l2-feature"),
    ):
        assert other is not None
    assert find_calibration(folder, generator.digest, Budget(rounds=1), engine) is None
    (row, *_) = changed.document.classes["jpeg"].own
    assert json.dumps(row.parameters).count("quality") == 1


def test_an_interrupted_run_goes_on_and_ends_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"classes": ["unprocessed"], "n": 3, "budget": QUICK, "command": "test", "threads": 1}

    def stop(count: int, total: int, row: Row) -> None:
        if count == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(folder, progress=stop, **arguments)
    (journal,) = folder.glob("calibrations/*.journal")
    journal.write_text(journal.read_text() + '{"torn": ', encoding="utf-8")
    measured: list[str] = []
    (resumed,) = calibrate(folder, progress=lambda count, total, row: measured.append(row.name), **arguments)
    assert len(measured) == 1
    (again,) = calibrate(folder, **arguments)
    assert resumed.document.classes == again.document.classes


def test_class_by_class_nothing_is_lost(folder: Path) -> None:
    arguments: dict[str, Any] = {"n": 2, "budget": QUICK, "threads": 1}

    def stop(count: int, total: int, row: Row) -> None:
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(folder, classes=["mirror", "jpeg"], progress=stop, command="first", **arguments)
    # the class that was complete is in the document already
    (early,) = load_calibrations(folder)
    assert set(early.classes) == {"mirror"}
    (crop,) = calibrate(folder, classes=["crop"], command="second", **arguments)
    assert set(crop.classes) == {"mirror", "crop"}
    assert list(folder.glob("calibrations/*.journal"))
    measured: list[str] = []
    (whole,) = calibrate(
        folder, classes=["mirror", "jpeg"], command="first", progress=lambda a, b, row: measured.append(row.name),
        **arguments,
    )  # fmt: skip
    assert len(measured) == 1
    assert set(whole.classes) == {"mirror", "jpeg", "crop"}
    assert whole.classes["crop"].own == crop.classes["crop"].own
    assert whole.document.command == "first; second"
    assert not list(folder.glob("calibrations/*.journal"))


def test_rows_can_be_measured_again_alone(folder: Path) -> None:
    generator = load_model_folder(folder)
    (job,) = own_jobs("crop+jpeg", [12])
    first, second = (run_job(job, generator, QUICK, threads=1) for _ in range(2))
    assert first.residual == pytest.approx(second.residual, rel=1e-6)
    assert first.parameters == second.parameters


def test_worker_processes_give_the_same_rows(folder: Path) -> None:
    (one,) = calibrate(folder, classes=["unprocessed"], n=2, budget=QUICK, threads=1)
    (two,) = calibrate(folder, classes=["unprocessed"], n=2, budget=QUICK, workers=2, threads=1)
    assert np.allclose(one.classes["unprocessed"].own, two.classes["unprocessed"].own, rtol=1e-5)


def row(residual: float, **more: object) -> dict[str, object]:
    return {"exact": False, "mismatches": 1, "parameters": {}, "residual": jcs.wrap_number(residual), "seed": 1, **more}


def test_clones_count_only_where_pictures_are_unprocessed() -> None:
    own = [row(1e-6) for _ in range(29)]
    clone = row(1e-4, kind="clone", name="c", derivative=True)
    far = [row(1e-2, kind="emoji", name=str(i), derivative=False) for i in range(29)]
    rows = ClassRows.of({"own": own, "negatives": [clone, *far]})
    strict, processed = derive("unprocessed", rows), derive("jpeg", rows)
    assert strict.attribution == pytest.approx(5e-5)
    assert processed.attribution == 1e-2
    assert strict.denial == 1e-6
    assert strict.failures == 0
    assert strict.failure_bound < 0.10


def test_failures_are_counted_by_class() -> None:
    own = [row(1e-6) for _ in range(28)] + [row(3e-3)]
    far = [row(1e-2, kind="emoji", name=str(i), derivative=False) for i in range(29)]
    assert derive("unprocessed", ClassRows.of({"own": own, "negatives": far})).failures == 1
    assert derive("jpeg", ClassRows.of({"own": own, "negatives": far})).failures == 0
    # without negatives there is no attribution limit, so nothing shows that the inversion succeeds
    assert derive("jpeg", ClassRows.of({"own": own, "negatives": []})).failures == 29


def test_misuse_is_the_callers_error(folder: Path) -> None:
    with pytest.raises(UsageError, match="time guard"):
        calibrate(folder, budget=Budget(seconds=1.0))
    with pytest.raises(UsageError, match="unknown"):
        calibrate(folder, classes=["rotated"])
    with pytest.raises(UsageError, match="same kind and name"):
        calibrate(folder, classes=["jpeg"], n=0, negatives={"jpeg": [*noise(1), *noise(1)]})


def sample_document() -> bytes:
    value = {
        "budget": QUICK.to_json(),
        "classes": {"unprocessed": {"own": [row(1e-6)], "negatives": []}},
        "command": "test",
        "distance": "l2",
        "engine": "1",
        "environment": {"torch": "2"},
        "format": "plausible.calibration/1",
        "kind": "inversion",
        "model": "sha256:" + "0" * 64,
        "samples": 432,
        "time": "2026-01-01T00:00:00.000000Z",
    }
    return CalibrationDocument.of(value).to_jcs()


def test_a_good_document_parses() -> None:
    assert Calibration.parse(sample_document()).classes["unprocessed"].own == (1e-6,)


@settings(max_examples=150)
@given(st.integers(0, 10_000), st.binary(max_size=4))
def test_damaged_documents_raise_one_kind(place: int, patch: bytes) -> None:
    data = bytearray(sample_document())
    place %= len(data)
    data[place : place + len(patch)] = patch
    try:
        Calibration.parse(bytes(data))
    except PlausibleError as error:
        assert isinstance(error, EvidenceError)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"unprocessed"', b'"rotated"'),
        (b'"seed":1', b'"seed":-1'),
        (b"3eb0c6f7a0b5ed8d", b"7ff0000000000000"),
        (b"3eb0c6f7a0b5ed8d", b"bff0000000000000"),
        (b'"rounds":2', b'"rounds":0'),
        (b"plausible.calibration/1", b"plausible.calibration/2"),
    ],
)
def test_false_documents_are_refused(old: bytes, new: bytes) -> None:
    data = sample_document()
    assert old in data
    with pytest.raises(EvidenceError):
        Calibration.parse(data.replace(old, new))


def test_other_documents_of_a_folder_are_passed_over(folder: Path) -> None:
    (folder / "calibrations" / "copies.json").write_bytes(b"{}")
    assert load_calibrations(folder) == []


def test_statistics_of_a_confirmation_stand_in_a_document_of_their_own(folder: Path) -> None:
    (document,) = calibrate(
        folder, classes=[], confirmed=["jpeg"], n=2, relatives=noise(2), budget=QUICK, threads=1, command="test"
    )
    generator = load_model_folder(folder)
    assert document.engine == COEFFICIENTS_METHOD
    assert find_calibration(folder, generator.digest, QUICK, COEFFICIENTS_METHOD) is not None
    rows = document.document.classes["jpeg"]
    assert [row.derivative for row in rows.negatives] == [True, False]
    found = document.classes["jpeg"]
    assert found.negatives == 2, "a derivative's picture counts"
    assert min(found.own) < 1.1
    assert min(found.other) > 10
    # the same pictures as the class's own inversions: the seed and the quality that it draws
    again = run_job(own_jobs("jpeg", [rows.own[0].seed])[0], generator, QUICK, threads=1)
    assert jcs.unwrap_value(rows.own[0].parameters) == again.parameters


def test_pictures_of_which_a_confirmation_says_nothing_draw_no_limit() -> None:
    def row(value: float, seed: int, **more: Any) -> dict[str, Any]:
        return {
            "exact": False,
            "mismatches": 1,
            "parameters": {},
            "residual": jcs.wrap_number(value),
            "seed": seed,
            **more,
        }

    own = [row(0.5 + i / 100, i) for i in range(30)] + [row(UNSAID, 30 + i) for i in range(5)]
    others = [row(4.0 + i if i < 29 else UNSAID, i, derivative=True, kind="clone", name=str(i)) for i in range(33)]
    rows = ClassRows.model_validate({"own": own, "negatives": others}, strict=False)
    limits = derive("jpeg", rows, confirmed=True)
    assert (limits.n, limits.negatives) == (30, 29)
    assert limits.denial == pytest.approx(0.79)
    assert limits.attribution == pytest.approx(2.0)
    assert derive("jpeg", rows).attribution is None, "of residuals, derivatives are no negatives in this class"
