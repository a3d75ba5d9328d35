"""Families with a sphere prior, truncation and noise maps on the record: committed draws, exact replay, no free map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plausible.attribution.generators import load_model_folder, save_model_folder
from plausible.attribution.generators.protocol import Generator
from plausible.attribution.replay.records import NotReplayable, recorded_latent, replay
from plausible.ledger import Ledger
from plausible.ledger.entries.counted import counted_inputs
from plausible.ledger.entries.record import open_record

from .families import STYLED, TINY, tiny


def on_the_record(folder: Path, name: str) -> tuple[Ledger, Generator]:
    """A ledger with the tiny generator registered, sampled at psi 0.7."""
    config, sampling, _ = TINY[name]
    sampling = {**STYLED, "psi": 0.7, "cutoff": 3} if name.startswith("style") else sampling
    save_model_folder(folder / name, name, tiny(name).module, name, config, sampling)
    ledger = Ledger.init(folder / "studio.ledger", author="models.example/studio")
    ledger.register_model(name, folder=folder / name)
    return ledger, load_model_folder(folder / name)


@pytest.mark.parametrize("name", ["progan", "stylegan", "stylegan2"])
def test_committed_draws_lie_on_the_sphere_and_replay_exactly(name: str, tmp_path: Path) -> None:
    ledger, generator = on_the_record(tmp_path, name)
    with ledger:
        generate = ledger.wrap(generator.sample, model=name, latent=(6,))
        pictures = generate(2).numpy()
        ledger.flush()
        for index, _, record in ledger.records():
            opened = open_record(record)
            assert opened.latent is not None
            assert (opened.latent.prior, opened.latent.grade) == ("sphere", "committed-fresh")
            z = torch.from_numpy(recorded_latent(opened, generator))
            assert generator.latent.objection(z) is None
            outcome = replay(opened, generator, pictures[index - 1])
            assert (outcome.state, outcome.reproduces_entry) == ("exact", True)
            counted = counted_inputs(opened, manifest=generator.manifest, prior=generator.latent.prior)
            assert counted.reasons == ()


def test_given_noise_maps_never_count(tmp_path: Path) -> None:
    ledger, generator = on_the_record(tmp_path, "stylegan2")
    with ledger:
        generate = ledger.wrap(generator.sample, model="stylegan2", latent="z", noise=["noise"])
        maps = {"noise_4": torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))}
        z = generator.latent.draw(1, torch.Generator().manual_seed(1))
        picture = generate(z, noise=maps).numpy()[0]
        assert not np.array_equal(picture, generator.sample(z)[0].numpy())
        ledger.flush()
        [(_, _, record)] = list(ledger.records())
        opened = open_record(record)
        counted = counted_inputs(opened, manifest=generator.manifest, prior=generator.latent.prior)
        assert any("noise" in reason for reason in counted.reasons)
        with pytest.raises(NotReplayable):
            replay(opened, generator, picture)
