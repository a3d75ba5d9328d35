"""`confirm_file`: could this JPEG file have been written from a generator's picture? Its coefficients' likelihood says.

From latents that an inversion of the decoded pixels found, Newton's method with a ladder of dampings maximises the
likelihood of the file's coefficients (distances/jpeg/likelihood.py) times the prior. The interval of a coarse
coefficient has walls as steep as the roundings before it are small, so it is descended in stages: first as if every
coefficient carried half a unit of noise, then less, then none beyond its own. What stands at the end is a test of fit:
the surprise of the file, in units of what the roundings of a true match leave. Relatives' files are far from it, since
no latent of the original lies within thousands of intervals at once. Source: Marquardt (1963) for the damping; for
the stages: graduated non-convexity, Blake and Zisserman (1987).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...schemas.errors import UsageError
from ..distances.jpeg.file import JpegFile, read_jpeg
from ..distances.jpeg.forward import Forward
from ..distances.jpeg.likelihood import ROUNDING, ZEROING, Habit, Likelihood, Surprise, habits
from ..distances.jpeg.residual import libjpeg_quality
from ..generators.protocol import Generator
from .budget import Budget
from .confirmation import Confirmation
from .network import Network
from .preparation import settings, time_guard
from .relaxed import RelaxedInversion

COEFFICIENTS_METHOD = "coefficients:1"
"""Name and version of this search and its statistic: what a calibration of it is keyed by."""
BLURS = (0.5, 0.25, 0.12, 0.06, 0.0)
"""Noise beside a coefficient's own, in units of Q, stage by stage."""
JACOBIANS = 24
"""At most so many in a stage."""
INFORMATIVE = {ROUNDING: 5, ZEROING: 7}
"""Coefficients other than 0 that a file must hold for each number of the latent, by its encoder's habits: with fewer, a
relative's file is explained too. Faces of clones with 1 % weight noise were, in jpegli's files of 489 to 630 such
coefficients for 100 numbers; not in libjpeg's of 655 and more, nor in jpegli's of 703 and more (ADR 0019)."""
GAIN = (1.0, 0.01)
"""A stage ends when a Jacobian lowers its loss by less than this much and this share; the last one at a tenth of it."""
HOPELESS = 3.0
"""Times what a true match leaves of a stage's own noise: a stage that ends beyond it is not followed by another."""
LADDER = (10.0, 1.0, 0.1, 0.01, 0.0)
"""Trial dampings in units of the run's own, which is relative to the mean curvature."""
DAMPING = (1e-6, 1e4)
"""Where the run's own stays."""


def confirm_file(
    data: bytes | JpegFile,
    generator: Generator,
    starts: Tensor,
    *,
    mirrored: bool = False,
    budget: Budget | None = None,
    threads: int | None = None,
    device: torch.device | str = "cpu",
) -> Confirmation | None:
    """The best explanation of a baseline JPEG file of the generator's own size, from latents `starts` [k, d] in turn.

    `mirrored`: the generator's picture was mirrored before it was encoded. The first start whose file is as probable as
    a true match's ends the search. None where nothing can be said: the file says too little (`INFORMATIVE`), or no
    Jacobian fits. `EvidenceError` for other bytes, `UsageError` for another size. `budget` gives its time guard alone.
    """
    file = data if isinstance(data, JpegFile) else read_jpeg(data)
    output = generator.output
    if (file.height, file.width) != (output.height, output.width):
        raise UsageError(
            f"the JPEG file is {file.width}x{file.height}, generator {generator.name!r} makes "
            f"{output.width}x{output.height}: coefficients of another size cannot be compared"
        )
    expired = time_guard(budget or Budget())
    with settings(threads):
        network = Network(generator, device)
        forward = Forward(file, output.channels, network.device)
        # as exact.guard: a latent must be small beside what it explains; zeros explain nothing
        if not network.linearisable or file.informative < max(INFORMATIVE[h] for h in habits(forward)) * network.dim:
            return None
        best: tuple[Tensor, Surprise] | None = None
        for habit in habits(forward):
            problem = _Problem(network, forward, habit, mirrored)
            for start in generator.latent.project(starts.to(network.device, torch.float32)):
                z = _descended(problem, start, expired)
                found = problem.surprise(z)
                if best is None or found.ratio < best[1].ratio:
                    best = z, found
                if best[1].ratio <= 1 or expired():
                    return _confirmation(network, forward, mirrored, *best)
        return None if best is None else _confirmation(network, forward, mirrored, *best)


def confirm_relaxed(
    data: bytes | JpegFile,
    generator: Generator,
    relaxed: RelaxedInversion,
    *,
    budget: Budget | None = None,
    threads: int | None = None,
    device: torch.device | str = "cpu",
) -> Confirmation | None:
    """`confirm_file` from where `invert_relaxed` of the decoded pixels ended, mirrored if it found the picture so."""
    start = torch.from_numpy(relaxed.z).float()[None]
    return confirm_file(
        data, generator, start, mirrored=relaxed.change.mirrored, budget=budget, threads=threads, device=device
    )


@dataclass(slots=True)
class _Problem:
    """One file, by one habit of its encoder, on one generator."""

    network: Network
    forward: Forward
    habit: Habit
    mirrored: bool
    likelihood: Likelihood = field(init=False)

    def __post_init__(self) -> None:
        self.likelihood = Likelihood(self.forward, self.habit)

    def seen(self, pictures: Tensor) -> Tensor:
        """Flat pictures [B, N] as the encoder got them."""
        if not self.mirrored:
            return pictures
        output = self.network.generator.output
        return pictures.unflatten(1, (output.channels, output.height, output.width)).flip(3).flatten(1)

    def coefficients(self, z: Tensor) -> Tensor:
        """[B, M] of latents [B, d]."""
        return self.forward.coefficients(self.seen(self.network.unit(z)))

    def linearise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(coefficients [M], Jacobian [d, M]) at a latent [d]."""
        picture, jacobian = self.network.linearise(z, precise=True)
        return self.forward.coefficients(self.seen(picture[None]))[0], self.forward.linear(self.seen(jacobian))

    def losses(self, z: Tensor, blur: float) -> Tensor:
        """float64 [B]: surprise and half the squared norm where the prior is normal."""
        terms = self.likelihood.terms(self.coefficients(z), blur)
        return terms.double().sum(1) + 0.5 * (z.square() @ self.network.normal).double()

    @torch.no_grad()
    def surprise(self, z: Tensor, blur: float = 0.0) -> Surprise:
        """By the owner's own module."""
        generator = self.network.generator
        pictures = generator.images(z.float()[None].to(generator.device)).flatten(1).to(self.forward.device)
        return self.likelihood.surprise(self.forward.coefficients(self.seen(pictures))[0], blur)


@torch.no_grad()
def _confirmation(network: Network, forward: Forward, mirrored: bool, z: Tensor, found: Surprise) -> Confirmation:
    generator, file = network.generator, forward.file
    pixels = generator.sample(z[None])
    written = forward.encode(pixels.flip(2) if mirrored else pixels)
    differences = int((written[0] != forward.target.to(torch.int32)).sum())
    quality, objection = libjpeg_quality(file), generator.latent.objection(z.cpu())
    tables = "tables of its own" if quality is None else f"libjpeg's tables of quality {quality}"
    return Confirmation(
        generator=generator.digest,
        method=COEFFICIENTS_METHOD,
        change=f"{'mirrored, ' if mirrored else ''}JPEG ({file.subsampling}, {tables})",
        class_name="mirror+jpeg" if mirrored else "jpeg",
        statistic=found.ratio,
        differences=differences,
        samples=file.count,
        square_norm=float(z.double().square().sum()),
        z=z.cpu().double().numpy(),
        exact=differences == 0 and objection is None,
        uncounted=objection,
    )


@torch.no_grad()
def _descended(problem: _Problem, z: Tensor, expired: Callable[[], bool]) -> Tensor:
    """Stage after stage from one latent, until the file is as probable as it should be or no stage can help."""
    damping = 1e-2
    for blur in BLURS:
        z, damping = _stage(problem, z, blur, damping, expired)
        if expired() or problem.surprise(z, blur).ratio > HOPELESS:
            break
    return z


def _stage(
    problem: _Problem, z: Tensor, blur: float, damping: float, expired: Callable[[], bool]
) -> tuple[Tensor, float]:
    """(latent, damping) after damped Newton steps under one noise."""
    normal = problem.network.normal
    loss = float(problem.losses(z[None], blur)[0])
    fine = 1.0 if blur else 0.1
    stuck = 0
    for _ in range(JACOBIANS):
        if expired():
            break
        coefficients, jacobian = problem.linearise(z)
        terms, slope, bend = problem.likelihood.derivatives(coefficients, blur)
        if not blur and float(terms.double().sum()) <= problem.likelihood.surprise(coefficients).mean:
            break  # as probable as it should be: nearer would be fitting the noise
        gradient = (jacobian @ slope + normal * z).double().cpu()
        system = ((jacobian * bend) @ jacobian.T + torch.diag(normal)).double().cpu()
        values, vectors = torch.linalg.eigh(system)
        lift = damping * float(values.mean().clamp_min(1e-9)) * torch.tensor(LADDER, dtype=torch.float64)
        floor = 1e-9 * float(values[-1].clamp_min(1e-9))
        steps = ((vectors.T @ gradient) / (values.clamp_min(floor) + lift[:, None])) @ vectors.T
        points = problem.network.project(z - steps.float().to(z.device))
        losses = problem.losses(points, blur).nan_to_num(torch.inf)
        best = int(losses.argmin())
        if not float(losses[best]) < loss:
            damping, stuck = min(damping * 30, DAMPING[1]), stuck + 1
            if stuck == 2:
                break
            continue
        gained, loss, z, stuck = loss - float(losses[best]), float(losses[best]), points[best], 0
        damping = min(max(damping * max(LADDER[best], 0.1), DAMPING[0]), DAMPING[1])
        if gained < fine * (GAIN[0] + GAIN[1] * loss):
            break
    return z, damping
