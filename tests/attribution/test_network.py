"""The linearised network against automatic differentiation and against the owner's own module."""

from __future__ import annotations

import pytest
import torch
from plausible.attribution.generators import Generator, make_generator
from plausible.attribution.inversion.network import Network
from torch import nn

from .conftest import SIGNED, small_dcgan, small_mlp


def dcgan() -> Generator:
    config = {"latent": 8, "width": 4, "channels": 3}
    return make_generator("dcgan", small_dcgan(3), "dcgan-64", config, SIGNED)


@pytest.mark.parametrize("make", [dcgan, lambda: small_mlp(4)[0]])
def test_chain_equals_the_generic_jacobian(make) -> None:
    generator: Generator = make()
    network = Network(generator)
    z = generator.latent.draw(1, torch.Generator().manual_seed(9))[0]
    picture, jacobian = network.linearise(z, precise=True)
    generic_picture, generic = network._linearise_by_vjp(z)
    assert torch.allclose(picture, generic_picture, atol=2e-6)
    assert float((jacobian - generic).abs().max()) < 2e-5 * float(generic.abs().max())
    assert torch.allclose(network.unit(z[None])[0], generator.images(z[None]).flatten(), atol=2e-6)


def test_quick_jacobian_is_close_enough_to_steer_by() -> None:
    network = Network(dcgan())
    z = torch.linspace(-1, 1, 8)
    _, precise = network.linearise(z, precise=True)
    _, quick = network.linearise(z)
    assert float((quick - precise).norm()) < 0.02 * float(precise.norm())
    # and asking for it leaves the precise one as it was
    assert torch.equal(network.linearise(z, precise=True)[1], precise)


class Bent(nn.Module):
    """A module without `chain`: the generic path must carry it."""

    latent_dim = 5
    image_shape = (1, 3, 4)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 12)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.layer(z)).reshape(-1, 1, 3, 4)


def test_modules_without_a_chain_are_linearised_too() -> None:
    torch.manual_seed(0)
    module = Bent()
    generator = make_generator("bent", module, "bent", {}, SIGNED)
    z = torch.randn(5)
    _, jacobian = Network(generator).linearise(z)
    step = 1e-3 * torch.randn(5)
    moved = Network(generator).unit((z + step)[None])[0] - Network(generator).unit(z[None])[0]
    assert torch.allclose(step @ jacobian, moved, atol=2e-6)
