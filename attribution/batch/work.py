"""One job, whatever engine runs it: a generator inverted on a picture, as a verification would.

The function of the workers: it keeps the generators it loaded, says nothing and raises nothing. What comes back is the
job's line for the journal, or why there is none: too little memory (the job may be tried again elsewhere) or a bug.
"""

from __future__ import annotations

import math
import time
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from ...schemas.attribution import AttributionJob, RowConfirmation, RowEnvironment, RowLimits
from ...schemas.text import digest_text, format_time, now
from ..inversion import ENGINE_VERSION, RELAXED_VERSION
from ..stages.candidate import Candidate, Settings
from ..stages.candidates import invert_candidates
from ..stages.findings import CandidateFinding, ClassLimits, ConfirmationFinding
from ..stages.models import Model
from .jobs import Subject, Task

KEPT = 4
"""Generators that a worker keeps loaded."""
_models: OrderedDict[str, Model] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Done:
    """A job that ended: its line."""

    key: bytes
    line: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """A job that gave nothing: its worker died, or had too little memory, or met a bug (`detail`: the traceback)."""

    key: bytes
    kind: Literal["died", "memory", "bug"]
    reason: str
    detail: str = ""


def run_task(task: Task) -> Done | Lost:
    """Do a job."""
    try:
        began = time.perf_counter()
        asking = task.asking
        settings = Settings(asking.budget, asking.relaxed, asking.seed, asking.device, asking.threads)
        found, _ = invert_candidates(task.pixels, [_model(task.subject)], (), (), time.time(), settings)
        if found[0].finding.state == "failed" and _of_memory(found[0].finding.reason):
            return Lost(task.key, "memory", f"out of memory: {found[0].finding.reason}")
        return Done(task.key, job_of(task, found[0], time.perf_counter() - began).to_line())
    except MemoryError as error:
        return Lost(task.key, "memory", f"out of memory: {error or 'no reason given'}")
    except Exception as error:  # noqa: BLE001  (one job's bug must not end the others; its traceback is kept)
        return Lost(task.key, "bug", f"{type(error).__name__}: {error}"[:1000], traceback.format_exc())


def _of_memory(reason: str) -> bool:
    text = reason.lower()
    return "bad_alloc" in text or "out of memory" in text or "allocate memory" in text or "not enough memory" in text


def _model(subject: Subject) -> Model:
    """The model of a subject, kept with its generator; a folder that could not be loaded is looked at again."""
    model = _models.pop(subject.digest, None)
    if model is None or model.problem is not None or model.folder != subject.folder:
        model = Model(subject.digest, subject.name, subject.folder)
    _models[subject.digest] = model
    while len(_models) > KEPT:
        _models.popitem(last=False)
    return model


def job_of(task: Task, candidate: Candidate, seconds: float) -> AttributionJob:
    """A candidate as the job's line, everything that belongs to other generators or to a name left out."""
    finding, inversion, relaxed = candidate.finding, candidate.inversion, candidate.relaxed
    measured: dict[str, object] = {}
    if inversion is not None:
        measured = {
            "agreeing_starts": inversion.diagnostics.agreeing_starts,
            "floors": _finite(inversion.floors),
            "iterations": inversion.iterations,
            "mismatches": inversion.mismatches,
            "polished_starts": inversion.diagnostics.polished_starts,
            "reducible": _finite(inversion.diagnostics.reducible),
            "rounds": inversion.rounds,
            "samples": inversion.samples,
            "square_norm": _finite(inversion.square_norm),
            "stages": {
                **inversion.seconds,
                **({} if relaxed is None else {f"change {name}": spent for name, spent in relaxed.seconds.items()}),
            },
            "starts": inversion.starts,
            "stopped": inversion.stopped,
            "whiteness": _finite(inversion.diagnostics.whiteness),
        }
    return AttributionJob.model_validate(
        {
            **measured,
            "attempts": task.attempt,
            "budget": task.asking.budget.digest,
            "calibration": finding.calibration,
            "calibrations": candidate.calibrations,
            "change": finding.change,
            "changed": _finite(finding.changed),
            "confirmations": tuple(_confirmation(told) for told in finding.confirmations),
            "conformal_p": _finite(finding.conformal_p),
            "engine": ENGINE_VERSION,
            "environment": environment(task),
            "exact": finding.exact,
            "free": finding.free,
            "free_noise": finding.free_noise,
            "guard": task.asking.budget.seconds,
            "job": digest_text(task.key),
            "mirrored": finding.mirrored,
            "limits": tuple(_limits(finding.limits)),
            "log10_lr": _finite(finding.log10_lr),
            "log10_lr_cap": _finite(finding.log10_lr_cap),
            "model": task.subject.digest,
            "pixels": task.pixels_digest,
            "reason": finding.reason,
            "relaxed": task.asking.relaxed,
            "relaxed_engine": RELAXED_VERSION,
            "residual": _finite(finding.residual),
            "resized": finding.resized,
            "seconds": seconds,
            "seed": task.asking.seed,
            "state": finding.state,
            "time": format_time(now()),
            "uncounted": finding.uncounted,
            "unlike": finding.unlike,
        }
    )


def failed_job(task: Task, reason: str) -> AttributionJob:
    """The line of a job that was given up."""
    finding = CandidateFinding(task.subject.digest, task.subject.name, False, "failed", reason)
    return job_of(task, Candidate(finding), 0.0)


def finding_of(job: AttributionJob, name: str) -> CandidateFinding:
    """The candidate that a line was written from, as the verdict's function takes it."""
    return CandidateFinding(
        model=job.model,
        name=name,
        required=False,
        state=job.state,
        reason=job.reason,
        residual=job.residual,
        exact=job.exact,
        mirrored=job.mirrored,
        uncounted=job.uncounted,
        free=job.free,
        unlike=job.unlike,
        free_noise=job.free_noise,
        resized=job.resized,
        calibration=job.calibration,
        limits={
            limit.class_name: ClassLimits(limit.denial, limit.attribution, limit.failure_bound, limit.n)
            for limit in job.limits
        },
        changed=job.changed,
        change=job.change,
        confirmations=tuple(ConfirmationFinding(**told.model_dump()) for told in job.confirmations),
        log10_lr=job.log10_lr,
        log10_lr_cap=job.log10_lr_cap,
        conformal_p=job.conformal_p,
    )


def environment(task: Task) -> RowEnvironment:
    """Where this process runs jobs."""
    threads = task.asking.threads or torch.get_num_threads()
    return RowEnvironment(device=task.asking.device, threads=threads, torch=torch.__version__)


def _confirmation(told: ConfirmationFinding) -> RowConfirmation:
    return RowConfirmation(
        change=told.change, class_name=told.class_name, differences=told.differences, exact=told.exact,
        limit=_finite(told.limit), method=told.method, samples=told.samples, statistic=float(told.statistic),
        uncounted=told.uncounted,
    )  # fmt: skip


def _limits(limits: Mapping[str, ClassLimits]) -> list[RowLimits]:
    return [
        RowLimits(
            class_name=name, denial=found.denial, attribution=found.attribution,
            failure_bound=found.failure_bound, n=found.n,
        )
        for name, found in limits.items()
    ]  # fmt: skip


def _finite(value: float | None) -> float | None:
    """A number as a table holds it: NaN and infinities are absent."""
    return None if value is None or not math.isfinite(value) else float(value)
