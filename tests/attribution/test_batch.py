"""Many pictures and generators as jobs: what is done once is not done again, and nothing is dropped.

An auditor with a folder relies on this: every picture has its row, and an interrupted night costs no more than the jobs
that were under way.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from plausible.attribution.batch import work
from plausible.attribution.batch.jobs import Asking, Bounds, Subject, Task, list_pictures
from plausible.attribution.batch.journal import Journal
from plausible.attribution.batch.local import Processes, cause
from plausible.attribution.batch.results import NOT_YET, parquet_schema
from plausible.attribution.batch.run import JOURNAL, RESULTS, TABLE, Summary, attribute_pictures
from plausible.attribution.calibration.document import calibrate
from plausible.attribution.inversion.budget import Budget
from plausible.attribution.lines import Lines
from plausible.attribution.stages.candidate import Candidate
from plausible.attribution.stages.findings import CandidateFinding, ClassLimits, ConfirmationFinding
from plausible.attribution.verifier import Options, Verifier
from plausible.schemas.attribution import AttributionJob, AttributionRow
from plausible.schemas.errors import EvidenceError, SetupError, UsageError

from tests.attribution.batches import ASKING, QUICK, draw, rows_in, steady
from tests.attribution.studio import model_folder


def run(pictures: Path, models: list[Path], out: Path, asking: Asking = ASKING, **more: Any) -> Summary:
    return attribute_pictures([pictures], models, out, asking=asking, **more)


def test_a_job_is_known_by_its_content(pictures: Path, models: list[Path], tmp_path: Path) -> None:
    (pictures / "below" / "copy.png").write_bytes((pictures / "0.png").read_bytes())
    out = tmp_path / "out"
    first = run(pictures, models, out)
    assert (first.pictures, first.counts.jobs, first.counts.done) == (5, 8, 8), "a picture twice is one job"
    found = rows_in(out)
    assert len(found) == 10
    copies = [row for row in found if row.path.endswith(("0.png", "copy.png"))]
    assert len({row.job for row in copies}) == 2
    assert first.exit_code == 11
    assert [row.generator for row in found if row.named] == ["g0", "g1", "g0", "g1", "g0"]
    before = (out / RESULTS).read_bytes()
    again = run(pictures, models, out)
    assert (again.counts.kept, again.counts.done) == (8, 0)
    assert (out / RESULTS).read_bytes() == before
    draw(models[1], 99, pictures / "0.png")
    changed = run(pictures, models, out)
    assert changed.counts.done == 2, "another picture under the same name is another job"
    (pictures / "below" / "copy.png").unlink()
    (pictures / "0.png").rename(pictures / "renamed.png")
    assert run(pictures, models, out).counts.done == 0
    assert run(pictures, models, out, resume=False).counts.done == 8


def test_another_question_is_another_job(pictures: Path, models: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(pictures, models[:1], out)
    assert run(pictures, models, out).counts.done == 4, "only the new generator's"
    assert run(pictures, models, out, asking=Asking(QUICK, relaxed=False, seed=1, threads=1)).counts.done == 8
    guarded = replace(QUICK, seconds=1000.0)
    assert run(pictures, models, out, asking=Asking(guarded, relaxed=False, threads=1)).counts.done == 0


def test_a_new_calibration_is_another_job(pictures: Path, tmp_path: Path) -> None:
    own = model_folder(tmp_path / "calibrated", 0, latent=4, side=12, hidden=8)
    out = tmp_path / "out"
    run(pictures, [own], out)
    assert all(row.calibration for row in rows_in(out))
    (made,) = calibrate(own, classes=["unprocessed"], n=2, budget=QUICK, threads=1)
    assert run(pictures, [own], out).counts.done == 4
    assert {(row.calibration, row.calibrations) for row in rows_in(out)} == {(None, (made.digest,))}


def test_a_torn_line_costs_its_job_alone(pictures: Path, models: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(pictures, models, out)
    before = steady(out)
    journal = out / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-40])
    assert run(pictures, models, out).counts.done == 1
    assert steady(out) == before
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], b"garbage\n", lines[1][:50] + b"\n", *lines[2:]]))
    assert run(pictures, models, out).counts.done == 1
    assert steady(out) == before
    with Journal(journal) as opened:
        assert (len(opened), opened.passed_over) == (8, 2)
        with pytest.raises(SetupError, match="another process"):
            Journal(journal)


def test_lines_are_whole_or_not_there(tmp_path: Path) -> None:
    long = b"x" * 300_000 + b"\n"
    with Lines(tmp_path / "new" / "lines") as lines:
        places = [lines.append(line) for line in (b"one\n", long, b"\n", b"three\n")]
        assert [place for place, _ in lines] == places
    with (tmp_path / "new" / "lines").open("ab") as file:
        file.write(b"torn")
    with Lines(tmp_path / "new" / "lines") as lines:
        assert [line for _, line in lines] == [b"one\n", long, b"\n", b"three\n"]
        assert lines.at(places[1]) == long
        assert lines.append(b"four\n") == places[3] + 6
        assert lines.at(places[3] + 6) == b"four\n"
        with pytest.raises(EvidenceError, match="changed by another"):
            lines.at(10**9)
        lines.clear()
        assert list(lines) == []
        lines.remove()
    assert not (tmp_path / "new" / "lines").exists()
    with pytest.raises(SetupError, match="cannot be opened"):
        Lines(tmp_path)


def test_the_later_line_of_a_job_counts(pictures: Path, models: list[Path], tmp_path: Path) -> None:
    run(pictures, models, tmp_path)
    with Journal(tmp_path / JOURNAL) as journal:
        job = AttributionJob.of_line((tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)[0])
        journal.append(bytes.fromhex(job.job[7:]), job.model_copy(update={"residual": 0.5}).to_line())
    with Journal(tmp_path / JOURNAL) as journal:
        found = journal.get(bytes.fromhex(job.job[7:]))
        assert found is not None
        assert found.residual == 0.5
        assert len(journal) == 8


def refused(folder: Path) -> list[Path]:
    """Pictures that no reader here may guess at."""
    noise = np.random.default_rng(1).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Pillow.fromarray(noise.astype(np.uint16)[..., 0] * 257).save(folder / "deep.png")
    Pillow.fromarray(noise).convert("CMYK").save(folder / "cmyk.jpg")
    (folder / "notes.txt").write_text("no picture")
    (folder / "empty.png").touch()
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:200])
    os.mkfifo(folder / "pipe")
    return [folder / name for name in ("deep.png", "cmyk.jpg", "notes.txt", "empty.png", "torn.png", "pipe")]


def read_as_they_are(folder: Path) -> list[Path]:
    """Kinds that are read, in a way that must be the verifier's own."""
    noise = np.random.default_rng(2).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    picture = Pillow.fromarray(noise)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.png", exif=exif)
    picture.quantize(16).save(folder / "palette.png")
    Pillow.fromarray(np.dstack([noise, noise[..., :1]])).save(folder / "alpha.png")
    Pillow.fromarray(np.full((12, 12, 3), 90, np.uint8)).save(folder / "flat.png")
    return [folder / name for name in ("turned.png", "palette.png", "alpha.png", "flat.png")]


def test_every_picture_has_the_verifiers_answer(pictures: Path, models: list[Path], tmp_path: Path) -> None:
    """Also those that cannot be read: same refusals, same words, and a row."""
    places = [*refused(pictures), *read_as_they_are(pictures)]
    (pictures / "0.png.tlog-proof").write_text("evidence, no picture")
    (pictures / ".hidden.png").write_text("left out")
    done = run(pictures, models, tmp_path / "out")
    assert (done.pictures, done.passed_over, done.exit_code) == (14, 1, 4)
    found = {Path(row.path).name: row for row in rows_in(tmp_path / "out")}
    with Verifier(models=models, options=Options(scope="strict", budget=QUICK, threads=1)) as verifier:
        for path in [*places, pictures / "1.png"]:
            report = verifier.verify(path)
            row = found[path.name]
            assert (row.verdict, row.line) == (str(report.verdict), report.line), path
    unread = [row for row in found.values() if row.model is None]
    assert {Path(row.path).name for row in unread} == {path.name for path in places[:6]}
    assert all(row.verdict == "incomplete" and row.reason and row.pixels is None for row in unread)
    assert "16 bits" in found["deep.png"].reason or "bits" in found["deep.png"].reason
    assert found["flat.png"].state == "skipped"


def test_bounds_and_empty_folders(pictures: Path, models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more than 3"):
        list_pictures([pictures], 3)
    with pytest.raises(UsageError, match="no pictures"):
        list_pictures([pictures / "below"])
    done = run(pictures, models, tmp_path / "out", bounds=Bounds(pixels=100))
    assert done.verdicts == {"incomplete": 4}
    with pytest.raises(UsageError, match="no generator"):
        run(pictures, [], tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / RESULTS).write_text("somebody else's")
    with pytest.raises(UsageError, match="another folder"):
        run(pictures, models, tmp_path / "other")


def test_out_of_time_is_incomplete_and_goes_on(pictures: Path, models: list[Path], tmp_path: Path) -> None:
    stopped = run(pictures, models, tmp_path / "out", seconds=0.0)
    assert (stopped.counts.done, stopped.counts.left, stopped.exit_code) == (0, 8, 4)
    assert {row.reason for row in rows_in(tmp_path / "out")} == {NOT_YET}
    assert run(pictures, models, tmp_path / "out").counts.done == 8


def test_missing_weights_are_asked_for_again(pictures: Path, tmp_path: Path) -> None:
    own = model_folder(tmp_path / "own", 0, latent=4, side=12, hidden=8)
    weights = (own / "weights.safetensors").read_bytes()
    (own / "weights.safetensors").unlink()
    done = run(pictures, [own], tmp_path / "out")
    assert done.verdicts == {"incomplete": 4}
    assert rows_in(tmp_path / "out")[0].state == "missing"
    (own / "weights.safetensors").write_bytes(weights)
    assert run(pictures, [own], tmp_path / "out").verdicts == {"attributed": 2, "inconclusive": 2}


def failing(kind: type[Exception], times: int) -> Callable[..., Any]:
    """`invert_candidates` that fails its first calls."""
    real, calls = work.invert_candidates, 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise kind("made to fail")
        return real(*arguments, **named)

    return call


def test_too_little_memory_is_tried_twice_and_recorded(
    pictures: Path, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "invert_candidates", failing(MemoryError, 2))
    done = run(pictures / "0.png", models, tmp_path / "out")
    assert (done.counts.done, done.counts.retried, done.counts.failed, done.exit_code) == (2, 1, 1, 4)
    found = rows_in(tmp_path / "out")
    assert (found[0].state, found[0].attempts) == ("failed", 2)
    assert "out of memory" in found[0].reason
    assert run(pictures / "0.png", models, tmp_path / "out").counts.done == 0, "what was given up is not tried for ever"
    assert run(pictures / "0.png", models, tmp_path / "out", retry_failed=True).exit_code == 11


def test_a_bug_has_no_result_and_ends_nothing(
    pictures: Path, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "invert_candidates", failing(ZeroDivisionError, 1))
    done = run(pictures, models, tmp_path / "out")
    assert (done.counts.done, done.exit_code) == (7, 70)
    assert "ZeroDivisionError: made to fail" in done.counts.bugs[0]
    assert run(pictures, models, tmp_path / "out").counts.done == 1


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs the extra parquet")
def test_the_table_holds_the_lines(pictures: Path, models: list[Path], tmp_path: Path) -> None:
    pyarrow_parquet: Any = importlib.import_module("pyarrow.parquet")
    (pictures / "notes.txt").write_text("no picture")
    run(pictures, models, tmp_path / "out", table=True)
    assert set(parquet_schema().names) == set(AttributionRow.model_fields)
    found = pyarrow_parquet.read_table(tmp_path / "out" / TABLE).to_pylist()
    assert len(found) == 9
    for row, line in zip(found, (tmp_path / "out" / RESULTS).read_bytes().splitlines(), strict=True):
        row["stages"] = dict(row["stages"])
        assert row == json.loads(line)
    run(pictures, models, tmp_path / "out")
    assert not (tmp_path / "out" / TABLE).exists(), "an older table beside newer lines would mislead"


def test_lines_of_another_shape_are_refused() -> None:
    for line in (b"", b"{}\n", b"[]\n", b'{"job": NaN}\n', b"\xff\n", b"[" * 100_000):
        with pytest.raises(EvidenceError):
            AttributionRow.of_line(line)


@pytest.mark.long
def test_a_killed_worker_is_counted_and_its_job_recorded(pictures: Path, models: list[Path], tmp_path: Path) -> None:
    """kill -9 of a real process, each time it has the first job; the others go on."""
    engine = Processes(1, 1)
    slow = Asking(Budget(adam_starts=64, adam_steps=100_000), relaxed=False, threads=1)
    killed: list[int] = []

    def news(phase: str, done: int, total: int, counts: Any) -> None:
        if phase == "jobs" and engine.busy and len(killed) < 2 and engine.pids[0] not in killed:
            killed.append(engine.pids[0])
            os.kill(engine.pids[0], 9)

    done = attribute_pictures([pictures / "0.png"], models[:1], tmp_path, asking=slow, engine=lambda: engine, news=news)
    assert (done.counts.deaths, done.counts.retried, done.counts.failed) == (2, 1, 1)
    row = rows_in(tmp_path)[0]
    assert row.verdict == "incomplete"
    assert "SIGKILL" in row.reason
    assert not engine.pids


def test_a_line_carries_all_that_the_verdict_is_made_of() -> None:
    """A field of a candidate that a line forgets would let batches answer otherwise than verifications."""
    limits = {"unprocessed": ClassLimits(1e-6, None, 0.03, 100), "jpeg": ClassLimits(2e-6, 3e-6, 0.1, 29)}
    told = ConfirmationFinding("chain:1", "cropped", "crop", 1.1, 40, 10980, uncounted="norm", limit=1.2)
    whole = CandidateFinding(
        "sha256:" + 64 * "1", "faces", False, "inverted", reason="why", residual=0.1, exact=True,
        mirrored=True, uncounted="norm", free="with noise", resized=True, free_noise=7, unlike="464",
        calibration="none",
        limits=limits, changed=0.2, change="mirror", confirmations=(told,),
        log10_lr=1.5, log10_lr_cap=2.5, conformal_p=0.25,
    )  # fmt: skip
    elsewhere = {"required", "author", "searches", "again"}
    names = {field.name for field in fields(CandidateFinding)} - elsewhere
    plain = CandidateFinding("", "", False, "missing")
    assert not {name for name in names if getattr(whole, name) == getattr(plain, name)}, "a new field: carry it"
    pixels = np.zeros((2, 2, 3), np.uint8)
    subject = Subject(whole.model, whole.name, Path())
    task = Task(bytes(32), "sha256:" + 64 * "0", pixels, subject, ASKING)
    job = AttributionJob.of_line(work.job_of(task, Candidate(whole), 1.0).to_line())
    assert work.finding_of(job, "faces") == whole


def test_how_a_process_ended() -> None:
    assert "SIGSEGV" in cause(-11)
    assert "unknown" in cause(-250)
    assert cause(3) == "ended with exit code 3"
