"""`invert_jpeg`: is there a latent whose picture, as JPEG, is this very file? Asked of the coefficients, not of pixels.

The search minimises the least squares between the file's coefficients and those of G(z), then the dead-zone residual
with a small share of least squares (distances/jpeg): at its end stands how many coefficients lie outside what rounding
allows, "violations of n". Decoders of some dozen latents are inverted by the hundred, from a closed-form start and
random ones; larger generators one by one, from latents that an inversion of the pixels found (`starts`) or from pools
of random starts, round after round until one explains the file. Sizes must agree: a file of another size is refused,
because what was cut or resized before has other coefficients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...schemas.errors import UsageError
from ..distances.jpeg.file import JpegFile, read_jpeg
from ..distances.jpeg.forward import Forward
from ..distances.jpeg.residual import TIE, VIOLATION, Residual
from ..generators.protocol import Generator
from . import lm
from .adam import Pool, advance
from .budget import Budget
from .closed_form import closed_form
from .jpeg_rows import Ended, descend
from .network import Network
from .perceptron import Perceptron
from .preparation import settings, start_generator, time_guard

JPEG_DISTANCE = "jpeg:1"
"""Name of this distance and version of this search: what a calibration of it is keyed by."""
BATCHED = 1 << 16
"""Latents times samples of a generator up to which files are inverted side by side."""
RANDOM_STARTS = 3
BATCHED_ITERATIONS = 30
EXPLAINED = 1e-6
"""Mean squared dead-zone residual, in units of Q, at which a search ends: fewer than one violation by 0.1 in 10,000."""
PRIOR_SHARE = 3.0
"""Weight of the prior while least squares are descended, as lm_prior of a budget."""


@dataclass(frozen=True, slots=True)
class JpegInversion:
    """What one generator could do for one JPEG file. Residuals are means over coefficients, in units of Q squared."""

    generator: str
    """Model digest."""
    distance: str
    """`JPEG_DISTANCE`."""
    dead_zone: float
    least_squares: float
    violations: int
    """Coefficients of G(z) outside what rounding allows."""
    equal: int
    """Coefficients that a plain encoder writes for the published picture and that the file holds."""
    coefficients: int
    subsampling: str
    quality: int | None
    """libjpeg's quality, if the tables are its own; else zeros were given a wider interval."""
    z: NDArray[np.float64]
    square_norm: float
    starts: int
    iterations: int
    out_of_budget: bool
    seconds: float

    @property
    def loss(self) -> float:
        """What files are ranked by: the dead-zone residual with its tie-break."""
        return self.dead_zone + TIE * self.least_squares

    def __str__(self) -> str:
        return (
            f"{self.violations} of {self.coefficients} coefficients outside what rounding allows, "
            f"{self.equal} equal to those of the reproduced picture's own file"
        )


def invert_jpeg(
    data: bytes | JpegFile,
    generator: Generator,
    budget: Budget | None = None,
    *,
    seed: int = 0,
    starts: Tensor | None = None,
    search: bool = True,
    threads: int | None = None,
    device: torch.device | str = "cpu",
) -> JpegInversion:
    """Invert a baseline JPEG file of the generator's own size.

    `starts` [k, d]: latents to begin with, from an inversion of its pixels, say; without `search` there are no others.
    Deterministic in (file, generator, budget, seed, starts) up to float rounding. `EvidenceError` for bytes that are
    no baseline JPEG file, `UsageError` for a size that is not the generator's.
    """
    given = None if starts is None else [starts]
    return invert_jpegs(
        [data], generator, budget, seed=seed, starts=given, search=search, threads=threads, device=device
    )[0]


def invert_jpegs(
    files: Sequence[bytes | JpegFile],
    generator: Generator,
    budget: Budget | None = None,
    *,
    seed: int = 0,
    starts: Sequence[Tensor] | None = None,
    search: bool = True,
    threads: int | None = None,
    device: torch.device | str = "cpu",
) -> list[JpegInversion]:
    """`invert_jpeg` of many files on one generator, side by side where its Jacobians are small."""
    budget = budget or Budget()
    if not search and starts is None:
        raise UsageError("without a search there must be latents to begin with")
    read = [file if isinstance(file, JpegFile) else read_jpeg(file) for file in files]
    output = generator.output
    for file in read:
        if (file.height, file.width) != (output.height, output.width):
            raise UsageError(
                f"the JPEG file is {file.width}x{file.height}, generator {generator.name!r} makes "
                f"{output.width}x{output.height}: coefficients of another size cannot be compared"
            )
    with settings(threads):
        network = Network(generator, device)
        if not network.linearisable:
            raise UsageError(f"the Jacobian of generator {generator.name!r} does not fit: {network.dim} latents")
        problems = [_Problem(network, file) for file in read]
        if network.dim * network.samples <= BATCHED:
            return _batch(problems, seed, starts, search)
        each = [None] * len(problems) if starts is None else starts
        return [_one(p, budget, seed, given, search) for p, given in zip(problems, each, strict=True)]


class _Problem:
    """One file on one generator, in the coordinates of its residuals."""

    def __init__(self, network: Network, file: JpegFile) -> None:
        self.network = network
        self.forward = Forward(file, network.generator.output.channels, network.device)
        self.residual = Residual(self.forward)
        self.stage = _Coordinates(self)

    def losses(self, z: Tensor) -> Tensor:
        """[B]: dead zone with tie-break."""
        return self.residual.losses(self.forward.coefficients(self.network.unit(z)))

    def squares(self, z: Tensor) -> Tensor:
        """[B]: mean squared least-squares residual, differentiable."""
        return (self.forward.coefficients(self.network.unit(z)) - self.forward.target).square().mean(1)

    @torch.no_grad()
    def result(self, z: Tensor, starts: int, iterations: int, expired: bool, seconds: float) -> JpegInversion:
        """What is reported, recomputed by the owner's own module."""
        generator, forward = self.network.generator, self.forward
        picture = generator.images(z.float()[None].to(generator.device)).flatten(1).to(forward.device)
        dead, error = self.residual.parts(forward.coefficients(picture))
        equal = forward.encode(generator.sample(z[None])) == forward.target.to(torch.int32)
        return JpegInversion(
            generator=generator.digest,
            distance=JPEG_DISTANCE,
            dead_zone=float(dead.double().square().mean()),
            least_squares=float(error.double().square().mean()),
            violations=int((dead.abs() > VIOLATION).sum()),
            equal=int(equal.sum()),
            coefficients=forward.file.count,
            subsampling=forward.file.subsampling,
            quality=self.residual.quality,
            z=z.cpu().double().numpy(),
            square_norm=float(z.double().square().sum()),
            starts=starts,
            iterations=iterations,
            out_of_budget=expired,
            seconds=seconds,
        )


class _Coordinates:
    """`lm.Model`: what is fitted to zero. Least squares alone, or the dead zone with its tie-break, stacked."""

    def __init__(self, problem: _Problem) -> None:
        self.problem = problem
        self.device = problem.network.device
        self.normal = problem.network.normal
        self.dead = False

    def unit(self, z: Tensor) -> Tensor:
        """[B, M], or [B, 2 M] with the dead zone."""
        problem = self.problem
        dead, error = problem.residual.parts(problem.forward.coefficients(problem.network.unit(z)))
        return torch.cat([dead, TIE**0.5 * error], 1) if self.dead else error

    def linearise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        problem = self.problem
        picture, jacobian = problem.network.linearise(z, precise=True)
        dead, error = problem.residual.parts(problem.forward.coefficients(picture[None]))
        steep = problem.forward.linear(jacobian)
        if not self.dead:
            return error[0], steep
        stacked = torch.cat([steep * (dead != 0), TIE**0.5 * steep], 1)
        return torch.cat([dead, TIE**0.5 * error], 1)[0], stacked

    def project(self, points: Tensor) -> Tensor:
        return self.problem.network.project(points)


def _one(problem: _Problem, budget: Budget, seed: int, given: Tensor | None, search: bool) -> JpegInversion:
    """Given starts, then pools of random ones, until one explains the file or the rounds are over."""
    began = time.monotonic()
    expired = time_guard(budget)
    network, latent = problem.network, problem.network.generator.latent
    rng = start_generator(seed, network.generator.digest)
    best = torch.zeros(network.dim, device=network.device)
    best_loss, starts, iterations = float("inf"), 0, 0
    for number in range(budget.rounds * search + (given is not None)):
        if given is not None and number == 0:
            chosen = latent.project(given.to(network.device, torch.float32))
            starts += len(chosen)
        else:
            pool = Pool(problem.squares, latent, latent.draw(budget.adam_starts, rng).to(network.device))
            advance([pool], steps=budget.adam_steps, rate=budget.adam_rate, prior=budget.adam_prior, stop=expired)
            chosen = pool.best[pool.best_loss.argsort()[: max(budget.lm_starts, 1)]]
            starts += len(pool.best)
        for start in chosen:
            z, used = _descended(problem, start, budget, expired)
            iterations += used
            loss = float(problem.losses(z[None])[0])
            if loss < best_loss:
                best, best_loss = z, loss
            if loss <= EXPLAINED + TIE or expired():
                break
        if best_loss <= EXPLAINED + TIE or expired():
            break
    return problem.result(best, starts, iterations, expired(), time.monotonic() - began)


def _descended(problem: _Problem, start: Tensor, budget: Budget, expired: Callable[[], bool]) -> tuple[Tensor, int]:
    """(latent, Jacobians): least squares first, then the dead zone from where they ended."""
    model = problem.stage
    z, used = start, 0
    for dead in (False, True):
        model.dead = dead
        target = torch.zeros(problem.forward.file.count * (1 + dead), device=model.device)
        run = lm.start(model, target, z)
        goal = (EXPLAINED + TIE / 12) / 2 if dead else 0.0
        lm.advance(
            run, model, target, iterations=budget.lm_iterations, chords=budget.lm_chords, goal=goal,
            prior=0.0 if dead else PRIOR_SHARE, stop=expired,
        )  # fmt: skip
        z, used = run.z, used + run.iterations
    return z, used


class _Rows:
    """`jpeg_rows.Rows`: file and start of every row."""

    def __init__(self, problems: Sequence[_Problem], owner: Tensor, dead: bool) -> None:
        self.problems, self.owner, self.dead = problems, owner, dead
        self.network = problems[0].network
        self.target = torch.stack([p.forward.target for p in problems])
        self.reach = torch.stack([p.residual.reach for p in problems])
        # files of one table and sampling share the affine map: it is made once per kind
        self.kinds = [p.forward for p in problems]

    def _coefficients(self, pictures: Tensor, owners: Tensor, linear: bool = False) -> Tensor:
        """[B, M] by each row's own file, grouped by file kind."""
        out = torch.empty(len(pictures), self.target.shape[1], device=pictures.device)
        for kind, rows in _by_kind(self.kinds, owners):
            out[rows] = kind.linear(pictures[rows]) if linear else kind.coefficients(pictures[rows])
        return out

    def _stack(self, error: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        reach = self.reach[owners]
        dead = error - error.clamp(-reach, reach)
        return dead, torch.cat([dead, TIE**0.5 * error], 1) if self.dead else error

    def residuals(self, z: Tensor, index: Tensor) -> Tensor:
        owners = self.owner[index]
        error = self._coefficients(self.network.unit(z), owners) - self.target[owners]
        return self._stack(error, owners)[1]

    def linearise(self, z: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        owners = self.owner[index]
        count, dim = z.shape
        pictures, jacobian = self.network.linearise_many(z)
        error = self._coefficients(pictures, owners) - self.target[owners]
        steep = self._coefficients(jacobian.reshape(count * dim, -1), owners.repeat_interleave(dim), linear=True)
        steep = steep.reshape(count, dim, -1)
        dead, residual = self._stack(error, owners)
        if self.dead:
            steep = torch.cat([steep * (dead != 0)[:, None], TIE**0.5 * steep], 2)
        return residual, steep


def _by_kind(kinds: Sequence[Forward], owners: Tensor) -> list[tuple[Forward, Tensor]]:
    """(a forward model, the rows it serves): files with equal tables and sampling share one."""
    groups: dict[bytes, tuple[Forward, list[int]]] = {}
    for row, owner in enumerate(owners.tolist()):
        forward = kinds[owner]
        groups.setdefault(forward.kind, (forward, []))[1].append(row)
    return [(forward, torch.tensor(rows)) for forward, rows in groups.values()]


def _batch(
    problems: Sequence[_Problem], seed: int, given: Sequence[Tensor] | None, search: bool
) -> list[JpegInversion]:
    """Closed-form, given and random starts of every file, all in one batch; the best end of each file counts."""
    if not problems:
        return []
    began = time.monotonic()
    network = problems[0].network
    latent = network.generator.latent
    perceptron = Perceptron.of(network.generator, network.device)
    starts: list[Tensor] = []
    owners: list[int] = []
    for number, problem in enumerate(problems):
        # each file draws as if it were alone: its result does not depend on the others
        rng = start_generator(seed, network.generator.digest)
        parts = [latent.draw(RANDOM_STARTS, rng).to(network.device)] if search else []
        parts += [] if perceptron is None or not search else [closed_form(perceptron, problem.forward.picture())]
        parts += [] if given is None else [given[number].to(network.device, torch.float32)]
        starts.append(torch.cat(parts))
        owners += [number] * len(starts[-1])
    owner = torch.tensor(owners)
    first = descend(_Rows(problems, owner, False), torch.cat(starts), latent, iterations=BATCHED_ITERATIONS)
    second = descend(_Rows(problems, owner, True), first.z, latent, iterations=BATCHED_ITERATIONS)
    seconds = (time.monotonic() - began) / len(problems)
    return [
        problem.result(*_best(second, first, owner == number), expired=False, seconds=seconds)
        for number, problem in enumerate(problems)
    ]


def _best(second: Ended, first: Ended, mine: Tensor) -> tuple[Tensor, int, int]:
    """(latent, starts, Jacobians) of one file's rows."""
    rows = mine.nonzero()[:, 0]
    row = rows[int(second.loss[rows].argmin())]
    used = int((first.iterations[rows] + second.iterations[rows]).sum())
    return second.z[row], len(rows), used
