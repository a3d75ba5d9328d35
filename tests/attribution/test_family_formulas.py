"""The layers of the families against their formulae, computed another way: wrong constants make pictures too."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from plausible.attribution.generators.attention import SelfAttention
from plausible.attribution.generators.equalised import EqualConv2d, EqualLinear, pixel_norm
from plausible.attribution.generators.fir import fir_kernel, upfirdn
from plausible.attribution.generators.modulated import ModulatedConv2d
from plausible.attribution.generators.spectral import fold_spectral_norm
from plausible.attribution.generators.styled import MappingNetwork, StyledGenerator, mean_style
from plausible.attribution.generators.stylegan import AdaIN
from plausible.schemas.errors import SetupError
from scipy.signal import convolve2d
from torch import Tensor, nn
from torch.nn import functional

from .families import tiny


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def zeros_between(picture: np.ndarray) -> np.ndarray:
    wide = np.zeros((2 * picture.shape[0] - 1, 2 * picture.shape[1] - 1))
    wide[::2, ::2] = picture
    return wide


def test_equalised_layers_are_plain_ones_with_scaled_weights() -> None:
    linear = EqualLinear(6, 4, gain=1.3, rate=0.01, bias=2.0)
    x = normal(3, 6)
    expected = functional.linear(x, linear.weight * 1.3 * 0.01 / math.sqrt(6), torch.full((4,), 2.0 * 0.01))
    assert torch.allclose(linear(x), expected, atol=1e-6)
    assert 50 < float(linear.weight.detach().std()) < 200  # stored 1 / rate times larger
    conv = EqualConv2d(6, 4, 3, padding=1)
    plain = nn.Conv2d(6, 4, 3, padding=1, bias=False)
    with torch.no_grad():
        plain.weight.copy_(conv.weight * math.sqrt(2 / 54))  # He's constant for a fan-in of 6 x 9
    assert torch.allclose(conv(normal(2, 6, 5, 5)), plain(normal(2, 6, 5, 5)), atol=1e-5)


def test_pixel_norm_gives_every_position_a_mean_square_of_one() -> None:
    x = normal(2, 7, 3, 3)
    y = pixel_norm(x)
    assert torch.allclose(y.square().mean(1), torch.ones(2, 3, 3), atol=1e-5)
    assert torch.allclose(y[0, :, 1, 2], x[0, :, 1, 2] * math.sqrt(7) / x[0, :, 1, 2].norm(), atol=1e-5)


@pytest.mark.parametrize("taps", [(1, 2, 1), (1, 3, 3, 1)])
def test_filters_are_separable_convolutions(taps: tuple[int, ...]) -> None:
    kernel = np.outer(taps, taps) / sum(taps) ** 2
    assert np.allclose(fir_kernel(taps).numpy(), kernel)
    x = normal(1, 2, 6, 5)
    pad = len(taps) - 1
    found = upfirdn(x, fir_kernel(taps), before=pad, after=pad)
    for channel in range(2):
        assert np.allclose(found[0, channel].numpy(), convolve2d(x[0, channel].numpy(), kernel), atol=1e-5)


def test_doubling_by_zeros_and_a_filter_keeps_a_flat_picture_flat() -> None:
    flat = torch.ones(1, 1, 8, 8)
    doubled = upfirdn(flat, 4 * fir_kernel((1, 3, 3, 1)), up=2, before=2, after=1)
    assert doubled.shape == (1, 1, 16, 16)
    assert torch.allclose(doubled[..., 2:-2, 2:-2], torch.ones(1, 1, 12, 12), atol=1e-6)
    x = normal(1, 1, 4, 4)
    wide = np.pad(zeros_between(x[0, 0].numpy()), ((2, 2), (2, 2)))
    expected = convolve2d(wide, 4 * fir_kernel((1, 3, 3, 1)).numpy(), mode="valid")
    assert np.allclose(upfirdn(x, 4 * fir_kernel((1, 3, 3, 1)), up=2, before=2, after=1)[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("doubles", [True, False])
def test_modulated_convolution_is_one_explicit_convolution_a_picture(demodulate: bool, doubles: bool) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(4, 3, 3, 5, demodulate=demodulate, doubles=doubles).requires_grad_(False)
    x, w = normal(2, 4, 6, 6), normal(2, 5, seed=1)
    found = layer(x, w)
    assert found.shape == (2, 3, 12, 12) if doubles else (2, 3, 6, 6)
    for picture in range(2):
        style = layer.style(w[picture : picture + 1])[0]
        weight = layer.weight / math.sqrt(36) * style[None, :, None, None]
        if demodulate:
            weight = weight / torch.sqrt(weight.square().sum((1, 2, 3), keepdim=True) + 1e-8)
        for channel in range(3):
            total = np.zeros((12, 12) if doubles else (6, 6))
            for source in range(4):
                values, kernel = x[picture, source].numpy(), weight[channel, source].numpy()
                if doubles:
                    spread = convolve2d(zeros_between(values), kernel)  # 13 x 13: a transposed convolution
                    total += convolve2d(np.pad(spread, 1), 4 * fir_kernel((1, 3, 3, 1)).numpy(), mode="valid")
                else:
                    total += convolve2d(np.pad(values, 1), kernel[::-1, ::-1], mode="valid")
            assert np.allclose(found[picture, channel].numpy(), total, atol=1e-4)


def test_demodulated_outputs_have_unit_scale_whatever_the_style() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(32, 16, 3, 8).requires_grad_(False)
    x = normal(1, 32, 32, 32)
    small, large = (layer(x, normal(1, 8, seed=4) * factor) for factor in (1.0, 20.0))
    assert 0.8 < float(small[..., 1:-1, 1:-1].std()) < 1.2
    assert 0.8 < float(large[..., 1:-1, 1:-1].std()) < 1.2


def test_adain_is_torchs_instance_norm_with_the_styles_scale_and_shift() -> None:
    torch.manual_seed(0)
    layer = AdaIN(5, 4).requires_grad_(False)
    x, w = normal(2, 4, 6, 6), normal(2, 5, seed=1)
    affine = functional.linear(w, layer.style.weight / math.sqrt(5), layer.style.bias)
    expected = functional.instance_norm(x, eps=1e-8) * (affine[:, :4, None, None] + 1) + affine[:, 4:, None, None]
    assert torch.allclose(layer(x, w), expected, atol=1e-5)


def test_the_mapping_is_the_stated_chain() -> None:
    torch.manual_seed(0)
    mapping = MappingNetwork(6, 5, 2, math.sqrt(2), 1.0).requires_grad_(False)
    z = normal(3, 6)
    w = z / torch.sqrt(z.square().mean(1, keepdim=True) + 1e-8)
    for layer, width in zip(mapping.layers, (6, 5), strict=True):
        w = functional.leaky_relu(
            functional.linear(w, layer.get_parameter("weight") * 0.01 * math.sqrt(2 / width)), 0.2
        )
    assert torch.allclose(mapping(z), w, atol=1e-5)


def test_the_mean_style_is_the_mean_of_mapped_latents() -> None:
    module = tiny("stylegan2").module
    assert isinstance(module, StyledGenerator)
    z = normal(2000, 6, seed=7)
    spread = module.mapping(z).std(0) / math.sqrt(2000)
    assert bool(((mean_style(module, 2000) - module.mapping(z).mean(0)).abs() < 7 * spread + 1e-6).all())


def test_self_attention_position_by_position() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(8).requires_grad_(False)
    layer.gamma.fill_(0.7)
    x = normal(1, 8, 4, 4)

    def at(weight: Tensor, row: int, column: int) -> Tensor:
        return weight[:, :, 0, 0] @ x[0, :, row, column]

    pooled = [(row, column) for row in (0, 2) for column in (0, 2)]
    cells = [[(r, c), (r, c + 1), (r + 1, c), (r + 1, c + 1)] for r, c in pooled]
    keys = [torch.stack([at(layer.key.weight, *cell) for cell in block]).amax(0) for block in cells]
    values = [torch.stack([at(layer.value.weight, *cell) for cell in block]).amax(0) for block in cells]
    found = layer(x)
    for row in range(4):
        for column in range(4):
            scores = torch.stack([at(layer.query.weight, row, column) @ key for key in keys]).softmax(0)
            seen = torch.stack([s * v for s, v in zip(scores, values, strict=True)]).sum(0)
            expected = x[0, :, row, column] + 0.7 * layer.project.weight[:, :, 0, 0] @ seen
            assert torch.allclose(found[0, :, row, column], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["hook", "parametrization"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_folded_spectral_norm_computes_what_the_normalised_layers_do(kind: str) -> None:
    torch.manual_seed(0)
    wrap = nn.utils.spectral_norm if kind == "hook" else nn.utils.parametrizations.spectral_norm
    network = nn.Sequential(wrap(nn.Conv2d(3, 5, 3)), nn.Flatten(), wrap(nn.Linear(45, 4)))
    for _ in range(3):
        network(normal(2, 3, 5, 5))  # training steps turn the singular vectors
    network.eval()
    plain = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(45, 4))
    plain.load_state_dict(fold_spectral_norm(network.state_dict()))
    assert torch.allclose(plain(normal(2, 3, 5, 5)), network(normal(2, 3, 5, 5)), atol=1e-6)


def test_folding_with_one_vector_ends_at_the_largest_singular_value() -> None:
    weight = torch.diag(torch.tensor([3.0, 1.0]))
    folded = fold_spectral_norm({"l.weight": weight, "l.sn_u": torch.tensor([[1.0, 0.0]]), "l.sn_sigma": torch.ones(1)})
    assert set(folded) == {"l.weight"}
    assert torch.allclose(folded["l.weight"], weight / 3)


@pytest.mark.parametrize("damage", ["missing", "length", "zero"])
def test_spectral_states_that_cannot_be_folded_are_refused(damage: str) -> None:
    state = {"l.weight_orig": torch.ones(3, 2), "l.weight_u": torch.ones(3), "l.weight_v": torch.ones(2)}
    if damage == "missing":
        del state["l.weight_v"]
    elif damage == "length":
        state["l.weight_v"] = torch.ones(5)
    else:
        state["l.weight_orig"] = torch.zeros(3, 2)
    with pytest.raises(SetupError, match=r"l\.weight"):
        fold_spectral_norm(state)
