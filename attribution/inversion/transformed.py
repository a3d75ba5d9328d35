"""`invert_transformed`: a probe against candidates, up to changes beyond the relaxed scope. A diagnostic.

Each candidate's search: Adam moves random starts, in both orientations, latent and transform together, each start from
another coarse transform (turned left, right, not; a smaller window), so that the kind of change need not be told. The
best start of each orientation goes on by Levenberg-Marquardt over latent and transform; a further round moves all
starts longer and lets the best race. Candidates also start where the leader stands: a fine-tuned relative shares its
latents, and the true one must not lose because its own starts were unlucky. Once a candidate explains the probe but
for its noise, nobody searches on beyond the round. At the end all are polished and compared over the same pixels, those
that show the leader's picture.

Residuals are ranked among candidates; no limit belongs to them (relaxed.py's classes have limits of their own).
Source: 004 section V-B, Table I (the changes; it attributes them without undoing them).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...schemas.errors import UsageError
from ..generators.protocol import Generator
from . import affine, lm
from .adam import Pool, advance
from .affine import AffineNetwork, Freedom
from .budget import FLOOR, Budget
from .change import Stopped, Transform, TransformedInversion
from .exact import whiteness
from .network import Network
from .noise import coarse_power, noise_level
from .preparation import checked, settings, start_generator, time_guard
from .result import FLOOR_GOAL

TRANSFORM_VERSION = "2"
"""Changes whenever the same arguments may give another residual."""
COARSE = ((0.97, 0.0), (0.97, 2.5), (0.97, -2.5), (0.92, 0.0))
"""(zoom, degrees) of the starting transforms, dealt out to the starts in turn."""
COARSE_SIGMA = 0.5
EXPLAINED = 0.02
NEAR = 400 * FLOOR
"""A candidate that leaves less than this share of the variance, and less than this mean squared error, has explained
the probe; so has one that leaves no more than that above the noise, if what it leaves is white."""
WHITE_POWER = 1.35
"""Coarse power (noise.py) up to which a residual is white: wherever looked at, a wrong latent's was 1.5 and more."""
NOISE_ERROR = 1.05
"""The noise is taken as so many times its estimate, which clipped samples make too small."""
NOISE_PRIOR = 1.0
"""Samples of independent noise count each for itself; the budget's `lm_prior` is for errors that go together."""
NOISE_JACOBIANS = 6
PATIENCE = 2
RACING = 8
HEAT = 5
SETTLED = 3.0
"""Once one run explains the probe, others go on only if they came within so many times its residual."""
ENOUGH = 20 * FLOOR
"""A search's run ends so little above the noise: the right valley is found, the last polish goes on."""
POLISH = 10
"""Jacobians at most of the last polish, over the pixels of the leader's transform."""
EXCHANGES = 2


@dataclass(slots=True)
class _Side:
    mirrored: bool
    network: AffineNetwork
    pool: Pool


@dataclass(slots=True)
class _Run:
    mirrored: bool
    run: lm.Run


@dataclass(slots=True)
class _Search:
    """One candidate: its two orientations and what its runs came to."""

    network: Network
    probes: tuple[Tensor, Tensor]
    sides: list[_Side]
    runs: list[_Run] = field(default_factory=list[_Run])
    starts: int = 0
    rounds: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"adam": 0.0, "lm": 0.0, "exchange": 0.0})

    @property
    def best(self) -> _Run:
        """The nearest run; there is one after the first round."""
        return min(self.runs, key=lambda r: r.run.residual)


@dataclass(frozen=True, slots=True)
class _Work:
    """What all searches share."""

    budget: Budget
    freedom: Freedom
    noise: float
    """Mean squared error that the noise alone leaves."""
    near: float
    """What may be left of a probe without noise."""
    expired: Callable[[], bool]
    progress: Callable[[], None] | None

    @property
    def noisy(self) -> bool:
        """Whether the noise is more than what may be left without any."""
        return self.noise > self.near

    @property
    def goal(self) -> float:
        """No run that leaves more has explained the probe."""
        return self.near + NOISE_ERROR * self.noise

    def goes_on(self, run: lm.Run, network: AffineNetwork, iterations: int, *, goal: float, prior: float) -> None:
        """At most `iterations` Jacobians more."""
        lm.advance(
            run, network, network.target, iterations=iterations, chords=self.budget.lm_chords, goal=goal,
            prior=prior, stop=self.expired,
        )  # fmt: skip
        run.status = "running"  # a later call may go below this goal
        if self.progress is not None:
            self.progress()


def invert_transformed(
    probe: NDArray[np.uint8],
    generators: Sequence[Generator],
    budget: Budget,
    *,
    seed: int,
    freedom: Freedom | None = None,
    threads: int | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[], None] | None = None,
) -> list[TransformedInversion]:
    """Invert `probe`, uint8 [H, W, C] at the generators' own size, up to a transform; results in their order.

    Deterministic in (probe, generators, budget, seed, freedom) up to float rounding of the machine. Candidates help
    each other to starts, so a result depends on the others too. `UsageError` if the probe's size is not a generator's
    or a generator's Jacobian is too large.
    """
    pixels = checked(probe, generators)
    if not budget.lm_starts:
        raise UsageError("a transform is searched by Levenberg-Marquardt: the budget must polish at least one start")
    expired = time_guard(budget)

    noise = (noise_level(pixels) / 255) ** 2
    variance = float((pixels / 255).reshape(-1, pixels.shape[2]).var(0).mean())
    near = min(EXPLAINED * max(variance - noise, 0), NEAR)
    work = _Work(budget, freedom or Freedom(), noise, near, expired, progress)
    with settings(threads):
        searches = [_search(pixels, generator, work, seed, device) for generator in generators]
        stopped = _run(searches, work)
        return _finish(searches, pixels, work, stopped)


def _search(
    pixels: NDArray[np.uint8], generator: Generator, work: _Work, seed: int, device: torch.device | str
) -> _Search:
    network = Network(generator, device)
    if not network.linearisable:
        raise UsageError(f"generator {generator.name!r} is too large for a dense Jacobian")
    rng = start_generator(seed, generator.digest)
    probes = _flat(pixels, network), _flat(np.ascontiguousarray(pixels[:, ::-1]), network)
    height, width = pixels.shape[:2]
    kept = affine.weights(affine.identity(), height, width, turned=work.freedom.turn).to(network.device)
    sides: list[_Side] = []
    for mirrored, probe in enumerate(probes):
        joined = AffineNetwork(network, probe, kept, work.freedom)
        points = _starts(joined, work, rng)
        sides.append(_Side(bool(mirrored), joined, Pool(_loss(joined), generator.latent, points, joined.project)))
    return _Search(network, probes, sides, starts=2 * work.budget.adam_starts)


def _flat(pixels: NDArray[np.uint8], network: Network) -> Tensor:
    picture = torch.from_numpy(pixels).permute(2, 0, 1)
    return (picture.to(network.device, torch.float32) / 255).flatten()


def _loss(joined: AffineNetwork) -> Callable[[Tensor], Tensor]:
    def loss(points: Tensor) -> Tensor:
        return (joined.rough(points) - joined.target).square().mean(1)

    return loss


def _starts(joined: AffineNetwork, work: _Work, rng: torch.Generator) -> Tensor:
    """[B, d + 11] random latents, each with one of the coarse transforms that are free."""
    _, height, width = joined.shape
    count = work.budget.adam_starts
    latents = joined.network.generator.latent.draw(count, rng)
    thetas: list[Tensor] = []
    for index in range(count):
        zoom, degrees = COARSE[index % len(COARSE)]
        coarse = affine.start(height, width, zoom, degrees, COARSE_SIGMA)
        thetas.append(torch.where(work.freedom.mask(), coarse, affine.identity()))
    return torch.cat([latents, torch.stack(thetas)], dim=1).to(joined.device)


def _run(searches: Sequence[_Search], work: _Work) -> Stopped:
    """Rounds of all candidates until one explains the probe."""
    for number in range(work.budget.rounds):
        for search in searches:
            done = [s for s in searches if s is not search and s.runs and _explained(s, work)]
            rival = min(done, key=lambda s: s.best.run.residual, default=None)
            if rival is None or not _follows(search, rival, work):
                _round(search, work, number, math.inf if rival is None else rival.best.run.residual)
            if work.expired():
                return "time"
        _exchange(searches, work)
        if any(_explained(search, work) for search in searches):
            return "explained"
    return "budget"


def _follows(search: _Search, rival: _Search, work: _Work) -> bool:
    """Whether the point where a rival explains the probe leads this candidate to explain it as well."""
    if not _alike(search, rival):
        return False
    _from(search, rival, work)
    return _explained(search, work)


def _round(search: _Search, work: _Work, number: int, rival: float) -> None:
    """One round of one candidate; `rival` is the residual of another that explains the probe, if there is one."""
    budget = work.budget
    began = time.monotonic()
    steps = budget.adam_steps * (PATIENCE if number else 1)
    pools = [side.pool for side in search.sides]
    advance(pools, steps=steps, rate=budget.adam_rate, prior=budget.adam_prior, stop=work.expired)
    search.rounds += 1
    middle = time.monotonic()
    search.seconds["adam"] += middle - began
    order = sorted(
        (float(loss), side.mirrored, i) for side in search.sides for i, loss in enumerate(side.pool.best_loss)
    )
    if number == 0:
        order = [order[0], next(item for item in order if item[1] != order[0][1])]
    runs = [_begun(search, mirrored, search.sides[mirrored].pool.best[i]) for _, mirrored, i in order[:RACING]]
    for run in runs:
        _goes_on(search, run, work, min(HEAT, budget.lm_iterations))
        if run.run.residual <= work.near:
            break
    runs.sort(key=lambda r: r.run.residual)
    for run in runs[: max(2, budget.lm_starts)]:
        if run.run.residual <= SETTLED * rival:
            _ends(search, run, work)
            if _explained(search, work):
                break
    search.seconds["lm"] += time.monotonic() - middle


def _begun(search: _Search, mirrored: bool, point: Tensor) -> _Run:
    network = search.sides[mirrored].network
    run = _Run(mirrored, lm.start(network, network.target, point))
    search.runs.append(run)
    return run


def _goes_on(search: _Search, run: _Run, work: _Work, iterations: int) -> None:
    network = search.sides[run.mirrored].network
    goal = ENOUGH + (0 if work.noisy else work.noise)
    work.goes_on(run.run, network, iterations, goal=goal, prior=work.budget.lm_prior)


def _ends(search: _Search, run: _Run, work: _Work) -> None:
    """The run's remaining Jacobians; in noise a few more under the prior's true weight."""
    _goes_on(search, run, work, work.budget.lm_iterations - run.run.iterations)
    if work.noisy:
        network = search.sides[run.mirrored].network
        work.goes_on(run.run, network, NOISE_JACOBIANS, goal=ENOUGH, prior=NOISE_PRIOR)


def _explained(search: _Search, work: _Work) -> bool:
    """Whether the candidate's best run leaves nothing but what a true one may leave."""
    best = search.best
    if best.run.residual > work.goal or not work.noisy:
        return best.run.residual <= work.goal
    network = search.sides[best.mirrored].network
    with torch.no_grad():
        error = (network.unit(best.run.z[None])[0] - network.target).reshape(network.shape)
    return coarse_power(error.permute(1, 2, 0).double().cpu().numpy()) <= WHITE_POWER


def _alike(one: _Search, other: _Search) -> bool:
    return one.network.generator.latent == other.network.generator.latent


def _from(search: _Search, rival: _Search, work: _Work) -> None:
    """A run from where a rival's best stands; to its end if it comes near that."""
    began = time.monotonic()
    found = rival.best
    run = _begun(search, found.mirrored, found.run.z.to(search.network.device))
    _goes_on(search, run, work, min(HEAT, work.budget.lm_iterations))
    if run.run.residual <= max(SETTLED * found.run.residual, work.goal):
        _ends(search, run, work)
    search.seconds["exchange"] += time.monotonic() - began


def _exchange(searches: Sequence[_Search], work: _Work) -> None:
    """Every candidate starts where the leader stands; again if the leader changes."""
    done: _Run | None = None
    for _ in range(EXCHANGES):
        leader = min(searches, key=lambda s: s.best.run.residual)
        if leader.best is done:
            return
        done = leader.best
        for search in searches:
            if search is not leader and _alike(search, leader) and (work.noisy or not _explained(search, work)):
                _from(search, leader, work)


def _finish(
    searches: Sequence[_Search], pixels: NDArray[np.uint8], work: _Work, stopped: Stopped
) -> list[TransformedInversion]:
    """All candidates over the pixels that show the leader's picture, recomputed by the owners' modules in double."""
    height, width = pixels.shape[:2]
    ready = [search for search in searches if search.runs]
    leader = min(ready, key=lambda s: s.best.run.residual) if ready else None
    theta = affine.identity() if leader is None else leader.best.run.z[leader.network.dim :].cpu()
    kept = affine.weights(theta, height, width)
    if leader is not None and leader.best.mirrored:
        kept = kept.flip(1)  # as the probe lies
    out: list[TransformedInversion] = []
    for search in searches:
        if not search.runs:  # out of time before any polish
            pool = min((side for side in search.sides), key=lambda s: float(s.pool.best_loss.min()))
            _begun(search, pool.mirrored, pool.pool.best[int(pool.pool.best_loss.argmin())])
        best = search.best
        seen = (kept.flip(1) if best.mirrored else kept).to(search.network.device)
        last = AffineNetwork(search.network, search.probes[best.mirrored], seen, work.freedom)
        run = lm.start(last, last.target, best.run.z)
        prior = NOISE_PRIOR if work.noisy else work.budget.lm_prior
        work.goes_on(run, last, POLISH, goal=FLOOR_GOAL * FLOOR, prior=prior)
        iterations = sum(r.run.iterations for r in search.runs) + run.iterations
        out.append(_told(search, best.mirrored, run.z, kept, pixels, iterations, stopped))
    return out


def _told(
    search: _Search, mirrored: bool, point: Tensor, kept: Tensor, pixels: NDArray[np.uint8], iterations: int,
    stopped: Stopped,
) -> TransformedInversion:  # fmt: skip
    network, generator = search.network, search.network.generator
    z, theta = point[: network.dim], point[network.dim :].double().cpu()
    with torch.no_grad():
        image = generator.images(z.float()[None].to(generator.device)).double().cpu()
        changed = affine.transform(image, theta[None])[0].permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    degrees = float(affine.degrees(theta, height, width))
    left, right, top, bottom = (float(v) for v in theta[affine.CUTS])
    if mirrored:
        changed, left, right, degrees = changed[:, ::-1], right, left, -degrees
    error = (changed - pixels / 255) * kept.numpy()[:, :, None]
    share = float(kept.mean())
    return TransformedInversion(
        generator=generator.digest,
        residual=float(np.square(error).mean()) / max(share, 1e-9),
        kept=share,
        transform=Transform(
            mirrored, left, right, top, bottom, degrees,
            (float(theta[5]) * affine.TAP_UNIT, float(theta[6]) * affine.TAP_UNIT, float(theta[7]) * affine.TAP_UNIT),
            float(theta[affine.CUBIC]) * affine.CUBIC_UNIT,
            1 + affine.GAIN_UNIT * float(theta[affine.GAIN]),
            affine.OFFSET_UNIT * float(theta[affine.OFFSET]),
        ),
        z=z.cpu().double().numpy(),
        reconstruction=np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8),
        square_norm=float(z.double().square().sum()),
        noise=noise_level(pixels),
        whiteness=whiteness(error),
        starts=search.starts,
        iterations=iterations,
        rounds=search.rounds,
        stopped=stopped,
        seconds=search.seconds,
    )  # fmt: skip
