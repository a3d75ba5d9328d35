"""Bad generators are refused by name and reason before anything rests on them; good ones pass untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from plausible.attribution.generators import Generator, check_generator, make_generator
from plausible.schemas.errors import EvidenceError, PlausibleError
from torch import Tensor, nn

from .conftest import SIGNED, UNIT, small_dcgan, small_mlp


class Odd(nn.Module):
    """A good small generator with one thing done to its pictures or its latents."""

    latent_dim, image_shape = 5, (3, 8, 8)

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda x: x, *, before: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(5, 192)
        self.change, self.before = change, before

    def forward(self, z: Tensor) -> Tensor:
        raw = self.linear(self.change(z) if self.before else z).tanh().reshape(-1, 3, 8, 8)
        return raw if self.before else self.change(raw)


def generator(module: nn.Module, sampling: dict[str, Any] = SIGNED) -> Generator:
    return make_generator("odd", module, "odd", {}, sampling)


def test_good_generators_pass_without_a_note() -> None:
    assert check_generator(small_mlp(0)[0]) == ()
    assert check_generator(generator(Odd())) == ()
    dcgan = make_generator("d", small_dcgan(0), "dcgan-64", {"latent": 8, "width": 4}, SIGNED)
    assert check_generator(dcgan) == ()


def not_a_number() -> nn.Module:
    module = Odd()
    with torch.no_grad():
        module.linear.bias[3] = float("nan")
    return module


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (not_a_number, "'linear.bias' holds NaN"),
        (lambda: Odd(lambda x: x / (x - x)), "NaN or infinity of its own latents"),
        (lambda: Odd(lambda z: z * 0, before=True), "ignores its latent"),
        (lambda: Odd(lambda x: x.detach()), "not differentiable"),
        (lambda: Odd(lambda x: (x * 8).round() / 8), "no gradient by its latent, although"),
        (lambda: Odd(lambda x: x + 0.1 * torch.randn_like(x)), "does not repeat itself"),
        (lambda: Odd(lambda x: x - x.mean(0, keepdim=True) * (len(x) > 1)), "mixes the pictures of a batch"),
        (lambda: Odd(lambda x: x[:1]), "makes outputs"),
        (lambda: Odd(lambda x: (x * 127).to(torch.int32)), "floating-point"),
        (lambda: Odd(lambda x: x * 127.5 + 127.5), "its output range is"),
    ],
)
def test_bad_generators_are_named_in_one_sentence(module: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(PlausibleError, match=reason) as caught:
        check_generator(generator(module()))
    assert "\n" not in str(caught.value)


def test_a_range_that_is_not_the_generators_is_refused() -> None:
    with pytest.raises(EvidenceError, match="output range"):
        check_generator(generator(Odd(lambda x: (x * 3).tanh()), UNIT))


def test_a_wrong_picture_size_is_refused_at_once() -> None:
    module = Odd()
    module.image_shape = (3, 9, 9)
    with pytest.raises(EvidenceError, match="makes outputs"):
        generator(module)


def test_a_sigmoid_under_the_range_of_a_tanh_is_noted() -> None:
    (note,) = check_generator(generator(Odd(lambda x: (x + 1) / 2)))
    assert "upper half of [-1, 1]" in note


def test_unused_latent_numbers_are_noted() -> None:
    def half(z: Tensor) -> Tensor:
        return torch.cat([z[:, :3], z[:, 3:] * 0], 1)

    (note,) = check_generator(generator(Odd(half, before=True)))
    assert "2 of 5" in note
