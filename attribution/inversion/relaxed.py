"""`invert_relaxed`: one probe against every candidate, with what the relaxed scope allows to have happened to it.

For each generator Adam moves random starts against the probe and against its mirror image, as if either had been
cropped a little. The first round is short, for the many easy probes: the best start of each orientation goes on by
Levenberg-Marquardt over latent and warp together (warp.py). The second moves all starts much longer, then lets the best
of them race: Adam's order says little about which start lies in the right valley, a few Jacobians say more, so only
what leads after those goes on. A search ends when its best run explains nearly all of the probe, or, once both
orientations were tried, when a run of another start agrees with it or it stands far below the second best; or when the
rounds are over. A near miss then gets further rounds with fresh starts. Own pictures and others are measured alike:
what a residual means is the calibration's business.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..generators.protocol import Generator
from . import lm
from .adam import Pool, advance
from .budget import FLOOR, Budget
from .engine import AGREEMENT_PICTURE, AGREEMENT_RATIO
from .network import Network
from .preparation import checked, settings, start_generator, time_guard
from .result import FLOOR_GOAL
from .warp import WarpedNetwork, start, warp

Stopped = Literal["floor", "flat", "budget", "time"]

ADAM_ZOOM = 0.97
"""Share of each side that Adam takes as kept: between an uncropped picture and the scope's 0.9."""
EXPLAINED = 0.02
NEAR = 400 * FLOOR
"""A run that leaves less than this share of the probe's variance and less than this mean squared error ends the search:
JPEG of quality 50 leaves about so much of own pictures."""
PATIENCE = 2
"""Adam steps of a further round, in those of the first."""
RACING = 10
"""Starts of a race."""
HEAT = 5
"""Jacobians that each of them gets; one that another stood below after as many waits."""
FRESH_ROUNDS = 3
"""Rounds more, with fresh starts, for a near miss."""
MISS = (20 / 255) ** 2
"""Mean squared error, 20 grey levels, up to which a run beyond `NEAR` is one: there wrong minima of own pictures lie,
and few pictures of others."""
STANDS_OUT = 3.0
RIVALS = 3
"""So does one this many times below the second best of at least so many others: minima of wrong latents lie near each
other, but among two or three runs one of them can stand out."""
AGREEING_STARTS = 2
"""Runs at one minimum that end a search."""
ORIENTATIONS = 2


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a generator's picture on its way to the probe, as far as it was found.

    Mirrored first; then the pixels cut at each side of the (mirrored) picture, at the generator's size; `blur` is the
    standard deviation in pixels of a Gaussian that stands for the resampling filters, 0.2 and less for none.
    """

    mirrored: bool
    left: float
    right: float
    top: float
    bottom: float
    blur: float

    def __str__(self) -> str:
        cut = f"cut {self.left:.1f}+{self.right:.1f} across, {self.top:.1f}+{self.bottom:.1f} down"
        return f"{'mirrored, ' if self.mirrored else ''}{cut}, blur {self.blur:.2f} pixels"


@dataclass(frozen=True, slots=True)
class RelaxedInversion:
    """What one generator could do for one changed probe."""

    generator: str
    """Model digest."""
    residual: float
    """Mean squared error between the changed picture of z and probe/255, on the [0, 1] scale."""
    change: Change
    z: NDArray[np.float64]
    reconstruction: NDArray[np.uint8]
    """[H, W, C]: the owner's picture of z, changed and rounded."""
    mismatches: int
    samples: int
    square_norm: float
    starts: int
    iterations: int
    rounds: int
    polished_starts: int
    agreeing_starts: int
    stopped: Stopped
    seconds: dict[str, float]

    @property
    def floors(self) -> float:
        """Residual in units of the 8-bit rounding floor 1/(12 x 255^2)."""
        return self.residual / FLOOR

    @property
    def out_of_budget(self) -> bool:
        """Whether the outer time guard ended the search: nothing negative follows from it."""
        return self.stopped == "time"


@dataclass(slots=True)
class _Side:
    """The probe as it is or mirrored, with its pool of starts."""

    mirrored: bool
    network: WarpedNetwork
    theta: Tensor
    pool: Pool


@dataclass(slots=True)
class _Run:
    side: bool
    start: tuple[int, int]
    """(pool, place in it)."""
    run: lm.Run
    ended: bool = False
    """Whether it went on to its end, or waits where its heat left it."""


@dataclass(slots=True)
class _Search:
    network: Network
    sides: list[_Side]
    goal: float
    runs: list[_Run] = field(default_factory=list[_Run])
    rounds: int = 0
    pools: int = 0
    stopped: Stopped | None = None

    def fresh_pools(self, budget: Budget, rng: torch.Generator) -> None:
        """New random starts for both orientations."""
        self.pools += 1
        for side in self.sides:
            side.pool = _pool(side.network, side.theta, budget, rng)

    def is_near_miss(self) -> bool:
        """Whether more starts may well find a better minimum."""
        best = min((run.run.residual for run in self.runs if run.ended), default=math.inf)
        return NEAR < best <= MISS


def invert_relaxed(
    probe: NDArray[np.uint8],
    generators: Sequence[Generator],
    budget: Budget,
    *,
    seed: int,
    threads: int | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[], None] | None = None,
) -> list[RelaxedInversion]:
    """Invert `probe`, uint8 [H, W, C] at the generators' own size, up to a mirror, a crop and a blur; in their order.

    Deterministic in (probe, generators, budget, seed) up to float rounding of the machine; a generator's result does
    not depend on the others. The budget's starts are drawn for each orientation; `progress` is called after each run.
    `UsageError` if the probe's size is not a generator's.
    """
    pixels = checked(probe, generators)
    expired = time_guard(budget)

    with settings(threads):
        return [_invert(pixels, generator, budget, seed, device, expired, progress) for generator in generators]


def _invert(
    pixels: NDArray[np.uint8],
    generator: Generator,
    budget: Budget,
    seed: int,
    device: torch.device | str,
    expired: Callable[[], bool],
    progress: Callable[[], None] | None,
) -> RelaxedInversion:
    network = Network(generator, device)
    rng = start_generator(seed, generator.digest)
    seconds = {"adam": 0.0, "lm": 0.0}
    targets = [_target(pixels, network), _target(pixels[:, ::-1], network)]
    variance = float(targets[0].reshape(pixels.shape[2], -1).var(1).mean())
    search = _Search(network, [], min(EXPLAINED * variance, NEAR))
    search.sides = [_side(bool(i), network, target, budget, rng) for i, target in enumerate(targets)]
    for number in range(budget.rounds + FRESH_ROUNDS):
        steps = budget.adam_steps * (PATIENCE if number else 1)
        if number >= budget.rounds:
            if not search.is_near_miss():
                break
            search.fresh_pools(budget, rng)
            steps = budget.adam_steps * (1 + PATIENCE)
        search.rounds += 1
        began = time.monotonic()
        pools = [side.pool for side in search.sides]
        advance(pools, steps=steps, rate=budget.adam_rate, prior=budget.adam_prior, stop=expired)
        seconds["adam"] += time.monotonic() - began
        began = time.monotonic()
        if network.linearisable and budget.lm_starts:
            _Polish(search, budget, expired, progress).round(number)
        seconds["lm"] += time.monotonic() - began
        if search.stopped is None and expired():
            search.stopped = "time"
        if search.stopped is not None:
            break
    return _finish(search, pixels, budget, seconds)


def _target(pixels: NDArray[np.uint8], network: Network) -> Tensor:
    picture = torch.from_numpy(np.array(pixels, order="C")).permute(2, 0, 1)
    return (picture.to(network.device, torch.float32) / 255).flatten()


def _side(mirrored: bool, network: Network, target: Tensor, budget: Budget, rng: torch.Generator) -> _Side:
    output = network.generator.output
    warped = WarpedNetwork(network, target)
    theta = start(output.height, output.width, ADAM_ZOOM).to(network.device)
    return _Side(mirrored, warped, theta, _pool(warped, theta, budget, rng))


def _pool(warped: WarpedNetwork, theta: Tensor, budget: Budget, rng: torch.Generator) -> Pool:
    latent = warped.network.generator.latent

    def loss(z: Tensor) -> Tensor:
        return (warped.rough(z, theta) - warped.target).square().mean(1)

    return Pool(loss, latent, latent.draw(budget.adam_starts, rng).to(warped.device))


@dataclass(frozen=True, slots=True)
class _Polish:
    """Levenberg-Marquardt on a round's starts, one after the other, until the search may stop."""

    search: _Search
    budget: Budget
    expired: Callable[[], bool]
    progress: Callable[[], None] | None

    def round(self, number: int) -> None:
        """The best start of each orientation; in a further round a race, then the `lm_starts` best that wait."""
        lowest = math.inf
        waiting: list[_Run] = []
        for mirrored, index in _order(self.search.sides)[: RACING if number else ORIENTATIONS]:
            run = self._begun(mirrored, index)
            if number:
                self._goes_on(run, min(HEAT, self.budget.lm_iterations))
            if number and run.run.residual >= lowest:
                waiting.append(run)
                continue
            lowest = run.run.residual
            if self._ends(run):
                return
        waiting.sort(key=lambda r: r.run.residual)
        for run in waiting[: self.budget.lm_starts]:
            if self._ends(run):
                return

    def _begun(self, mirrored: bool, index: int) -> _Run:
        side = self.search.sides[mirrored]
        point = torch.cat([side.pool.best[index], side.theta])
        run = _Run(mirrored, (self.search.pools, index), lm.start(side.network, side.network.target, point))
        self.search.runs.append(run)
        return run

    def _goes_on(self, run: _Run, iterations: int) -> None:
        network = self.search.sides[run.side].network
        lm.advance(
            run.run, network, network.target, iterations=iterations, chords=self.budget.lm_chords,
            goal=FLOOR_GOAL * FLOOR, prior=self.budget.lm_prior, stop=self.expired,
        )  # fmt: skip

    def _ends(self, run: _Run) -> bool:
        self._goes_on(run, self.budget.lm_iterations - run.run.iterations)
        run.ended = True
        if self.progress is not None:
            self.progress()
        self.search.stopped = _verdict(self.search, self.expired)
        return self.search.stopped is not None


def _order(sides: Sequence[_Side]) -> list[tuple[bool, int]]:
    """(mirrored, start): the best of the better orientation, the best of the other one, then the rest, best first."""
    losses = [(float(loss), side.mirrored, i) for side in sides for i, loss in enumerate(side.pool.best_loss)]
    (_, mirrored, first), *rest = sorted(losses)
    second = next(item for item in rest if item[1] != mirrored)
    rest.remove(second)
    return [(mirrored, first), *((side, i) for _, side, i in (second, *rest))]


def _verdict(search: _Search, expired: Callable[[], bool]) -> Stopped | None:
    """Why the search may end now, or None."""
    best, *others = sorted((r for r in search.runs if r.ended), key=lambda r: r.run.residual)
    if best.run.status == "floor":
        return "floor"
    if expired():
        return "time"
    if best.run.residual <= search.goal:
        return "flat"
    if all(run.side == best.side for run in search.runs):
        return None  # the other orientation may explain the probe better, whatever agrees here
    if len(_agreeing(search)) >= AGREEING_STARTS:
        return "flat"
    alone = len(others) >= RIVALS and others[0].run.residual >= STANDS_OUT * best.run.residual
    return "flat" if alone else None


def _agreeing(search: _Search) -> set[tuple[int, int]]:
    """The starts whose runs ended at the best one's picture, itself included: runs of one start are not independent."""
    best = min(search.runs, key=lambda r: r.run.residual)
    near = [
        r for r in search.runs if r.side == best.side and r.run.residual <= best.run.residual * (1 + AGREEMENT_RATIO)
    ]
    network = search.sides[best.side].network
    with torch.no_grad():
        pictures = network.unit(torch.stack([best.run.z, *(r.run.z for r in near)]))
        apart = (pictures[1:] - pictures[0]).square().mean(1)
    return {r.start for r, d in zip(near, apart, strict=True) if float(d) <= AGREEMENT_PICTURE * best.run.residual}


def _finish(search: _Search, pixels: NDArray[np.uint8], budget: Budget, seconds: dict[str, float]) -> RelaxedInversion:
    """What is reported, recomputed by the owner's own module and in double."""
    network, generator = search.network, search.network.generator
    if search.runs:
        best = min(search.runs, key=lambda r: r.run.residual)
        mirrored, point = best.side, best.run.z
    else:
        side = min(search.sides, key=lambda s: float(s.pool.best_loss.min()))
        mirrored, index = side.mirrored, int(side.pool.best_loss.argmin())
        point = torch.cat([side.pool.best[index], side.theta])
    z, theta = point[: network.dim], point[network.dim :]
    with torch.no_grad():
        image = generator.images(z.float()[None].to(generator.device)).double().cpu()
        changed = warp(image, theta[None].double().cpu())[0].permute(1, 2, 0).numpy()
    if mirrored:
        changed = changed[:, ::-1]
    residual = float(np.square(changed - pixels / 255).mean())
    reconstruction = np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)
    left, right, top, bottom, blur = (float(v) for v in theta)
    return RelaxedInversion(
        generator=generator.digest,
        residual=residual,
        # cut from the probe's point of view: the search saw the mirrored probe
        change=Change(mirrored, *((right, left) if mirrored else (left, right)), top, bottom, blur),
        z=z.cpu().double().numpy(),
        reconstruction=reconstruction,
        mismatches=int((reconstruction != pixels).sum()),
        samples=network.samples,
        square_norm=float(z.double().square().sum()),
        starts=ORIENTATIONS * budget.adam_starts * (1 + search.pools),
        iterations=sum(r.run.iterations for r in search.runs),
        rounds=search.rounds,
        polished_starts=len({(r.side, r.start) for r in search.runs}),
        agreeing_starts=len(_agreeing(search)) if search.runs else 0,
        stopped=search.stopped or "budget",
        seconds=seconds,
    )
