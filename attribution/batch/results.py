"""Rows by picture, from what the journal holds: verdicts, scores, and the two files that other programs read.

Rows are derived: they can be written again from pictures and journal at any time. The verdict of a picture is that of
the verifier's own function over all generators of the run, without any log.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from ...schemas.attribution import AttributionJob, AttributionRow, Measured
from ...schemas.errors import SetupError
from ...schemas.text import digest_text
from ..inversion import ENGINE_VERSION, RELAXED_VERSION
from ..scoring.scores import pair_score, scores
from ..stages.decide import decide
from ..stages.findings import CandidateFinding, Decision, Findings
from ..stages.probe import SCOPES
from .jobs import Asking, Picture, Subject
from .work import finding_of

ROWS_AT_ONCE = 1000
NOT_YET = "the run ended before this job: run the same command again to go on"
"""Why a job has no result, where nothing is wrong with it."""
Answer = AttributionJob | str
"""A job's line, or why there is none."""


def judge(picture: Picture, answers: Sequence[tuple[Subject, Answer]], asking: Asking) -> list[AttributionRow]:
    """The rows of one picture, one a generator in the order given; one row if the picture cannot be read."""
    asked = {
        "budget": asking.budget.digest,
        "engine": ENGINE_VERSION,
        "relaxed": asking.relaxed,
        "relaxed_engine": RELAXED_VERSION,
        "seed": asking.seed,
    }
    shown = {
        "file": None if picture.file is None else digest_text(picture.file),
        "height": picture.height,
        "path": picture.name,
        "pixels": None if picture.pixels is None else digest_text(picture.pixels),
        "width": picture.width,
    }
    found = [(subject, _finding(picture, subject, answer)) for subject, answer in answers]
    decision = _decide(picture, [finding for _, finding in found], asking)
    said = {"line": decision.line, "verdict": str(decision.verdict)}
    if picture.problem is not None:
        return [
            AttributionRow.model_validate({**asked, **shown, **said, "reason": picture.problem, "state": "skipped"})
        ]
    relative = _scores([finding for _, finding in found])
    rows: list[AttributionRow] = []
    for (subject, finding), (_, answer) in zip(found, answers, strict=True):
        measured: dict[str, Any] = {"reason": finding.reason, "state": finding.state}
        if isinstance(answer, AttributionJob) and picture.flat is None:
            # fields as they are, not as JSON: tuples stay tuples
            names = (*Measured.model_fields, "environment", "job", "time")
            measured = {name: getattr(answer, name) for name in names}
        equation, score = relative.get(subject.digest, (None, None))
        rows.append(
            AttributionRow.model_validate(
                {
                    **asked, **shown, **said, **measured,
                    "equation": equation,
                    "generator": subject.name,
                    "model": subject.digest,
                    "named": decision.model == subject.digest,
                    "score": score,
                }
            )
        )  # fmt: skip
    return rows


def _finding(picture: Picture, subject: Subject, answer: Answer) -> CandidateFinding:
    if picture.flat is not None:
        return CandidateFinding(subject.digest, subject.name, False, "skipped", picture.flat)
    if isinstance(answer, AttributionJob):
        return finding_of(answer, subject.name)
    state = "budget" if answer == NOT_YET else "failed"
    return CandidateFinding(subject.digest, subject.name, False, state, answer)


def _decide(picture: Picture, found: Sequence[CandidateFinding], asking: Asking) -> Decision:
    scope = SCOPES["relaxed" if asking.relaxed else "strict"]
    # a flat picture's candidates were not inverted: as in a verification they are no findings
    candidates = () if picture.flat is not None else tuple(found)
    return decide(Findings(trust="none", unreadable=picture.problem, flat=picture.flat, candidates=candidates), scope)


def _scores(found: Sequence[CandidateFinding]) -> dict[str, tuple[int, float]]:
    """(equation, score) by model, between generators that were inverted: Eq. 4 for two, Eq. 5 for more."""
    ready = [(finding.model, finding.residual) for finding in found if finding.residual is not None]
    if len(ready) == 2:
        (one, a), (two, b) = ready
        return {one: (4, pair_score(a, b)), two: (4, pair_score(b, a))}
    each = scores([residual for _, residual in ready])
    return {model: (5, score) for (model, _), score in zip(ready, each, strict=True) if score is not None}


# --- files ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def writing(lines: Path, table: Path | None) -> Generator[Callable[[AttributionRow], None]]:
    """A function that takes rows; both files take their names when the block ends without an error."""
    with contextlib.ExitStack() as stack:
        lines_new = stack.enter_context(_replacing(lines))
        table_new = None if table is None else stack.enter_context(_replacing(table))
        out = stack.enter_context(lines_new.open("wb"))
        columns = None if table_new is None else stack.enter_context(_columns(table_new))

        def add(row: AttributionRow) -> None:
            out.write(row.to_line())
            if columns is not None:
                columns(row)

        yield add
        out.flush()
        os.fsync(out.fileno())


@contextlib.contextmanager
def _replacing(path: Path) -> Generator[Path]:
    """A temporary name beside `path`, which becomes `path`; nothing stays of it after an error."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def parquet() -> Any:
    """The module pyarrow; `SetupError` if it is not installed."""
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise SetupError("pyarrow is not installed: pip install 'plausible-deniability[parquet]'") from error
    return pyarrow


def parquet_schema() -> Any:
    """The columns of results.parquet, by name as in the JSON Schema."""
    arrow = parquet()
    text, number, whole, truth = arrow.string(), arrow.float64(), arrow.int64(), arrow.bool_()
    limit = arrow.struct(
        [("attribution", number), ("class_name", text), ("denial", number), ("failure_bound", number), ("n", whole)]
    )
    confirmation = arrow.struct(
        [
            ("change", text), ("class_name", text), ("differences", whole), ("exact", truth), ("limit", number),
            ("method", text), ("samples", whole), ("statistic", number), ("uncounted", text),
        ]
    )  # fmt: skip
    kinds: dict[str, Any] = {
        "calibrations": arrow.list_(text),
        "confirmations": arrow.list_(confirmation),
        "environment": arrow.struct([("device", text), ("threads", whole), ("torch", text)]),
        "limits": arrow.list_(limit),
        "stages": arrow.map_(text, number),
        **dict.fromkeys(("exact", "mirrored", "named", "relaxed", "resized"), truth),
        **dict.fromkeys(_WHOLE, whole),
        **dict.fromkeys(_NUMBERS, number),
    }
    return arrow.schema([(name, kinds.get(name, text)) for name in sorted(AttributionRow.model_fields)])


_WHOLE = (
    "agreeing_starts", "attempts", "equation", "free_noise", "height", "iterations", "mismatches", "polished_starts",
    "rounds", "samples", "seed", "starts", "width",
)  # fmt: skip
_NUMBERS = (
    "changed", "conformal_p", "floors", "guard", "log10_lr", "log10_lr_cap", "reducible", "residual", "score",
    "seconds", "square_norm", "whiteness",
)  # fmt: skip


@contextlib.contextmanager
def _columns(path: Path) -> Generator[Callable[[AttributionRow], None]]:
    arrow = parquet()
    schema = parquet_schema()
    rows: list[dict[str, Any]] = []
    with arrow.parquet.ParquetWriter(str(path), schema) as writer:

        def flush() -> None:
            if rows:
                writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
                rows.clear()

        def add(row: AttributionRow) -> None:
            value = row.to_json()
            rows.append({**value, "stages": list(value["stages"].items())})
            if len(rows) >= ROWS_AT_ONCE:
                flush()

        yield add
        flush()
