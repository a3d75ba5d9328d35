"""Changes of the closed list repeated to the bit: an own copy is told from a relative's by what its roundings leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plausible.attribution.calibration.classes import FILTERS, resize
from plausible.attribution.generators import Generator
from plausible.attribution.inversion import invert_relaxed
from plausible.attribution.inversion.budget import Budget
from plausible.attribution.inversion.chain import Chain, Resize, confirm_chain
from plausible.attribution.inversion.chain.listing import Near, chains, squared_errors
from plausible.attribution.inversion.chain.resize import FIXED_POINT_BITS, resize_matrix, vertical_first
from plausible.attribution.inversion.chain.roundings import expected
from plausible.attribution.inversion.confirmation import Confirmation

from .conftest import SIDE, smooth

QUICK = Budget(adam_starts=6, adam_steps=30, lm_starts=2, lm_iterations=30, rounds=2)
BACK = (Resize(SIDE, SIDE, "bicubic"),)
CHAINS = (
    Chain(SIDE, SIDE, window=(1, 0, SIDE - 1, SIDE - 2)),
    Chain(SIDE, SIDE, window=(1, 0, SIDE - 2, SIDE - 1), resizes=BACK),
    Chain(SIDE, SIDE, resizes=(Resize(26, 26, "lanczos"), *BACK)),
    Chain(SIDE, SIDE, resizes=(Resize(27, 27, "bilinear"),)),
)


def picture(generator: Generator, seed: int) -> np.ndarray:
    return generator.sample(generator.latent.draw(1, torch.Generator().manual_seed(seed)))[0].numpy()


def confirmed(probe: np.ndarray, generator: Generator) -> Confirmation:
    native = probe if probe.shape[:2] == (SIDE, SIDE) else resize(probe, SIDE, SIDE, "bicubic")
    relaxed = invert_relaxed(native, [generator], QUICK, seed=2, threads=1)[0]
    found = confirm_chain(probe, generator, relaxed, QUICK, seed=2, threads=1)
    assert found is not None
    return found


def relative(generator: Generator) -> Generator:
    """The same network with every weight moved by one part in a hundred."""
    other = smooth(1)
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in other.module.parameters():
            weight.mul_(1 + 0.01 * torch.randn(weight.shape, generator=rng))
    assert other.latent == generator.latent
    return other


@pytest.mark.parametrize("name", sorted(FILTERS))
@pytest.mark.parametrize("size", [(32, 32, 20, 30), (32, 32, 41, 23), (30, 28, 27, 61), (20, 32, 32, 32)])
def test_the_matrices_are_pillows_to_the_bit(name: str, size: tuple[int, int, int, int]) -> None:
    height, width, h, w = size
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)

    def one_pass(samples: np.ndarray, axis: int, after: int) -> np.ndarray:
        if samples.shape[axis] == after:
            return samples
        exact = resize_matrix(samples.shape[axis], after, name) * 2**FIXED_POINT_BITS
        whole = np.trunc(exact + np.copysign(0.5, exact)).astype(np.int64)
        product = np.tensordot(whole, samples.astype(np.int64), (1, axis))
        rounded = (product + 2 ** (FIXED_POINT_BITS - 1)) >> FIXED_POINT_BITS
        return np.moveaxis(np.clip(rounded, 0, 255), 0, axis)

    first, second = ((0, h), (1, w)) if vertical_first((height, width), (h, w)) else ((1, w), (0, h))
    assert np.array_equal(one_pass(one_pass(pixels, *first), *second), resize(pixels, h, w, name))


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_a_chain_leaves_the_error_that_its_roundings_give(chain: Chain) -> None:
    rng = np.random.default_rng(4)
    smooth_picture = rng.uniform(60, 190, (SIDE, SIDE, 3))
    down, across = chain.operator()
    rendered = chain.render(np.rint(smooth_picture).astype(np.uint8))
    assert rendered.shape == (*chain.shape, 3)
    error = rendered - np.einsum("ij,jkc,lk->ilc", down, smooth_picture, across)
    everywhere = np.ones((3, *chain.shape), dtype=np.bool_)
    assert np.square(error).sum() == pytest.approx(expected(chain, everywhere), rel=0.15)


def test_a_mirrored_chain_is_the_chain_of_the_mirrored_picture() -> None:
    pixels = picture(smooth(1), 3)
    chain = Chain(SIDE, SIDE, True, (1, 0, SIDE - 2, SIDE - 1), BACK)
    plain = Chain(SIDE, SIDE, False, (1, 0, SIDE - 2, SIDE - 1), BACK)
    assert np.array_equal(chain.render(pixels), plain.render(np.ascontiguousarray(pixels[:, ::-1])))
    assert chain.class_name == "crop"
    assert str(chain) == f"mirrored, cropped to {SIDE - 2}x{SIDE - 1} at 1,0, resized back by bicubic"


def test_the_list_holds_what_the_classes_do_and_scores_it() -> None:
    listed = chains((SIDE, SIDE), SIDE, SIDE, Near(left=1.2, bottom=0.7))
    assert all(chain in listed for chain in CHAINS if chain.shape == (SIDE, SIDE))
    assert CHAINS[0] in chains(CHAINS[0].shape, SIDE, SIDE, Near(left=1.0))
    assert CHAINS[3] in chains(CHAINS[3].shape, SIDE, SIDE, Near())
    assert chains((SIDE * 3, SIDE * 3), SIDE, SIDE, Near()) == []
    pixels = picture(smooth(1), 3)
    changed = CHAINS[2].render(pixels).transpose(2, 0, 1).astype(np.float64)
    errors = squared_errors(listed, pixels.transpose(2, 0, 1).astype(np.float64), changed)
    assert listed[int(np.argmin(errors))] == CHAINS[2]


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_an_own_copy_is_confirmed_with_its_chain_and_a_relatives_is_not(chain: Chain) -> None:
    generator = smooth(1)
    own = confirmed(chain.render(picture(generator, 7)), generator)
    assert own.change == str(chain)
    assert own.class_name == chain.class_name
    assert own.statistic < 2
    assert own.uncounted is None
    assert own.exact == (own.differences == 0)
    other = confirmed(chain.render(picture(relative(generator), 7)), generator)
    assert other.statistic > 5
    assert not other.exact


def test_a_whole_crop_is_exact() -> None:
    generator = smooth(1)
    found = confirmed(CHAINS[0].render(picture(generator, 7)), generator)
    assert found.exact
    assert found.differences == 0
    assert np.array_equal(found.z, found.z.astype(np.float32))
