"""`invert_many`: many probes against the same generators, for small latents; the same answer as `invert`, in batches.

All probes of a generator descend together (batched.py). The first start of a fully connected generator is the closed
form, and most probes need no other. Random starts are added round by round where the question is open: a generator has
neither reached the floor, nor have three starts ended at one picture, nor has another generator reached the floor so
clearly that this one cannot come near it any more. A probe at the floor is handed to the bit-exact certificate. What is
reported is recomputed by the owner's own module.

The budget's Adam numbers mean nothing where the closed form is: there `lm_starts` random latents are drawn per round.
For other generators each round draws `adam_starts` latents per probe, moves them `adam_steps` Adam steps in one batch
and descends from the `lm_starts` best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...schemas.errors import UsageError
from ..generators.protocol import Generator
from .adam import Loss, Pool, advance
from .batched import Model, bounds, descend
from .boxed import certify_boxed
from .budget import FLOOR, Budget
from .closed_form import closed_form
from .engine import AGREEING_STARTS, AGREEMENT_PICTURE, AGREEMENT_RATIO
from .exact import certify, guard
from .general import model_of
from .network import Network
from .perceptron import Perceptron
from .preparation import settings, start_generator, time_guard
from .result import FLOOR_REACHED

MANY_VERSION = "many1"
"""Changes whenever the same budget may give another residual."""
SETTLED = 4.0
"""A generator at the floor settles a probe against those whose best residual is at least this many times its own."""
OPEN, AT_FLOOR, AGREED, BEATEN, LATE = range(5)
STOPPED = ("budget", "floor", "flat", "settled", "time")
"""Why a search ended: rounds were spent, the floor, three starts at one minimum, another generator, the time guard."""
MLP_BUDGET = Budget(adam_starts=3, adam_steps=0, lm_starts=3, lm_iterations=25, lm_chords=2, rounds=3)
"""For fully connected generators with some dozen latent numbers (000's auto-encoders)."""


@dataclass(frozen=True, slots=True)
class Inversions:
    """What one generator could do for each of P probes: arrays of length P unless said otherwise."""

    generator: str
    """Model digest."""
    residual: NDArray[np.float64]
    """Mean squared error on the [0, 1] scale."""
    z: NDArray[np.float32]
    """[P, d]"""
    mismatches: NDArray[np.int64]
    """Samples of `sample(z)` that are not the probe's."""
    samples: int
    exact: NDArray[np.bool_]
    """Every sample equal, by a latent that may certify (`exact.guard`)."""
    starts: NDArray[np.int64]
    iterations: NDArray[np.int64]
    """Normal matrices formed, over all starts."""
    agreeing: NDArray[np.int64]
    """Starts that ended at the reported picture, itself included."""
    stopped: tuple[str, ...]

    @property
    def floors(self) -> NDArray[np.float64]:
        """Residuals in units of the 8-bit rounding floor."""
        return self.residual / FLOOR


class _Search:
    """One generator against all probes."""

    def __init__(self, generator: Generator, targets: Tensor, budget: Budget, seed: int) -> None:
        self.generator = generator
        self.model: Model = model_of(generator, targets.device)
        self.targets, self.budget = targets, budget
        self.rng = start_generator(seed, generator.digest)
        count = len(targets)
        self.best = targets.new_full((count,), math.inf)
        self.z = targets.new_zeros(count, self.model.dim)
        self.state = torch.full((count,), OPEN, device=targets.device)
        self.starts = torch.zeros_like(self.state)
        self.iterations = torch.zeros_like(self.state)
        self.ends: list[tuple[Tensor, Tensor, Tensor]] = []
        """(probe, latent, residual) of every run that ended."""

    def first(self, given: Tensor | None, stop: Callable[[], bool]) -> None:
        """The closed form and the caller's starts; without either, a round of random ones."""
        every = torch.arange(len(self.targets), device=self.targets.device)
        any_start = False
        if isinstance(self.model, Perceptron):
            self._run(every, closed_form(self.model, self.targets), stop)
            any_start = True
        if given is not None:
            self._run(every, given.to(self.targets), stop)
            any_start = True
        if not any_start:
            self.more(every, stop)

    def more(self, probes: Tensor, stop: Callable[[], bool]) -> None:
        """A round of random starts for these probes."""
        budget, latent = self.budget, self.generator.latent
        searched = budget.adam_steps > 0 and not isinstance(self.model, Perceptron)
        count = budget.adam_starts if searched else max(1, budget.lm_starts)
        rows = probes.repeat_interleave(count)
        points = latent.draw(len(rows), self.rng).to(self.targets)
        if searched:
            points, rows = self._searched(points, rows, count, stop)
        self._run(rows, points, stop)

    def _searched(self, points: Tensor, rows: Tensor, count: int, stop: Callable[[], bool]) -> tuple[Tensor, Tensor]:
        """The `lm_starts` best points of each probe after Adam on all of them, in batches."""
        budget, kept_points, kept_rows = self.budget, list[Tensor](), list[Tensor]()
        keep = max(1, budget.lm_starts)
        for part in torch.arange(len(rows), device=rows.device).split(count * max(1, self.model.batch // count)):
            target = self.targets[rows[part]]
            pool = Pool(self._loss(target), self.generator.latent, points[part])
            advance([pool], steps=budget.adam_steps, rate=budget.adam_rate, prior=budget.adam_prior, stop=stop)
            order = pool.best_loss.reshape(-1, count).argsort(1)[:, :keep]
            chosen = (order + torch.arange(len(order), device=order.device)[:, None] * count).flatten()
            kept_points.append(pool.best[chosen])
            kept_rows.append(rows[part][chosen])
        return torch.cat(kept_points), torch.cat(kept_rows)

    def _loss(self, target: Tensor) -> Loss:
        return lambda z: (self.model.unit(z) - target).square().mean(1)

    def _run(self, rows: Tensor, points: Tensor, stop: Callable[[], bool]) -> None:
        budget = self.budget
        runs = descend(
            self.model, self.targets, rows, points, iterations=budget.lm_iterations, chords=budget.lm_chords,
            prior=budget.lm_prior, stop=stop,
        )  # fmt: skip
        self.ends.append((rows, runs.z, runs.residual))
        self.starts.index_add_(0, rows, torch.ones_like(rows))
        self.iterations.index_add_(0, rows, runs.iterations)
        lowest = self.best.scatter_reduce(0, rows, runs.residual, "amin")
        won = (runs.residual < self.best[rows]) & (runs.residual == lowest[rows])
        self.best[rows[won]], self.z[rows[won]] = runs.residual[won], runs.z[won]

    def agreeing(self, probes: Tensor) -> Tensor:
        """How many starts ended at the best picture of each of these probes."""
        found = torch.zeros_like(self.state)
        wanted = torch.zeros_like(self.state, dtype=torch.bool)
        wanted[probes] = True
        with torch.no_grad():
            for rows, z, residual in self.ends:
                near = wanted[rows] & (residual <= self.best[rows] * (1 + AGREEMENT_RATIO))
                for part in near.nonzero()[:, 0].split(self.model.batch):
                    at = rows[part]
                    apart = (self.model.unit(z[part]) - self.model.unit(self.z[at])).square().mean(1)
                    found.index_add_(0, at, (apart <= AGREEMENT_PICTURE * self.best[at]).long())
        return found[probes]


def invert_many(
    probes: NDArray[np.uint8],
    generators: Sequence[Generator],
    budget: Budget = MLP_BUDGET,
    *,
    seed: int,
    threads: int | None = None,
    device: torch.device | str = "cpu",
    starts: Sequence[Tensor | None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Inversions]:
    """Invert `probes`, uint8 [P, H, W, C] at the generators' own size, on every generator; results in their order.

    Deterministic in (probes, generators, budget, seed) up to float rounding of the machine. `starts`, for each
    generator one latent a probe [P, d] or None (an encoder's, say), come first. `budget.seconds` guards the whole call.
    `progress` gets (round, probes still open). `UsageError` for probes of another size or type.
    """
    pixels = np.array(probes, order="C")
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or not len(pixels):
        raise UsageError("probes are uint8 [count, height, width, channels], at least one")
    for generator in generators:
        size = (generator.output.height, generator.output.width, generator.output.channels)
        if pixels.shape[1:] != size:
            raise UsageError(f"the probes are {pixels.shape[1:]}, generator {generator.name!r} makes {size}")
        if 4 * generator.latent.dim**2 * len(pixels) > 1 << 32:
            raise UsageError(f"the latent of {generator.name!r} is too long for dense batches: use invert")
    expired = time_guard(budget)

    with settings(threads):
        targets = torch.from_numpy(pixels).permute(0, 3, 1, 2).flatten(1).to(device, torch.float32) / 255
        searches = [_Search(generator, targets, budget, seed) for generator in generators]
        for search, given in zip(searches, starts or [None] * len(searches), strict=True):
            search.first(given, expired)
        for number in range(budget.rounds):
            _settle(searches)
            if number == budget.rounds - 1 or expired():
                break
            left = 0
            for search in searches:
                probes_left = (search.state == OPEN).nonzero()[:, 0]
                left += len(probes_left)
                if len(probes_left):
                    search.more(probes_left, expired)
            if progress is not None:
                progress(number + 1, left)
            if not left:
                break
        if expired():
            for search in searches:
                search.state[search.state == OPEN] = LATE
        return [_finish(search, pixels, budget) for search in searches]


def _settle(searches: Sequence[_Search]) -> None:
    """Close what needs no further start, for every generator and probe."""
    best = torch.stack([search.best for search in searches])
    lowest = best.min(0).values
    for search in searches:
        still = search.state == OPEN
        search.state[still & (search.best <= FLOOR_REACHED * FLOOR)] = AT_FLOOR
        beaten = (lowest <= FLOOR_REACHED * FLOOR) & (search.best >= SETTLED * lowest)
        search.state[still & beaten] = BEATEN
        left = (search.state == OPEN).nonzero()[:, 0]
        if len(left) and len(search.ends) > 1:
            search.state[left[search.agreeing(left) >= AGREEING_STARTS]] = AGREED


@torch.no_grad()
def _finish(search: _Search, pixels: NDArray[np.uint8], budget: Budget) -> Inversions:
    """Everything that is said, recomputed by the owner's own module; certificates for what reached the floor."""
    generator, probes = search.generator, torch.from_numpy(pixels)
    z = search.z.float()
    residual, mismatches = _measured(generator, z, probes)
    exact = np.zeros(len(pixels), dtype=np.bool_)
    few = 4 * generator.latent.dim <= search.model.samples
    search_exactly = certify if bounds(generator) is None else certify_boxed
    network = Network(generator, search.targets.device) if budget.exact_iterations and few else None
    for row in np.flatnonzero(residual <= FLOOR_REACHED * FLOOR):
        if network is not None and mismatches[row]:
            certificate = search_exactly(network, probes[row], z[row], iterations=budget.exact_iterations)
            if certificate.mismatches == 0:
                z[row] = certificate.z.to(z)
        if network is not None:
            one, two = _measured(generator, z[row : row + 1], probes[row : row + 1])
            residual[row], mismatches[row] = one[0], two[0]
        exact[row] = mismatches[row] == 0 and guard(z[row].cpu(), generator.latent, search.model.samples) is None
    return Inversions(
        generator=generator.digest,
        residual=residual,
        z=z.cpu().numpy(),
        mismatches=mismatches,
        samples=search.model.samples,
        exact=exact,
        starts=search.starts.cpu().numpy(),
        iterations=search.iterations.cpu().numpy(),
        agreeing=search.agreeing(torch.arange(len(pixels), device=search.state.device)).cpu().numpy(),
        stopped=tuple(STOPPED[int(state)] for state in search.state),
    )


def _measured(generator: Generator, z: Tensor, probes: Tensor) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(residuals [P], differing samples [P]) by the owner's module, uint8 probes [P, H, W, C]."""
    residuals: list[Tensor] = []
    different: list[Tensor] = []
    for points, some in zip(z.split(256), probes.split(256), strict=True):
        picture = generator.images(points.to(generator.device)).double().cpu()
        error = picture.permute(0, 2, 3, 1) - some.double() / 255
        residuals.append(error.square().flatten(1).mean(1))
        different.append((generator.sample(points) != some).flatten(1).sum(1))
    return torch.cat(residuals).numpy(), torch.cat(different).numpy()
