"""`invert`: one probe against every candidate generator, within a counted budget.

Per generator and round: Adam on a pool of random starts (all candidates' pools advance together; a fully connected
generator's first start is the closed form), then Levenberg-Marquardt on the pool's best points. A pool lives for
`POOL_ROUNDS` rounds, so a hard probe gets a longer search first and then fresh starts. Rounds are added until a run
reaches the floor, three starts end at the same minimum, or the budget is spent. A run at the floor is handed to the
bit-exact certificate. What is reported is recomputed by the owner's own module, not by the folded copy that the search
uses.
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

from ..distances.images import L2, Distance
from ..generators.protocol import Generator
from ..scoring.floor import expected_floor
from . import lm
from .adam import Loss, Pool, advance
from .batched import bounds
from .boxed import certify_boxed
from .budget import FLOOR, Budget
from .closed_form import closed_form
from .exact import certify, guard, whiteness
from .large import invert_large
from .method import Method, method_of
from .network import Network
from .perceptron import Perceptron, is_fully_connected
from .preparation import checked, settings, start_generator, time_guard
from .result import FLOOR_GOAL, FLOOR_REACHED, Diagnostics, Inversion, Progress, Stopped

POOL_ROUNDS = 2
AGREEING_STARTS = 3
"""Runs of different starts at one minimum that end a search; two can meet at a wrong one."""
AGREEMENT_RATIO = 0.05
AGREEMENT_PICTURE = 0.15
"""Runs agree when residuals are within 5 % and their pictures nearer to each other than 15 % of the residual: the same
minimum. Latents are not compared: along flat directions they differ while the picture does not."""


@dataclass(slots=True)
class _Candidate:
    network: Network
    target: Tensor
    loss: Loss
    rng: torch.Generator
    runs: list[lm.Run] = field(default_factory=list[lm.Run])
    origins: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """(pool, start) behind each run: runs of one start are not independent."""
    pool: Pool | None = None
    pools: int = 0
    best: Tensor | None = None
    best_loss: float = math.inf
    starts: int = 0
    rounds: int = 0
    stopped: Stopped | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"adam": 0.0, "lm": 0.0, "exact": 0.0})


def invert(
    probe: NDArray[np.uint8],
    generators: Sequence[Generator],
    budget: Budget,
    *,
    seed: int,
    distance: Distance | None = None,
    threads: int | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[Progress], None] | None = None,
    starts: Sequence[Tensor] | None = None,
    method: Method | None = None,
    free: bool = False,
) -> list[Inversion]:
    """Invert `probe`, uint8 [H, W, C] at the generators' own size, on every generator; results in their order.

    Deterministic in (probe, generators, budget, seed, distance) up to float rounding of the machine. `starts`, one
    [k, d] per generator (from an encoder, say), take the first places of the first round. Each generator is searched by
    the engine that suits it (`method_of`) unless `method` names one. `free`: where a matrix-free search fails, look
    whether noise maps beside the latent would explain the probe (`Inversion.free`). `UsageError` if the probe's size is
    not a generator's: the caller resizes, and says how.
    """
    distance = distance or L2()
    pixels = checked(probe, generators)
    expired = time_guard(budget)

    methods = [method or method_of(generator) for generator in generators]
    with settings(threads):
        folded = [i for i, name in enumerate(methods) if name == "dense"]
        first = None if starts is None else [starts[i] for i in folded]
        chosen = [generators[i] for i in folded]
        found = dict(
            zip(folded, _dense(pixels, chosen, budget, distance, seed, device, expired, progress, first), strict=True)
        )
        for i, name in enumerate(methods):
            if name != "dense":
                generator = generators[i]
                if generator.device != torch.device(device):
                    generator.to(device)
                found[i] = invert_large(
                    torch.from_numpy(pixels), generator, budget, start_generator(seed, generator.digest), distance,
                    expired, progress=progress, starts=None if starts is None else starts[i], free=free,
                    use_lbfgs=name == "lbfgs",
                )  # fmt: skip
    return [found[i] for i in range(len(generators))]


def _dense(
    pixels: NDArray[np.uint8],
    generators: Sequence[Generator],
    budget: Budget,
    distance: Distance,
    seed: int,
    device: torch.device | str,
    expired: Callable[[], bool],
    progress: Callable[[Progress], None] | None,
    starts: Sequence[Tensor] | None,
) -> list[Inversion]:
    """All candidates of the dense engine together."""
    candidates = [_candidate(pixels, generator, distance, seed, device) for generator in generators]
    first = starts or [_closed(candidate) for candidate in candidates]
    for number in range(budget.rounds):
        active = [c for c in candidates if c.stopped is None]
        if not active:
            break
        given = {} if number else {id(c): s for c, s in zip(candidates, first, strict=True) if s is not None}
        _round(active, budget, number, expired, progress, given)
    return [_finish(c, pixels, budget, distance, expired, progress) for c in candidates]


def _closed(candidate: _Candidate) -> Tensor | None:
    """[1, d]: the start of a fully connected generator that needs no search, where its samples determine it."""
    model = Perceptron.of(candidate.network.generator, candidate.network.device)
    return None if model is None else closed_form(model, candidate.target[None])


def _candidate(
    pixels: NDArray[np.uint8], generator: Generator, distance: Distance, seed: int, device: torch.device | str
) -> _Candidate:
    network = Network(generator, device)
    output = generator.output
    picture = torch.from_numpy(pixels).permute(2, 0, 1).to(network.device, torch.float32) / 255
    prepared = distance.prepare(picture[None])

    def loss(z: Tensor) -> Tensor:
        images = network.unit(z).reshape(-1, output.channels, output.height, output.width)
        return distance.between(images, prepared)

    return _Candidate(network, picture.flatten(), loss, start_generator(seed, generator.digest))


def _round(
    active: Sequence[_Candidate],
    budget: Budget,
    number: int,
    expired: Callable[[], bool],
    progress: Callable[[Progress], None] | None,
    given: dict[int, Tensor],
) -> None:
    began = time.monotonic()
    pools: list[Pool] = []
    for candidate in active:
        if candidate.pool is None or number % POOL_ROUNDS == 0:
            starts = candidate.network.generator.latent.draw(budget.adam_starts, candidate.rng)
            if id(candidate) in given:
                first = given[id(candidate)].to(starts)[: budget.adam_starts]
                starts[: len(first)] = first
            latent = candidate.network.generator.latent
            candidate.pool = Pool(candidate.loss, latent, starts.to(candidate.network.device))
            candidate.pools += 1
            candidate.starts += len(starts)
        pools.append(candidate.pool)
    advance(pools, steps=budget.adam_steps, rate=budget.adam_rate, prior=budget.adam_prior, stop=expired)
    share = (time.monotonic() - began) / len(active)
    for candidate, pool in zip(active, pools, strict=True):
        candidate.seconds["adam"] += share
        candidate.rounds += 1
        order = [int(i) for i in pool.best_loss.argsort()]
        if float(pool.best_loss[order[0]]) < candidate.best_loss:
            candidate.best, candidate.best_loss = pool.best[order[0]], float(pool.best_loss[order[0]])
        if budget.lm_starts and candidate.network.linearisable:
            began = time.monotonic()
            _polish(candidate, pool, _chosen(candidate, order, budget.lm_starts), budget, expired)
            candidate.seconds["lm"] += time.monotonic() - began
        if candidate.stopped is None and expired():
            candidate.stopped = "time"
        if progress is not None:
            floors = min((run.residual for run in candidate.runs), default=math.nan) / FLOOR
            progress(Progress(candidate.network.generator.digest, "lm", number, floors))


def _chosen(candidate: _Candidate, order: Sequence[int], count: int) -> list[int]:
    """The pool's best start, polished before or not, then the best of those that never were."""
    tried = {start for pool, start in candidate.origins if pool == candidate.pools}
    fresh = [start for start in order[1:] if start not in tried]
    return [order[0], *fresh, *(start for start in order[1:] if start in tried)][:count]


def _polish(
    candidate: _Candidate, pool: Pool, order: Sequence[int], budget: Budget, expired: Callable[[], bool]
) -> None:
    """Levenberg-Marquardt on a round's best points, one after the other, until the search may stop."""
    for index in order:
        run = lm.start(candidate.network, candidate.target, pool.best[index])
        candidate.runs.append(run)
        candidate.origins.append((candidate.pools, index))
        lm.advance(
            run,
            candidate.network,
            candidate.target,
            iterations=budget.lm_iterations,
            chords=budget.lm_chords,
            goal=FLOOR_GOAL * FLOOR,
            prior=budget.lm_prior,
            stop=expired,
        )
        if run.status == "floor":
            candidate.stopped = "floor"
        elif _agreeing(candidate)[1] >= AGREEING_STARTS:
            candidate.stopped = "flat"
        elif expired():
            candidate.stopped = "time"
        if candidate.stopped is not None:
            break


def _agreeing(candidate: _Candidate) -> tuple[lm.Run | None, int]:
    """The best run, and from how many different starts runs ended at its minimum."""
    if not candidate.runs:
        return None, 0
    best = min(candidate.runs, key=lambda r: r.residual)
    near = [
        (run, origin)
        for run, origin in zip(candidate.runs, candidate.origins, strict=True)
        if run.residual <= best.residual * (1 + AGREEMENT_RATIO)
    ]
    with torch.no_grad():
        pictures = candidate.network.unit(torch.stack([best.z, *(run.z for run, _ in near)]))
        apart = (pictures[1:] - pictures[0]).square().mean(1)
    same = {
        origin
        for (_, origin), distance in zip(near, apart, strict=True)
        if float(distance) <= AGREEMENT_PICTURE * best.residual
    }
    return best, len(same)


def _finish(
    candidate: _Candidate,
    pixels: NDArray[np.uint8],
    budget: Budget,
    distance: Distance,
    expired: Callable[[], bool],
    progress: Callable[[Progress], None] | None,
) -> Inversion:
    network, generator = candidate.network, candidate.network.generator
    probe = torch.from_numpy(pixels)
    best, agreeing = _agreeing(candidate)
    z = best.z if best is not None else candidate.best
    if z is None:
        z = torch.zeros(network.dim, device=network.device)
    if best is not None and candidate.best is not None and distance.name != "l2":
        # ranked by another distance: the polished point counts only if it is the nearer one by that distance too
        polished = float(candidate.loss(best.z[None])[0])
        z = best.z if polished <= candidate.best_loss else candidate.best
    began = time.monotonic()
    reason = guard(z, generator.latent, network.samples)
    if (
        best is not None
        and best.residual <= FLOOR_REACHED * FLOOR
        and budget.exact_iterations
        and generator.latent.dim * 4 <= network.samples
    ):
        boxed = bounds(generator) is not None and is_fully_connected(generator)
        search = certify_boxed if boxed else certify
        certificate = search(network, probe, best.z, iterations=budget.exact_iterations)
        if certificate.mismatches == 0:
            z = certificate.z.to(network.device)
            reason = guard(z, generator.latent, network.samples)
        if progress is not None:
            progress(Progress(generator.digest, "exact", candidate.rounds, best.residual / FLOOR))
    candidate.seconds["exact"] += time.monotonic() - began
    picture = generator.sample(z[None])[0]
    mismatches = int((picture != probe).sum())
    with torch.no_grad():
        image = generator.images(z.float()[None].to(generator.device))[0]
    error = image.flatten().double().cpu() - candidate.target.double().cpu()
    residual = float(error.square().mean())
    exact = mismatches == 0 and reason is None
    height, width, channels = pixels.shape
    stopped: Stopped = candidate.stopped or "budget"
    return Inversion(
        generator=generator.digest,
        residual=residual,
        distance=residual if distance.name == "l2" else float(candidate.loss(z.float()[None])[0]),
        z=z.cpu().double().numpy(),
        reconstruction=picture.numpy(),
        exact=exact,
        mismatches=mismatches,
        samples=network.samples,
        square_norm=float(z.double().square().sum()),
        guard=reason,
        starts=candidate.starts,
        iterations=sum(run.iterations for run in candidate.runs),
        rounds=candidate.rounds,
        diagnostics=Diagnostics(
            reducible=_reducible(network, z, error),
            agreeing_starts=agreeing,
            polished_starts=len(candidate.runs),
            whiteness=whiteness(error.reshape(channels, height, width).permute(1, 2, 0).numpy()),
            expected=expected_floor(pixels, image.permute(1, 2, 0).double().cpu().numpy()),
        ),
        stopped="exact" if exact else stopped,
        seconds=dict(candidate.seconds),
    )


def _reducible(network: Network, z: Tensor, error: Tensor) -> float:
    """Share of the squared residual in the span of the Jacobian: what one more Gauss-Newton step promises."""
    if not network.linearisable:
        return math.nan
    _, jacobian = network.linearise(z.float())
    jacobian = jacobian.cpu().double()
    gradient = jacobian @ error
    system = jacobian @ jacobian.T
    system.diagonal().add_(1e-9 * float(system.diagonal().max()) + 1e-30)
    total = float(error @ error)
    return float(gradient @ torch.linalg.solve(system, gradient)) / total if total else 0.0
