"""`confirm_chain`: which chain of the closed list, exactly, and whether the generator's picture went through it.

Starts where `invert_relaxed` ended. The latent found there was fitted through a smooth warp, so it lies a little beside
the true one for every chain; choosing the chain and moving the latent take turns: all chains are scored at the latent,
the best of each class once more with the latent fitted to them by one linear step, the best of those by a Jacobian
each. When the choice stays, the latent is polished to the end, and settled through the very roundings (settle.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...generators.protocol import Generator
from ...scoring.floor import LEVELS
from ..budget import Budget
from ..confirmation import Confirmation
from ..engine import settings
from ..exact import guard
from ..lm import Run, advance, start
from ..network import Network
from ..relaxed import RelaxedInversion
from .chain import Chain, Pixels
from .listing import Near, chains, squared_errors
from .network import ChainedNetwork, Tangents, flat
from .roundings import expected
from .settle import Settled, Settling, statistic

CHAIN_METHOD = "chain:1"
"""Changes whenever a statistic does: the key of its calibrations."""
LARGEST_SIDE = 128
"""Pixels; the list of a larger generator would be too long."""
ROUNDS = 6
"""Times the chain is chosen, at most."""
REFITTED = 16
"""Chains of each class that a linear step is tried for."""
TRIED = 4
"""Chains that get a Jacobian each."""
FAR = 3.0
HEAT = 4
"""Jacobians before the chain is chosen again at the better latent, if the residual is within so many times what is
expected of a true one."""
JACOBIANS = 30
"""At most, elsewhere: from a valley beside the true one the way down is long and winding."""
PRECISE = 10
"""Precise Jacobians at the end, if it is not near enough by then."""
RIVALS = 12
"""Chains whose copies are rendered where the chosen one's differ too much."""
SETTLED = 1.5
HOPELESS = 50.0
"""Statistics between which that is done: a chain beside the true one comes to 10 or 25."""
NEAR_ENOUGH = 1.1
"""Times the expected residual at which a polish ends: the precise fit does the rest (settle.py)."""


@dataclass(frozen=True, slots=True)
class _Work:
    network: Network
    tangents: Tangents
    probe: Pixels
    target: Tensor
    listed: Sequence[Chain]
    chords: int

    def wide(self, chain: Chain, precise: bool = False) -> ChainedNetwork:
        return ChainedNetwork(self.tangents, chain, precise)

    def polish(self, chain: Chain, z: Tensor, iterations: int, precise: bool = False) -> Run:
        network, goal = self.wide(chain, precise), NEAR_ENOUGH * _expected(self, chain)
        run = start(network, self.target, z)
        return advance(run, network, self.target, iterations=iterations, chords=self.chords, goal=goal)


def confirm_chain(
    probe: Pixels,
    generator: Generator,
    relaxed: RelaxedInversion,
    budget: Budget,
    *,
    seed: int,
    threads: int | None = None,
    device: torch.device | str = "cpu",
) -> Confirmation | None:
    """The chain that explains `probe`, uint8 [h, w, C] at its own size, best, and how well.

    `relaxed` is what was found of the probe brought to the generator's size. None where no chain of the list makes a
    picture of that size, or where the generator is too large. Deterministic up to float rounding of the machine.
    """
    output, found = generator.output, relaxed.change
    network = Network(generator, device)
    near = Near(found.mirrored, found.left, found.right, found.top, found.bottom)
    listed = chains((probe.shape[0], probe.shape[1]), output.height, output.width, near)
    if not listed or max(output.height, output.width) > LARGEST_SIDE or not network.linearisable:
        return None
    with settings(threads):
        work = _Work(network, Tangents(network), probe, flat(probe).to(network.device), listed, budget.lm_chords)
        chain, z = _search(work, torch.from_numpy(relaxed.z).float().to(network.device))
        return _told(work, chain, z, generator, torch.Generator().manual_seed(seed))


def _search(work: _Work, z: Tensor) -> tuple[Chain, Tensor]:
    """The chain and its polished latent."""
    best = (math.inf, work.listed[0], z)
    for _ in range(ROUNDS):
        runs = [(chain, work.polish(chain, z, 1)) for chain in _candidates(work, z, TRIED)]
        chain, run = min(runs, key=lambda pair: pair[1].residual)
        again = best[0] < math.inf and chain == best[1]
        near = not again and _ratio(work, chain, run.residual) <= FAR
        run = work.polish(chain, run.z, HEAT if near else JACOBIANS)
        z = run.z
        if run.residual < best[0]:
            best = run.residual, chain, z
        if again:
            break
    _, chain, z = best
    # along the directions that a strong reduction leaves weak a rough Jacobian leads nowhere
    run = work.polish(chain, z, PRECISE, precise=True)
    return chain, run.z


def _ratio(work: _Work, chain: Chain, residual: float) -> float:
    """Residual over what the chain's roundings leave: whether a search is near its end, whatever the chain."""
    return residual / _expected(work, chain)


def _expected(work: _Work, chain: Chain) -> float:
    """Mean squared error on [0, 1] that the chain's roundings would leave if all samples rounded freely."""
    everywhere = np.ones((work.probe.shape[2], *work.probe.shape[:2]), dtype=np.bool_)
    return expected(chain, everywhere) / (LEVELS**2 * work.probe.size)


def _candidates(work: _Work, z: Tensor, count: int) -> list[Chain]:
    """The `count` chains that would explain the probe best after one linear step of the latent."""
    picture, jacobian = work.tangents.at(z)
    output = work.network.generator.output
    shape = (output.channels, output.height, output.width)
    target = work.target.cpu().numpy().reshape(work.probe.shape[2], *work.probe.shape[:2])
    flat_picture = picture.cpu().numpy().reshape(shape)
    nearest = work.listed[int(np.argmin(squared_errors(work.listed, flat_picture, target)))]
    basis = np.linalg.qr(work.wide(nearest).changed(jacobian).cpu().numpy().T)[0]
    errors = squared_errors(work.listed, flat_picture, target, basis)
    order = [int(i) for i in np.argsort(errors)]
    kept: list[Chain] = []
    for name in dict.fromkeys(chain.class_name for chain in work.listed):
        kept += [work.listed[i] for i in order if work.listed[i].class_name == name][:REFITTED]
    if len(kept) <= count:
        return kept
    scored = [(_refitted(work, chain, picture, jacobian), index) for index, chain in enumerate(kept)]
    return [kept[index] for _, index in sorted(scored)[:count]]


def _refitted(work: _Work, chain: Chain, picture: Tensor, jacobian: Tensor) -> float:
    """Sum of squares after a Gauss-Newton step, as the linear model predicts it."""
    network = work.wide(chain)
    error = work.target - network.changed(picture[None])[0]
    steep = network.changed(jacobian)
    system = (steep @ steep.T).cpu().double()
    system.diagonal().add_(1e-6 * float(system.diagonal().mean()) + 1e-30)
    gradient = (steep @ error).cpu().double()
    gain = float(gradient @ torch.linalg.solve(system, gradient))
    return float(error.square().sum()) - gain


def _settled(work: _Work, chain: Chain, z: Tensor, rng: torch.Generator) -> tuple[Chain, Settled, float]:
    """The chain whose copies come nearest, what is left of it, and its statistic.

    Chains that stretch a picture hardly differ before they are rounded: where the chosen one does not settle, the next
    ones are rendered too.
    """
    best = _settle(work, chain, z)
    left = statistic(best[1].left, best[2].own(best[1].z, rng))
    for rival in _candidates(work, z, RIVALS) if SETTLED < left <= HOPELESS else ():
        other = best if rival == chain else _settle(work, rival, z)
        if other[1].left < best[1].left:
            best = other
            left = statistic(best[1].left, best[2].own(best[1].z, rng))
        if left <= SETTLED:
            break
    return best[0], best[1], left


def _settle(work: _Work, chain: Chain, z: Tensor) -> tuple[Chain, Settled, Settling]:
    settling = Settling(work.wide(chain), work.probe, z)
    (settled,) = settling.settle([work.probe], settling.fitted(z)[None])
    return chain, settling.certified(settled), settling


def _told(work: _Work, chain: Chain, z: Tensor, generator: Generator, rng: torch.Generator) -> Confirmation:
    chain, settled, left = _settled(work, chain, z, rng)
    best = settled.z.cpu()
    objection = guard(best, generator.latent, chain.fewest_samples * work.probe.shape[2])
    return Confirmation(
        generator=generator.digest,
        method=CHAIN_METHOD,
        change=str(chain),
        class_name=chain.class_name,
        statistic=left,
        differences=settled.differences,
        samples=int(work.probe.size),
        square_norm=float(best.double().square().sum()),
        z=best.double().numpy(),
        exact=settled.differences == 0 and objection is None,
        uncounted=objection,
    )
