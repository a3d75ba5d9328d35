"""Calibrations: measured once per (model, budget, engine version, distance), read by every verification.

`calibrate` inverts fresh own pictures of each post-processing class and pictures from elsewhere, keeps every row, and
writes one document per engine into the model folder. It is resumable: rows are appended to a journal beside the
document as they come. `Calibration` reads a document back and derives its limits (limits.py).

A limit of a processed class separates the generator from *unrelated* sources only: pictures of a clone, processed
alike, lie as near as its own do. So beyond the unprocessed class's limit a relaxed answer is at most inconclusive.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import torch

from ...schemas import jcs
from ...schemas.calibration import MAX_BYTES, CalibrationDocument, ClassRows, finite
from ...schemas.errors import EvidenceError, SetupError, UsageError
from ...schemas.text import digest_text, format_time, now
from ..generators.folder import CALIBRATIONS, load_model_folder
from ..inversion import COEFFICIENTS_METHOD, ENGINE_VERSION, RELAXED_VERSION, engine_name
from ..inversion.budget import FLOOR, Budget
from ..inversion.chain import CHAIN_METHOD
from ..inversion.encoder import load_encoder
from ..inversion.network import bfloat16_is_native
from ..lines import Lines
from ..scoring import limits
from ..scoring.likelihood import supported_ratio
from .classes import RELAXED, STRICT, Pixels, codec
from .measure import OWN, UNSAID, Job, Progress, Row, measure, own_jobs

UNPROCESSED_FAILURE = 2 * FLOOR
"""An own unprocessed picture whose residual is larger counts as a failed inversion."""
METHODS = {COEFFICIENTS_METHOD: ("jpeg", "mirror+jpeg"), CHAIN_METHOD: ("crop", "resampled", "resized")}
"""Methods of confirmation and the classes that each is measured in. Their documents hold statistics, about 1 for a true
match, and clones count among their negatives."""
FOUND = 2.0
"""The largest statistic of an own copy that was found; a search that ended elsewhere leaves ten times as much, which
says nothing of how far roundings reach, and is a failure."""


@dataclass(frozen=True, slots=True)
class Negative:
    """A picture the generator did not make, at its own size: uint8 [H, W, C]."""

    kind: str
    name: str
    pixels: Pixels
    derivative: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What one class's measurements support; residuals are MSE on [0, 1]."""

    class_name: str
    denial: float | None
    """None below 29 own pictures."""
    attribution: float | None
    """None below 29 negatives, or below 15 in a processed class."""
    failures: int
    failure_bound: float
    n: int
    negatives: int
    """Negatives behind the attribution limit."""
    own: tuple[float, ...] = field(repr=False)
    other: tuple[float, ...] = field(repr=False)

    def conformal_p(self, residual: float) -> float:
        """Share of own pictures at least as far, the probe included."""
        return limits.conformal_p(self.own, residual)

    def log10_lr(self, residual: float) -> tuple[float, float] | None:
        """(log10 likelihood ratio, cap), or None without both kinds of measurements."""
        return supported_ratio(self.own, self.other, residual)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibration as read: its key, its limits by class, and the digest of its document."""

    model: str
    budget: Budget
    engine: str
    distance: str
    digest: str
    time: str
    classes: Mapping[str, Limits]
    document: CalibrationDocument = field(repr=False)

    @property
    def confirms(self) -> bool:
        """Whether its rows are statistics of a method of confirmation."""
        return self.engine in METHODS

    @classmethod
    def parse(cls, data: bytes) -> Calibration:
        """Read a document; `EvidenceError` if it is malformed. Limits are computed from its rows."""
        document = CalibrationDocument.parse(data, limit=MAX_BYTES, what="calibration")
        unknown = sorted(set(document.classes) - set(RELAXED))
        if unknown:
            raise EvidenceError(f"the calibration has unknown classes: {', '.join(unknown)}")
        return cls(
            model=document.model,
            budget=Budget.from_json(document.budget),
            engine=document.engine,
            distance=document.distance,
            digest=digest_text(hashlib.sha256(data).digest()),
            time=document.time,
            classes={
                name: derive(name, rows, confirmed=document.engine in METHODS)
                for name, rows in document.classes.items()
            },
            document=document,
        )

    def mismatch(self, model: str, budget: Budget, engine: str = ENGINE_VERSION, distance: str = "l2") -> str | None:
        """Why this calibration does not apply under another key, in words; None if it does."""
        for name, mine, theirs in (
            ("model", self.model, model),
            ("budget", self.budget.digest, budget.digest),
            ("engine version", self.engine, engine),
            ("distance", self.distance, distance),
        ):
            if mine != theirs:
                return f"the calibration is of another {name} ({mine}, not {theirs})"
        return None


def derive(class_name: str, rows: ClassRows, confirmed: bool = False) -> Limits:
    """The limits of one class. Unprocessed, and of statistics (`confirmed`): clones count among the negatives.

    Elsewhere unrelated sources alone. Pictures of which a confirmation could say nothing count on neither side. The
    upper bound of a statistic is that of the own copies that were found (`FOUND`).
    """
    strict = confirmed or class_name in STRICT
    own = tuple(value for row in rows.own if (value := finite(row.residual)) < UNSAID or not confirmed)
    counted = [row for row in rows.negatives if strict or not row.derivative]
    other = tuple(value for row in counted if (value := finite(row.residual)) < UNSAID or not confirmed)
    attribution = limits.attribution_limit(other) if strict else limits.stranger_limit(other)
    bar = UNPROCESSED_FAILURE if class_name in STRICT else attribution
    failures = len(own) if bar is None else sum(residual > bar for residual in own)
    return Limits(
        class_name=class_name,
        denial=limits.denial_limit([value for value in own if value <= FOUND] if confirmed else own),
        attribution=attribution,
        failures=failures,
        failure_bound=limits.failure_bound(failures, len(own)),
        n=len(own),
        negatives=len(other),
        own=own,
        other=other,
    )


def load_calibrations(folder: Path | str) -> list[Calibration]:
    """The inversion calibrations of a model folder, newest first; other kinds of documents are passed over."""
    found: list[Calibration] = []
    for path in sorted((Path(folder) / CALIBRATIONS).glob("inversion-*.json")):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise SetupError(f"the calibration {path} cannot be read") from error
        found.append(Calibration.parse(data))
    return sorted(found, key=lambda c: c.time, reverse=True)


def find_calibration(
    folder: Path | str, model: str, budget: Budget, engine: str = ENGINE_VERSION, distance: str = "l2"
) -> Calibration | None:
    """The newest calibration of a folder under this key, or None."""
    for calibration in load_calibrations(folder):
        if calibration.mismatch(model, budget, engine, distance) is None:
            return calibration
    return None


def environment(device: str) -> dict[str, str]:
    """Where rows are measured: what may change a residual's last digits."""
    return {
        "codec": codec(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "jacobian": "bfloat16" if bfloat16_is_native(torch.device(device)) else "float32",
        "python": platform.python_version(),
        "system": platform.system(),
        "torch": torch.__version__,
    }


def calibrate(
    folder: Path | str,
    *,
    classes: Sequence[str] = RELAXED,
    n: int | Mapping[str, int] = 50,
    budget: Budget | None = None,
    negatives: Mapping[str, Sequence[Negative]] | None = None,
    first_seed: int = 1_000_000,
    workers: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    command: str | None = None,
    time: datetime | None = None,
    encoder: bool = False,
    confirmed: Sequence[str] = (),
    relatives: Sequence[Negative] = (),
) -> tuple[Calibration, ...]:
    """Measure a model folder's generator and write `calibrations/inversion-KEY.json`; what the documents say.

    There is a document for each engine: `invert` measures the unprocessed class, `invert_relaxed` the others. In each
    class `n` (or `n[class]`) fresh own pictures (29 and more give a denial limit), seeds from `first_seed` on, every
    class its own pictures; and `negatives[class]`. A document is written whenever a class is complete; classes it holds
    already and that are not asked for stay in it. Interrupted runs go on from their journal, which is kept until all
    classes asked for are there. `UsageError` for a budget with a time guard (rows must not depend on the machine's
    speed), and if classes at hand were measured in another environment.
    """
    budget = budget or Budget()
    if budget.seconds is not None:
        raise UsageError("a calibration needs a budget without a time guard")
    unknown = sorted({*classes, *(negatives or {})} - set(RELAXED))
    if unknown:
        raise UsageError(f"unknown post-processing classes: {', '.join(unknown)}")
    generator = load_model_folder(folder)
    jobs, derivative = _jobs(classes, n, negatives or {}, first_seed)
    total, before = len(jobs), 0
    found: list[Calibration] = []
    beside = load_encoder(folder, generator) if encoder else None
    if encoder and beside is None:
        raise UsageError(f"{folder} has no encoder: pd models train-encoder makes one")
    name = None if beside is None else beside.digest
    engines = {True: engine_name(generator, encoder=name), False: RELAXED_VERSION}
    asked = [(engine, [j for j in jobs if (j.class_name in STRICT) is strict]) for strict, engine in engines.items()]
    for method, possible in METHODS.items():
        wanted = [name for name in confirmed if name in possible]
        some, related = _jobs(wanted, n, dict.fromkeys(wanted, relatives), first_seed, method)
        asked.append((method, some))
        derivative |= related
        total += len(some)
    for engine, chosen in asked:
        if not chosen:
            continue
        key = {"budget": budget.digest, "engine": engine, "model": generator.digest, "distance": "l2"}
        target = Path(folder) / CALIBRATIONS / f"inversion-{hashlib.sha256(jcs.encode(key)).hexdigest()[:16]}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        kept = _kept(target, {job.class_name for job in chosen}, environment(device))
        document = {
            "budget": budget.to_json(),
            "classes": {} if kept is None else {name: rows.to_json() for name, rows in kept.classes.items()},
            "command": _commands(kept, command if command is not None else " ".join(sys.argv)),
            "distance": "l2",
            "engine": engine,
            "environment": environment(device),
            "format": "plausible.calibration/1",
            "kind": "inversion",
            "model": generator.digest,
            "samples": generator.output.samples,
            "time": format_time(time or now()),
        }
        with _Journal(target.with_suffix(".journal"), key) as journal:
            rows = {job.key: journal.rows[job.key] for job in chosen if job.key in journal.rows}
            names = list(dict.fromkeys(job.class_name for job in chosen))
            complete = _completed(names, chosen, rows)
            todo = [job for job in chosen if job.key not in rows]
            for row in measure(
                todo,
                folder,
                budget,
                workers=workers,
                threads=threads,
                device=device,
                digest=generator.digest,
                encoder=encoder,
            ):
                journal.append(row)
                rows[row.key] = row
                if len(now_complete := _completed(names, chosen, rows)) > len(complete) and len(rows) < len(chosen):
                    complete = now_complete
                    _write(target, document, complete, chosen, rows, derivative)
                if progress is not None:
                    progress(before + len(rows), total, row)
            before += len(chosen)
            found.append(_write(target, document, names, chosen, rows, derivative))
            journal.forget({job.key for job in chosen})
    return tuple(found)


def engine_of(class_name: str) -> str:
    """The version of the inversion that a class is measured and judged by, for generators of the dense engine."""
    return ENGINE_VERSION if class_name in STRICT else RELAXED_VERSION


def _kept(target: Path, asked: set[str], where: Mapping[str, str]) -> CalibrationDocument | None:
    """The document at hand without the classes that are measured now; None if nothing of it stays."""
    if not target.is_file():
        return None
    document = Calibration.parse(target.read_bytes()).document
    classes = {name: rows for name, rows in document.classes.items() if name not in asked}
    if not classes:
        return None
    if document.environment != dict(where):
        raise UsageError(
            f"{target.name} holds {', '.join(classes)}, measured in another environment: ask for these classes too, "
            "or move it away"
        )
    return document.model_copy(update={"classes": classes})


def _commands(kept: CalibrationDocument | None, command: str) -> str:
    """What was run for all classes of a document."""
    if kept is None or command in kept.command.split("; "):
        return command if kept is None else kept.command
    return f"{kept.command}; {command}"


def _completed(names: Sequence[str], jobs: Sequence[Job], rows: Mapping[tuple[str, str, str], Row]) -> list[str]:
    open_classes = {job.class_name for job in jobs if job.key not in rows}
    return [name for name in names if name not in open_classes]


def _write(
    target: Path,
    document: Mapping[str, Any],
    names: Sequence[str],
    jobs: Sequence[Job],
    rows: Mapping[tuple[str, str, str], Row],
    derivative: set[tuple[str, str]],
) -> Calibration:
    """Write a document with the classes it kept and those named, whole or not at all."""
    measured = {
        name: _class_rows([rows[job.key] for job in jobs if job.class_name == name], derivative) for name in names
    }
    whole = {**document, "classes": {**document["classes"], **measured}}
    data = CalibrationDocument.of(whole, what="calibration").to_jcs()
    temporary = target.with_suffix(".new")
    temporary.write_bytes(data)
    temporary.replace(target)
    return Calibration.parse(data)


def _jobs(
    classes: Sequence[str],
    n: int | Mapping[str, int],
    negatives: Mapping[str, Sequence[Negative]],
    first_seed: int,
    method: str | None = None,
) -> tuple[list[Job], set[tuple[str, str]]]:
    """All jobs, and the (kind, name) of derivatives. Seeds differ between classes, so no two share a picture."""
    jobs: list[Job] = []
    derivative: set[tuple[str, str]] = set()
    for name in classes:
        start = first_seed + RELAXED.index(name) * 100_000
        jobs += own_jobs(name, range(start, start + (n if isinstance(n, int) else n[name])), method)
        for index, negative in enumerate(negatives.get(name, ())):
            if negative.kind == OWN:
                raise UsageError("a negative cannot be of the kind 'own'")
            jobs.append(Job(name, negative.kind, negative.name, start + 50_000 + index, negative.pixels, method))
            if negative.derivative:
                derivative.add((negative.kind, negative.name))
    if len({job.key for job in jobs}) != len(jobs):
        raise UsageError("two negatives of a class have the same kind and name")
    return jobs, derivative


def _class_rows(rows: Sequence[Row], derivative: set[tuple[str, str]]) -> dict[str, Any]:
    def shared(row: Row) -> dict[str, Any]:
        return {
            "exact": row.exact,
            "mismatches": row.mismatches,
            "parameters": jcs.wrap_value(row.parameters),
            "residual": jcs.wrap_number(row.residual),
            "seed": row.seed,
        }

    return {
        "own": [shared(row) for row in rows if row.kind == OWN],
        "negatives": [
            {**shared(row), "kind": row.kind, "name": row.name, "derivative": (row.kind, row.name) in derivative}
            for row in rows
            if row.kind != OWN
        ],
    }


class _Journal:
    """Rows already measured, one JSON line each after a line with the key; a context manager."""

    def __init__(self, path: Path, key: Mapping[str, str]) -> None:
        self.rows: dict[tuple[str, str, str], Row] = {}
        self._header = json.dumps(dict(key), sort_keys=True)
        self._lines = Lines(path)
        found = [line.decode("utf-8", "replace").rstrip("\n") for _, line in self._lines]
        if found[:1] != [self._header]:
            self._lines.clear()
            self._lines.append(_line(self._header))
            return
        for line in found[1:]:
            try:
                row = Row(**cast("dict[str, Any]", json.loads(line)))
            except (ValueError, TypeError):
                continue
            self.rows[row.key] = row

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def append(self, row: Row) -> None:
        """Keep a row; on return it is on the disk."""
        self._lines.append(_line(json.dumps(asdict(row))))

    def forget(self, done: set[tuple[str, str, str]]) -> None:
        """Forget rows that a document holds now; the file goes with the last one."""
        self.rows = {key: row for key, row in self.rows.items() if key not in done}
        if not self.rows:
            self._lines.remove()
            return
        self._lines.clear()
        self._lines.append(b"".join(map(_line, [self._header, *(json.dumps(asdict(r)) for r in self.rows.values())])))


def _line(text: str) -> bytes:
    return text.encode("utf-8") + b"\n"
