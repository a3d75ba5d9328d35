"""`invert_large`: one probe against one generator whose Jacobian is not carried through its layers in one pass.

Per round: Adam on a pool of random starts, then matrix-free Gauss-Newton (or L-BFGS) on the pool's best points, all of
them in one batch. StyleGAN's families are searched twice: first for a style, of which the picture is a far simpler
function, then from the latent whose mapping comes nearest to it. A style that reproduces the probe while no latent
does is a *free match*, and so is one that needs noise maps other than the generator's own: both are reported apart and
are never evidence (004 section III-D: free inputs make such a network emit any picture).

Nothing here is shared with the dense engine's path but Adam and the certificate's linear programme; results carry their
own engine name (method.py), so no calibration of one is read for the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from scipy.stats import chi2
from torch import Tensor

from ...schemas.errors import UsageError
from ..distances.images import Distance
from ..generators.latent import PRIOR_TAIL, LatentSpec
from ..generators.protocol import Generator
from ..generators.styled import StyledGenerator
from ..scoring.floor import expected_floor
from . import lbfgs, lm, matrixfree
from .adam import Pool, advance
from .budget import FLOOR, Budget
from .certificate import certify
from .exact import guard, whiteness
from .matrixfree import Run
from .result import FLOOR_GOAL, FLOOR_REACHED, Diagnostics, FreeMatch, Inversion, Progress, Stopped
from .unknowns import StyleFit, Styles, Unknowns

AGREEING_STARTS = 3
AGREEMENT_RATIO = 0.05
AGREEMENT_PICTURE = 0.15
"""As in engine.py: three starts at one minimum end a search."""
FIT_STARTS = 6
FIT_ITERATIONS = 30
FIT_GOAL = 1e-6
"""Starts, Jacobians and goal (in whitened units) of fitting a latent to a style: the mapping network alone."""
FREE_PRIOR = 1.0
"""Weight of the prior with free noise maps: with them, every sample of the residual is independent."""
FREE_PATIENCE = 2
"""Times the budget's steps: so many more numbers are determined later."""
Stop = Callable[[], bool]


@dataclass(slots=True)
class _Search:
    generator: Generator
    probe: Tensor
    unknowns: Unknowns
    styles: Styles | None
    budget: Budget
    rng: torch.Generator
    expired: Stop
    lbfgs: bool
    runs: list[Run] = field(default_factory=list[Run])
    origins: list[int] = field(default_factory=list[int])
    style_runs: list[Run] = field(default_factory=list[Run])
    best: Tensor | None = None
    best_loss: float = float("inf")
    starts: int = 0
    rounds: int = 0
    stopped: Stopped | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"adam": 0.0, "lm": 0.0, "exact": 0.0, "free": 0.0})


def invert_large(
    probe: Tensor,
    generator: Generator,
    budget: Budget,
    rng: torch.Generator,
    distance: Distance,
    expired: Stop,
    *,
    progress: Callable[[Progress], None] | None = None,
    starts: Tensor | None = None,
    free: bool = False,
    use_lbfgs: bool = False,
) -> Inversion:
    """Invert `probe`, uint8 [H, W, C], on one generator; what `engine.invert` says of the result holds here too.

    `starts` [k, d] take the first places of the first round. `free`: where the search fails, look whether noise maps
    that the prior allows would explain the probe.
    """
    if distance.name != "l2":
        raise UsageError("generators of this kind are searched by the squared distance alone")
    module = generator.module
    styled = isinstance(module, StyledGenerator)
    search = _Search(
        generator, probe, Unknowns(generator, probe), Styles(generator, probe) if styled else None, budget, rng,
        expired, use_lbfgs,
    )  # fmt: skip
    for number in range(budget.rounds):
        _round(search, starts if number == 0 else None)
        if progress is not None:
            progress(Progress(generator.digest, "lm", number, _lowest(search) / FLOOR))
        if search.stopped is not None:
            break
    return _finish(search, free, progress)


def _lowest(search: _Search) -> float:
    return min((run.residual for run in search.runs), default=search.best_loss)


def _round(search: _Search, given: Tensor | None) -> None:
    budget, unknowns = search.budget, search.unknowns
    search.rounds += 1
    latents = search.generator.latent.draw(budget.adam_starts, search.rng)
    if given is not None and not len(given):
        given = None
    if given is not None:
        first = given.to(latents)[: len(latents)]
        latents[: len(first)] = first
    search.starts += len(latents)
    if given is not None and budget.lm_starts:
        # an encoder's point is near already: polished as it is, before any random start is moved
        _polish(search, matrixfree.start(unknowns, latents[: min(len(given), budget.lm_starts)].to(unknowns.device)))
        if search.stopped is not None:
            return
    if search.styles is not None:
        points = _style_search(search, search.styles, latents)
    else:
        pool = _moved(search, unknowns, search.generator.latent, latents)
        order = pool.best_loss.argsort()
        if float(pool.best_loss[order[0]]) < search.best_loss:
            search.best, search.best_loss = pool.best[order[0]], float(pool.best_loss[order[0]])
        points = pool.best[order[: budget.lm_starts]]
    if len(points) and search.stopped is None:
        _polish(search, matrixfree.start(unknowns, points))
    if search.stopped is None and search.expired():
        search.stopped = "time"


def _moved(search: _Search, model: Unknowns, latent: LatentSpec, points: Tensor) -> Pool:
    """Adam from points [B, D]."""
    began = time.monotonic()
    budget = search.budget
    pool = Pool(model.loss, latent, points.to(model.device))
    pool.batches = model.batches
    advance([pool], steps=budget.adam_steps, rate=budget.adam_rate, prior=budget.adam_prior, stop=search.expired)
    search.seconds["adam"] += time.monotonic() - began
    return pool


def _descend(search: _Search, runs: list[Run], model: Unknowns, prior: float | None = None) -> None:
    budget = search.budget
    method = lbfgs.advance if search.lbfgs else matrixfree.advance
    method(
        runs, model, iterations=budget.lm_iterations, goal=FLOOR_GOAL * FLOOR,
        prior=budget.lm_prior if prior is None else prior, stop=search.expired,
    )  # fmt: skip


def _polish(search: _Search, runs: list[Run]) -> None:
    began = time.monotonic()
    first = len(search.runs)
    search.runs += runs
    search.origins += range(first, first + len(runs))
    _descend(search, runs, search.unknowns)
    if any(run.status == "floor" for run in runs):
        search.stopped = "floor"
    elif _agreeing(search)[1] >= AGREEING_STARTS:
        search.stopped = "flat"
    elif search.expired():
        search.stopped = "time"
    search.seconds["lm"] += time.monotonic() - began


def _style_search(search: _Search, styles: Styles, latents: Tensor) -> Tensor:
    """Latents [k, d] whose styles come nearest to the best free styles found."""
    budget = search.budget
    with torch.no_grad():
        points = styles.whiten(latents)
    pool = _moved(search, styles, LatentSpec(styles.dim, "normal"), points)
    began = time.monotonic()
    order = pool.best_loss.argsort()[: budget.lm_starts]
    runs = matrixfree.start(styles, pool.best[order])
    search.style_runs += runs
    _descend(search, runs, styles)
    fitted = [_fit(search, styles, run.point) for run in sorted(runs, key=lambda r: r.residual)[: budget.lm_starts]]
    search.seconds["lm"] += time.monotonic() - began
    if not fitted:
        with torch.no_grad():
            index = int(pool.best_loss.argmin())
            search.best, search.best_loss = latents[index].to(styles.device), float("inf")
        return latents[:0]
    return torch.stack(fitted)


def _fit(search: _Search, styles: Styles, style: Tensor) -> Tensor:
    """The latent [d] whose mapping comes nearest to a whitened style, of several starts."""
    model = StyleFit(styles)
    runs: list[lm.Run] = []
    for z in search.generator.latent.draw(FIT_STARTS, search.rng).to(styles.device):
        run = lm.start(model, style, z)
        lm.advance(run, model, style, iterations=FIT_ITERATIONS, chords=3, goal=FIT_GOAL, stop=search.expired)
        runs.append(run)
        if run.status == "floor":
            break
    return min(runs, key=lambda r: r.residual).z


def _agreeing(search: _Search) -> tuple[Run | None, int]:
    """The best run, and how many starts ended at its minimum."""
    if not search.runs:
        return None, 0
    best = min(search.runs, key=lambda r: r.residual)
    near = [run for run in search.runs if run.residual <= best.residual * (1 + AGREEMENT_RATIO)]
    with torch.no_grad():
        pictures = [search.unknowns.pictures(run.point[None])[0] for run in (best, *near)]
    apart = [float((picture - pictures[0]).square().mean()) for picture in pictures[1:]]
    return best, sum(distance <= AGREEMENT_PICTURE * best.residual for distance in apart)


def _finish(search: _Search, free: bool, progress: Callable[[Progress], None] | None) -> Inversion:
    generator, budget, unknowns, probe = search.generator, search.budget, search.unknowns, search.probe
    best, agreeing = _agreeing(search)
    z = best.point if best is not None else search.best
    if z is None:
        z = unknowns.project(torch.ones(1, unknowns.dim, device=unknowns.device))[0]
    began = time.monotonic()
    reason = guard(z, generator.latent, unknowns.samples)
    near = best is not None and best.residual <= FLOOR_REACHED * FLOOR
    if near and budget.exact_iterations and generator.latent.dim * 4 <= unknowns.samples:
        certificate = certify(unknowns, z, probe, iterations=budget.exact_iterations)
        if certificate.mismatches == 0:
            z = certificate.z.to(unknowns.device)
            reason = guard(z, generator.latent, unknowns.samples)
        if progress is not None:
            progress(Progress(generator.digest, "exact", search.rounds, unknowns_floors(unknowns, z)))
    search.seconds["exact"] += time.monotonic() - began
    picture = generator.sample(z[None])[0]
    mismatches = int((picture != probe).sum())
    with torch.no_grad():
        pictures = unknowns.pictures(z[None])
        error = unknowns.error(pictures)[0][0].double().cpu()
    residual = float(error.square().mean())
    exact = mismatches == 0 and reason is None
    output = generator.output
    size = (output.channels, output.height, output.width)
    image = pictures[0].double().cpu().reshape(size).permute(1, 2, 0)
    found = None if residual <= FLOOR_REACHED * FLOOR else _free_match(search, z, free)
    return Inversion(
        generator=generator.digest,
        residual=residual,
        distance=residual,
        z=z.detach().cpu().double().numpy(),
        reconstruction=picture.numpy(),
        exact=exact,
        mismatches=mismatches,
        samples=unknowns.samples,
        square_norm=float(z.double().square().sum()),
        guard=reason,
        starts=search.starts,
        iterations=sum(run.iterations for run in (*search.runs, *search.style_runs)),
        rounds=search.rounds,
        diagnostics=Diagnostics(
            reducible=matrixfree.reducible(unknowns, z),
            agreeing_starts=agreeing,
            polished_starts=len(search.runs),
            whiteness=whiteness(error.reshape(size).permute(1, 2, 0).numpy()),
            expected=expected_floor(probe.cpu().numpy(), image.numpy()),
        ),
        stopped="exact" if exact else search.stopped or "budget",
        seconds=dict(search.seconds),
        free=found,
    )


def unknowns_floors(unknowns: Unknowns, z: Tensor) -> float:
    """Residual of a latent [d] in floors."""
    with torch.no_grad():
        return float(unknowns.loss(z[None])[0]) / FLOOR


def _free_match(search: _Search, z: Tensor, noise: bool) -> FreeMatch | None:
    """The nearest that free inputs come: the styles searched anyway, and noise maps where asked for."""
    began = time.monotonic()
    found: list[FreeMatch] = []
    if search.style_runs and search.styles is not None:
        run = min(search.style_runs, key=lambda r: r.residual)
        found.append(_as_match("style", run, run.point))
    # after a style that explains the probe nothing is gained by noise too
    if noise and search.generator.noise and not any(match.matches for match in found) and not search.expired():
        unknowns = Unknowns(search.generator, search.probe, tuple(search.generator.noise))
        # with the nearest latent, but not bound to its minimum: the maps start small
        runs = matrixfree.start(unknowns, unknowns.lengthen(z[None], search.rng))
        for _ in range(FREE_PATIENCE):
            _descend(search, runs, unknowns, FREE_PRIOR)
        found.append(_as_match("noise", runs[0], runs[0].point[search.generator.latent.dim :]))
    search.seconds["free"] += time.monotonic() - began
    return min(found, key=lambda match: (not match.matches, match.residual), default=None)


def _as_match(inputs: str, run: Run, numbers: Tensor) -> FreeMatch:
    """The largest |u|^2 that the prior gives is a bound; there is no least one: the search prefers small numbers."""
    square, count = float(numbers.double().square().sum()), numbers.numel()
    return FreeMatch(inputs, run.residual, square, count, square <= float(chi2.ppf(1 - PRIOR_TAIL / 2, count)))
