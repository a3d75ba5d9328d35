"""Every family that ships: shapes, ranges, determinism, gradients, and digests that stay what they were."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from plausible.attribution.generators import (
    check_generator,
    fresh,
    known_architectures,
    load_model_folder,
    make_generator,
    save_model_folder,
)
from plausible.attribution.generators.registry import build
from plausible.attribution.generators.styled import StyledGenerator
from plausible.attribution.inversion import invert
from plausible.attribution.inversion.budget import Budget
from plausible.attribution.inversion.network import Network
from plausible.schemas.errors import EvidenceError, UsageError

from .families import SIGNED, STYLED, TINY, dyadic, tiny

DIGESTS = {
    "mlp-decoder": "sha256:61199afae4cad1181fa742ce39664c38c90a8ad711d91e14d029a019db537d54",
    "dcgan-64": "sha256:1f5c17161678852e6b09c2a0c5437a00457455afecc19f763a8bdc93460c92b0",
    "dcgan-mnist": "sha256:3e6bba6e765739ecf7ae9c9b9afa4af45b17d19882d5aa7ca9f38ebc945c2267",
    "brownlee-mnist": "sha256:57652d83a1f1cca44bc7b5c69116a75b1443c68cfee10a2addc485af91f29923",
    "sngan-resnet": "sha256:8c6396c5a2f515dfbcddf94e5f7878b149b73a7f6f78185c7ee8a584e92b41af",
    "sagan-resnet": "sha256:5252ab4a1b4e80b8ad25b3f1af7be1d19deb39c91b2c30cbd6b351ca9da9c232",
    "progan": "sha256:6d510da6c0ca83671d3a78f9f3cde68dbe55bb006dceb774757bf7c526c5a471",
    "stylegan": "sha256:e187a52df70ad1ee23919eaaa6b57dc63b5c260cad5a747aa47170688a23991e",
    "stylegan2": "sha256:7561bd392412cdc00137d911cd95889d5ad90e36df935674c61e49f1e09f4b08",
}


def test_every_architecture_that_ships_is_tested_here() -> None:
    assert set(TINY) <= set(known_architectures())
    assert set(TINY) == set(DIGESTS)


@pytest.mark.parametrize("name", TINY)
def test_shape_range_and_gradient(name: str) -> None:
    generator = tiny(name)
    _, _, shape = TINY[name]
    z = generator.latent.draw(3, torch.Generator().manual_seed(0)).requires_grad_(True)
    images = generator.images(z)
    assert images.shape == (3, *shape)
    # one random weighting: normalised families have a zero gradient for symmetric ones
    weight = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((images * weight).sum(), z)
    assert bool((gradient.abs().sum(1) > 0).all())
    if name not in ("progan", "stylegan", "stylegan2"):  # those end without a tanh or sigmoid
        assert 0 <= float(images.detach().min()) <= float(images.detach().max()) <= 1
    assert not any(parameter.requires_grad for parameter in generator.module.parameters())
    assert check_generator(generator) == ()


@pytest.mark.parametrize("name", TINY)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    generator = tiny(name).to("cpu", torch.float64)
    z = generator.latent.draw(1, torch.Generator().manual_seed(2)).double()
    weight = torch.randn((1, *TINY[name][2]), generator=torch.Generator().manual_seed(1)).double()

    def value(point: torch.Tensor) -> torch.Tensor:
        return (generator.images(point) * weight).sum()

    point = z.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(point), point)
    step = 1e-6 * torch.eye(z.shape[1], dtype=torch.float64)
    measured = torch.stack([(value(z + e) - value(z - e)) / 2e-6 for e in step])
    assert torch.allclose(gradient[0], measured, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_a_seed_gives_one_generator_and_folders_keep_it(name: str, tmp_path: Path) -> None:
    config, sampling, _ = TINY[name]
    generator = tiny(name, seed=4)
    assert tiny(name, seed=4).digest == generator.digest != tiny(name, seed=5).digest
    z = generator.latent.draw(2, torch.Generator().manual_seed(0))
    save_model_folder(tmp_path / "m", name, generator.module, name, config, sampling)
    loaded = load_model_folder(tmp_path / "m", generator.digest)
    assert loaded.latent == generator.latent
    assert torch.equal(loaded.sample(z), generator.sample(z))


@pytest.mark.parametrize("name", TINY)
def test_digests_of_known_weights_do_not_change(name: str) -> None:
    # a changed digest orphans every model that was ever registered: names, shapes and constants are for ever
    config, sampling, _ = TINY[name]
    assert make_generator(name, dyadic(build(name, config)), name, config, sampling).digest == DIGESTS[name]


@pytest.mark.parametrize("name", ["dcgan-mnist", "brownlee-mnist", "mlp-decoder", "dcgan-64"])
def test_chains_are_the_modules_own_computation(name: str) -> None:
    generator = tiny(name)
    network = Network(generator)
    assert network._steps is not None
    z = generator.latent.draw(4, torch.Generator().manual_seed(0))
    assert torch.allclose(network.unit(z), generator.images(z).flatten(1), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters"),
    # published counts: the two tutorials' summaries (without BatchNorm statistics); StyleGAN's 26,219,627 holds the RGB
    # heads of the eight smaller sizes, 7,608; StyleGAN2's is that of its authors' FFHQ network
    [("dcgan-mnist", 2_305_472), ("brownlee-mnist", 1_164_289), ("dcgan-64", 3_576_704),
     ("stylegan", 26_219_627 - 7_608), ("stylegan2", 30_370_060)],
)  # fmt: skip
def test_full_size_networks_have_the_published_number_of_parameters(name: str, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in build(name, {}).parameters()) == parameters


@pytest.mark.parametrize("name", ["stylegan", "stylegan2"])
def test_given_noise_replaces_stored_noise_by_name(name: str) -> None:
    generator = tiny(name)
    z = generator.latent.draw(2, torch.Generator().manual_seed(0))
    stored = {key: getattr(generator.module, key) for key in generator.noise}
    assert all(stored[key].shape[1:] == shape for key, shape in generator.noise.items())
    assert torch.equal(generator.sample(z, noise=stored), generator.sample(z))
    last = list(generator.noise)[-1]
    maps = torch.randn(2, *generator.noise[last], generator=torch.Generator().manual_seed(3)).requires_grad_(True)
    images = generator.images(z, noise={last: maps})
    assert not torch.allclose(images, generator.images(z))
    (gradient,) = torch.autograd.grad(images.square().sum(), maps)
    assert float(gradient.abs().sum()) > 0
    zeros = {key: torch.zeros_like(value) for key, value in stored.items()}
    silent = tiny(name, sampling={**STYLED, "noise_mode": "none"})
    assert torch.equal(silent.sample(z), generator.sample(z, noise=zeros))
    assert silent.digest != generator.digest
    with pytest.raises(UsageError, match="no noise input"):
        generator.sample(z, noise={"noise_99": maps})
    with pytest.raises(UsageError, match="not \\[2 or 1"):
        generator.sample(z, noise={last: maps[:, :, :2]})


@pytest.mark.parametrize("name", ["stylegan", "stylegan2"])
def test_truncation_pulls_the_first_layers_to_the_mean_style(name: str) -> None:
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    plain, half, low = (
        tiny(name, sampling={**STYLED, **extra}) for extra in ({}, {"psi": 0.5}, {"psi": 0.5, "cutoff": 2})
    )
    assert len({plain.digest, half.digest, low.digest}) == 3
    styled = [generator.module for generator in (plain, half, low)]
    first, second, third = (cast(StyledGenerator, module) for module in styled)
    w, mean = first.mapping(z), first.w_mean
    assert torch.allclose(second.styles(z)[-1], (w + mean) / 2)
    styles = third.styles(z)
    assert torch.allclose(styles[1], (w + mean) / 2)
    assert torch.equal(styles[2], w)
    same = tiny(name, sampling={**STYLED, "psi": 0.0})
    assert torch.equal(same.sample(z)[0], same.sample(z)[1])


@pytest.mark.parametrize(
    "extra", [{"psi": 1.5}, {"psi": "half"}, {"cutoff": 2}, {"psi": 0.7, "cutoff": 99}, {"noise_mode": "random"}]
)
def test_constants_that_cannot_be_are_refused(extra: dict[str, object]) -> None:
    with pytest.raises(EvidenceError, match="stylegan2"):
        tiny("stylegan2", sampling={**STYLED, **extra})


def test_families_say_which_constants_they_have() -> None:
    with pytest.raises(EvidenceError, match="noise mode"):
        tiny("stylegan", sampling=SIGNED)
    with pytest.raises(EvidenceError, match="has no psi"):
        tiny("progan", sampling={**SIGNED, "psi": 0.7})


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("progan", {"size": 24}), ("progan", {"size": 4}), ("progan", {"tanh": 1}), ("sngan-resnet", {"widths": [8]}),
        ("sngan-resnet", {"widths": 8}), ("sngan-resnet", {"upsample": "cubic"}), ("stylegan", {"mapping": 0}),
        ("sagan-resnet", {"widths": [4, 4], "attention": 1}), ("sagan-resnet", {"widths": [8, 8], "attention": 2}),
        ("sngan-resnet", {"attention": 1}), ("stylegan2", {"psi": 0.5}), ("dcgan-mnist", {"latent": -1}),
    ],
)  # fmt: skip
def test_bad_configs_are_refused(name: str, config: dict[str, object]) -> None:
    with pytest.raises(EvidenceError, match=r"config|attention"):
        build(name, config)


def test_only_the_direction_counts_where_the_latent_is_normalised() -> None:
    for name in ("progan", "stylegan", "stylegan2"):
        generator = tiny(name)
        z = generator.latent.draw(2, torch.Generator().manual_seed(0))
        assert torch.allclose(generator.images(z), generator.images(3 * z), atol=1e-4)


def test_initial_weights_are_the_familys() -> None:
    module = fresh("progan", TINY["progan"][0], 0)
    weight = module.get_parameter("layers.2.weight")
    assert abs(float(weight.detach().std()) - 1) < 0.1
    assert float(module.get_parameter("layers.2.bias").detach().abs().max()) == 0


@pytest.mark.parametrize("name", [name for name in TINY if not name.startswith("style")])
def test_an_own_picture_is_inverted_to_the_rounding_floor(name: str) -> None:
    generator = tiny(name)
    budget = Budget(adam_starts=6, adam_steps=30, lm_starts=3, lm_iterations=30, rounds=3)
    picture = generator.sample(generator.latent.draw(1, torch.Generator().manual_seed(11)))[0].numpy()
    [found] = invert(picture, [generator], budget, seed=0)
    assert found.floors < 2
    assert generator.latent.objection(torch.from_numpy(found.z)) is None
