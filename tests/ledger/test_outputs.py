"""The digest of a picture is the replay's: rounding operation by operation, whatever form the output had."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from plausible.attribution.generators import OutputSpec
from plausible.ledger.entries.digests import ROUNDINGS, canonical_pixels, pixel_digest
from plausible.ledger.recorder.outputs import Rounding, pictures
from plausible.schemas.errors import UsageError

RULE = Rounding("mul127.5_add128_trunc", -1.0, 1.0)


@pytest.mark.parametrize("rule", ROUNDINGS)
@pytest.mark.parametrize("limits", [(-1.0, 1.0), (0.0, 1.0), (-2.5, 3.1), (0.0, 255.0)])
@pytest.mark.parametrize("size", [16, 256])  # small outputs are rounded by numpy, large ones too: the engine uses torch
def test_rounding_is_bit_equal_to_the_engines(rule: Any, limits: tuple[float, float], size: int) -> None:
    low, high = limits
    generator = torch.Generator().manual_seed(1)
    raw = torch.rand(2, 3, size, size, generator=generator) * (high - low) * 1.1 + low - 0.05 * (high - low)
    # values at and beside every boundary between two levels
    edges = torch.linspace(low, high, 511).repeat(2)[: min(511 * 2, 3 * size)].reshape(-1)
    raw.view(-1)[: edges.numel()] = edges
    expected = OutputSpec(size, size, 3, low, high, rule).to_uint8(raw).numpy()
    for form in (raw, raw.numpy()):
        made = pictures(form, Rounding(rule, low, high))
        assert [p.developed().digest for p in made] == [pixel_digest(sample) for sample in expected]


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (np.zeros((5, 7, 3), np.uint8), 1),
        (np.zeros((5, 7), np.uint8), 1),
        (np.zeros((2, 5, 7, 4), np.uint8), 2),
        (torch.zeros(2, 3, 5, 7, dtype=torch.uint8), 2),
        (torch.zeros(2, 1, 5, 7), 2),
        (torch.zeros(3, 5, 7, dtype=torch.bfloat16), 1),
        ([PIL.Image.new("RGBA", (7, 5)), PIL.Image.new("L", (7, 5))], 2),
        (PIL.Image.new("P", (7, 5)), 1),
        ({"images": [np.zeros((5, 7, 3), np.uint8)]}, 1),
        (np.zeros((2, 5, 7, 3), np.float32), 2),
    ],
)
def test_the_forms_that_are_understood(value: Any, count: int) -> None:
    made = pictures(value, RULE)
    assert len(made) == count
    assert {(p.developed().height, p.developed().width) for p in made} == {(5, 7)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((3, 5, 3), np.uint8), "which axis"),
        (np.zeros((5, 7, 3), np.int32), "int32"),
        (torch.zeros(3, 5, 7, dtype=torch.int64), "int64"),
        (np.zeros((2, 2, 5, 7, 3), np.uint8), "no picture"),
        (PIL.Image.new("CMYK", (7, 5)), "CMYK"),
        (PIL.Image.new("I;16", (7, 5)), "I;16"),
        (3, "int"),
        ([], "list"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pictures(value, RULE)


def test_floats_without_a_range_are_refused() -> None:
    with pytest.raises(UsageError, match="output_range"):
        pictures(torch.zeros(3, 5, 7), None)


def test_a_picture_is_taken_over_before_its_buffer_changes() -> None:
    buffer = np.zeros((5, 7, 3), np.uint8)
    raw = torch.zeros(3, 5, 7)
    [one], [other] = pictures(buffer, None), pictures(raw, RULE)
    buffer += 9
    raw += 0.5
    assert one.developed().digest == pixel_digest(np.zeros((5, 7, 3), np.uint8))
    assert other.developed().digest == pixel_digest(np.full((5, 7, 3), 128, np.uint8))


def test_pil_modes_are_those_of_the_reader(tmp_path: Any) -> None:
    """What is logged from memory is what a reader of the saved file computes."""
    from plausible.ledger.entries.images import read_image

    rng = np.random.default_rng(0)
    for mode, channels in (("RGB", 3), ("RGBA", 4), ("L", 1), ("LA", 2)):
        samples = rng.integers(0, 256, (5, 7, channels), dtype=np.uint8)
        image = PIL.Image.fromarray(samples[..., 0] if channels == 1 else samples, mode=None)
        assert image.mode == mode
        image.save(tmp_path / "x.png")
        [made] = pictures(image, None)
        assert made.developed().digest == read_image(tmp_path / "x.png").pixel_digest
        assert made.developed().digest == pixel_digest(canonical_pixels(samples))
