"""Many inversions of one generator in worker processes: what calibrations and benchmarks are made of.

A `Job` says where its picture comes from: a fresh latent of the generator itself (`own`), or pixels given (`other`).
Its seed fixes latent, post-processing and random starts, so that any row can be measured again alone.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...schemas.errors import SetupError
from ..generators.folder import load_model_folder
from ..generators.protocol import Generator
from ..inversion import invert, invert_relaxed
from ..inversion.budget import Budget
from ..inversion.chain import CHAIN_METHOD, confirm_chain
from ..inversion.coefficients import confirm_relaxed
from ..inversion.encoder import LoadedEncoder, load_encoder
from .classes import RELAXED, STRICT, Pixels, apply, apply_file, decoded, to_native

OWN = "own"
UNSAID = 1e9
"""In place of a statistic where a method could say nothing of a picture."""


@dataclass(frozen=True, slots=True)
class Job:
    """One probe: `kind` is OWN, or names the source of `pixels`, uint8 [h, w, C]."""

    class_name: str
    kind: str
    name: str
    seed: int
    pixels: Pixels | None = None
    method: str | None = None
    """A method of confirmation (inversion/confirmation.py): what is measured is its statistic, no residual."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells jobs of one run apart."""
        return self.class_name, self.kind, self.name


@dataclass(frozen=True, slots=True)
class Row:
    """What one inversion gave; `parameters` of the post-processing, `seconds` of wall time by stage."""

    class_name: str
    kind: str
    name: str
    seed: int
    residual: float
    exact: bool
    mismatches: int
    samples: int
    square_norm: float
    iterations: int
    rounds: int
    agreeing: int
    stopped: str
    parameters: dict[str, Any]
    seconds: float
    stages: dict[str, float]

    @property
    def key(self) -> tuple[str, str, str]:
        """As `Job.key`."""
        return self.class_name, self.kind, self.name


def own_jobs(class_name: str, seeds: Sequence[int], method: str | None = None) -> list[Job]:
    """One job per seed: a fresh picture of the generator itself."""
    return [Job(class_name, OWN, str(seed), seed, method=method) for seed in seeds]


def own_picture(generator: Generator, seed: int) -> Pixels:
    """uint8 [H, W, C]: the generator's picture of the latent that `seed` draws."""
    z = generator.latent.draw(1, torch.Generator().manual_seed(seed))
    return generator.sample(z)[0].numpy()


def probe_of(job: Job, generator: Generator) -> Pixels:
    """The job's picture after its class of processing, in the generator's own size: what is inverted."""
    return _processed(job, generator)[0]


def _processed(job: Job, generator: Generator) -> tuple[Pixels, dict[str, Any]]:
    pixels = own_picture(generator, job.seed) if job.pixels is None else job.pixels
    rng = np.random.default_rng([job.seed, RELAXED.index(job.class_name)])
    changed, parameters = apply(job.class_name, pixels, rng)
    return to_native(changed, generator.output.height, generator.output.width), parameters


def run_job(
    job: Job,
    generator: Generator,
    budget: Budget,
    *,
    threads: int | None = None,
    device: str = "cpu",
    encoder: LoadedEncoder | None = None,
) -> Row:
    """Make the job's probe, invert it as a verification does for its class, and say what came of it.

    `invert` for unprocessed pictures, `invert_relaxed` for every other class. With an encoder `invert`
    begins at its latent.
    """
    if job.method is not None:
        return confirmed_row(job, generator, budget, threads=threads, device=device)
    probe, parameters = _processed(job, generator)
    began = time.perf_counter()
    if job.class_name in STRICT:
        starts = None if encoder is None else [encoder.starts(probe, generator)]
        result = invert(probe, [generator], budget, seed=job.seed, threads=threads, device=device, starts=starts)[0]
        exact, rounds, agreeing = result.exact, result.rounds, result.diagnostics.agreeing_starts
    else:
        result = invert_relaxed(probe, [generator], budget, seed=job.seed, threads=threads, device=device)[0]
        # a changed picture is no certificate, whatever its samples
        exact, rounds, agreeing = False, result.rounds, result.agreeing_starts
    return Row(
        class_name=job.class_name,
        kind=job.kind,
        name=job.name,
        seed=job.seed,
        residual=result.residual,
        exact=exact,
        mismatches=result.mismatches,
        samples=result.samples,
        square_norm=result.square_norm,
        iterations=result.iterations,
        rounds=rounds,
        agreeing=agreeing,
        stopped=result.stopped,
        parameters=parameters,
        seconds=time.perf_counter() - began,
        stages=result.seconds,
    )


def confirmed_row(
    job: Job, generator: Generator, budget: Budget, *, threads: int | None = None, device: str = "cpu"
) -> Row:
    """As a verification confirms a copy by the job's method: from where the relaxed inversion of its pixels ended.

    `residual` is the statistic; where nothing could be said, `UNSAID`, which no limit is drawn from.
    """
    pixels = own_picture(generator, job.seed) if job.pixels is None else job.pixels
    rng = np.random.default_rng([job.seed, RELAXED.index(job.class_name)])
    data = b""
    if job.method == CHAIN_METHOD:
        changed, parameters = apply(job.class_name, pixels, rng)
    else:
        data, parameters = apply_file(job.class_name, pixels, rng)
        changed = decoded(data)
    began = time.perf_counter()
    native = to_native(changed, generator.output.height, generator.output.width)
    relaxed = invert_relaxed(native, [generator], budget, seed=job.seed, threads=threads, device=device)[0]
    middle = time.perf_counter()
    if job.method == CHAIN_METHOD:
        found = confirm_chain(changed, generator, relaxed, budget, seed=job.seed, threads=threads, device=device)
    else:
        found = confirm_relaxed(data, generator, relaxed, threads=threads, device=device)
    right = found is not None and found.class_name == job.class_name
    return Row(
        class_name=job.class_name,
        kind=job.kind,
        name=job.name,
        seed=job.seed,
        residual=UNSAID if found is None else found.statistic,
        exact=right and found is not None and found.exact,
        mismatches=0 if found is None else found.differences,
        samples=0 if found is None else found.samples,
        square_norm=relaxed.square_norm if found is None else found.square_norm,
        iterations=relaxed.iterations,
        rounds=relaxed.rounds,
        agreeing=relaxed.agreeing_starts,
        stopped=relaxed.stopped,
        parameters=parameters,
        seconds=time.perf_counter() - began,
        stages={**relaxed.seconds, "confirmation": time.perf_counter() - middle},
    )


def measure(
    jobs: Sequence[Job],
    folder: Path | str,
    budget: Budget,
    *,
    workers: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    digest: str | None = None,
    encoder: bool = False,
) -> Iterator[Row]:
    """Rows as they are done, in no fixed order. One worker is this process; more are spawned, each with a model."""
    if workers <= 1:
        generator = load_model_folder(folder, expected_digest=digest)
        beside = load_encoder(folder, generator) if encoder else None
        for job in jobs:
            yield run_job(job, generator, budget, threads=threads, device=device, encoder=beside)
        return
    context = multiprocessing.get_context("spawn")
    settings = (str(folder), digest, budget, threads or 1, device, encoder)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=settings) as pool:
        waiting: set[Future[Row]] = {pool.submit(_work, job) for job in jobs}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise SetupError("a worker process died: too little memory, or the model folder cannot be read") from error
        finally:
            for future in waiting:
                future.cancel()


_state: dict[str, Any] = {}


def _begin(folder: str, digest: str | None, budget: Budget, threads: int, device: str, encoder: bool) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    torch.set_num_threads(threads)
    generator = load_model_folder(folder, expected_digest=digest)
    beside = load_encoder(folder, generator) if encoder else None
    _state.update(generator=generator, budget=budget, threads=threads, device=device, encoder=beside)


def _work(job: Job) -> Row:
    settings = {name: _state[name] for name in ("threads", "device", "encoder")}
    return run_job(job, _state["generator"], _state["budget"], **settings)


Progress = Callable[[int, int, Row], None]
"""(rows done, rows in all, the newest row)."""
