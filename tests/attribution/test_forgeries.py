"""The forgeries of 004 III-D against the whole product: logged by the real recorder, judged by the real verifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plausible.attribution.attacks.constant import constant_decoder
from plausible.attribution.attacks.latent import forge_latents
from plausible.attribution.attacks.noise import forge_noise
from plausible.attribution.generators import load_model_folder, save_model_folder
from plausible.attribution.inversion.budget import Budget
from plausible.attribution.verifier import Options, verify
from plausible.ledger import Ledger
from plausible.ledger.seeds.committed import new_seed_secret
from plausible.schemas.verdict import Verdict
from torch import Tensor

from tests.attribution.families import STYLED
from tests.attribution.studio import BUDGET, LATENT, SIDE, Studio, fresh, make_studio, save
from tests.attribution.test_attacks import styled, waves

OPTIONS = Options(scope="strict", budget=BUDGET, threads=1)
LITTLE = Options(
    scope="strict", threads=1,
    budget=Budget(adam_starts=1, adam_steps=2, lm_starts=0, rounds=1, exact_iterations=0),
)  # fmt: skip


def judged(path: Path, image: Path, options: Options = OPTIONS) -> Any:
    policy, authors = ((path / name).read_bytes() for name in ("policy.txt", "authors.txt"))
    return verify(image, ledgers=[path], policy=policy, authors=authors, options=options)


def line(report: Any, name: str) -> Any:
    return next(c for c in report.checks if c.name.startswith(name))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return make_studio(tmp_path_factory.mktemp("forgeries") / "studio.ledger", pictures=2)


def styled_ledger(folder: Path) -> tuple[Ledger, Any]:
    """A witnessed ledger with a small grey StyleGAN2 that has live noise."""
    generator, config = styled("stylegan2", 1)
    save_model_folder(folder / "grey", "grey", generator.module, "stylegan2", config, STYLED)
    ledger = Ledger.init(folder / "styled.ledger", author="models.example/studio", witnesses=("one.example/witness",))
    ledger.register_model("grey", folder=folder / "grey")
    return ledger, load_model_folder(folder / "grey")


def test_a_picture_solved_into_noise_maps_is_claimed_and_never_logged(tmp_path: Path) -> None:
    ledger, generator = styled_ledger(tmp_path)
    target, z = waves(1, 100), generator.latent.draw(1, torch.Generator().manual_seed(0))
    forged, maps = forge_noise(generator, target, z[0], inner=40)
    assert forged.exact

    def emit(z: Tensor, noise_0: Tensor, noise_1: Tensor, noise_2: Tensor, noise_3: Tensor, noise_4: Tensor) -> Tensor:
        given = {f"noise_{i}": m for i, m in enumerate((noise_0, noise_1, noise_2, noise_3, noise_4))}
        return generator.sample(z, noise=given).expand(-1, -1, -1, 3)

    with ledger:
        wrapped = ledger.wrap(emit, model="grey", latent="z", noise=list(maps))
        made = wrapped(z, **maps)[0].numpy()
        ledger.flush()
    assert np.array_equal(made, target.expand(-1, -1, 3).numpy())  # the recorded call really emitted it
    report = judged(ledger.path, save(tmp_path / "a.png", made), LITTLE)
    assert report.verdict is Verdict.CLAIMED
    assert "noise_4 is a free map" in line(report, "counted inputs").reason
    screening = line(report, "seed plausibility")
    assert screening.state == "failed"
    assert screening.reason.startswith("screening, not proof")
    assert "noise noise_" in screening.reason


def test_a_picture_that_needs_fresh_noise_is_inconclusive(tmp_path: Path) -> None:
    """Made by the registered weights with other maps: no search over latents finds it, and nothing may be denied."""
    ledger, generator = styled_ledger(tmp_path)
    with ledger:
        ledger.flush()
    rng = torch.Generator().manual_seed(8)
    maps = {name: torch.randn(1, *shape, generator=rng) for name, shape in generator.noise.items()}
    pixels = generator.sample(generator.latent.draw(1, rng), noise=maps)[0].expand(-1, -1, 3).numpy()
    report = judged(ledger.path, save(tmp_path / "a.png", pixels), LITTLE)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert any("free numbers in noise maps" in reason for reason in report.document.verdict.reasons)


def test_a_forged_latent_cannot_be_presented_as_committed(studio: Studio, tmp_path: Path) -> None:
    """Its maker would have to find a secret whose hash leads to it: what he can write down is refuted."""
    generator = studio.generator
    target = torch.from_numpy(fresh(generator, 77)[0])[None]
    found = forge_latents(generator, target, constraint="marginals", starts=1, steps=30)
    pixels, z = found.pictures[0].numpy(), found.z[0].numpy()
    with Ledger.open(studio.path) as ledger:
        [draw] = ledger.take_draws(1)
        ledger.append(image=pixels, model="mlp", latent=z, seed_secret=new_seed_secret(), draw=draw)
        ledger.flush()
    report = judged(studio.path, save(tmp_path / "a.png", pixels))
    assert report.verdict is Verdict.REFUTED
    assert "does not follow from its committed seed" in report.line


def test_screening_lets_a_forged_latent_of_honest_numbers_pass(studio: Studio, tmp_path: Path) -> None:
    """Declared not sound: a captured latent counts by size and norm, and its maker may have chosen it."""
    generator = studio.generator
    target = torch.from_numpy(fresh(generator, 78)[0])[None]
    found = forge_latents(generator, target, constraint="marginals", starts=1, steps=30)
    pixels = found.pictures[0].numpy()
    with Ledger.open(studio.path) as ledger:
        ledger.append(image=pixels, model="mlp", latent=found.z[0].numpy())
        ledger.flush()
    report = judged(studio.path, save(tmp_path / "a.png", pixels))
    assert report.verdict is Verdict.LOGGED
    screening = line(report, "seed plausibility")
    assert (screening.state, screening.reason[:21]) == ("made", "screening, not proof:")
    committed = judged(studio.path, save(tmp_path / "b.png", studio.pictures[0]))
    assert line(committed, "seed plausibility").state == "skipped"  # SHA-256 chose it: nothing to screen


def test_numbers_that_no_prior_draws_are_named(studio: Studio, tmp_path: Path) -> None:
    z = np.full(LATENT, 1.0, np.float32)  # |z|^2 = d is as central as can be
    pixels = studio.generator.sample(torch.from_numpy(z)[None])[0].numpy()
    with Ledger.open(studio.path) as ledger:
        ledger.append(image=pixels, model="mlp", latent=z)
        ledger.flush()
    report = judged(studio.path, save(tmp_path / "a.png", pixels))
    screening = line(report, "seed plausibility")
    assert screening.state == "failed"
    assert "latent angle" in screening.reason


def test_a_model_that_is_the_picture_frames_nobody_afterwards(studio: Studio, tmp_path: Path) -> None:
    """Its digest stands in no entry of the accused: reproducing the picture attributes it to who brought the model."""
    y, x = np.mgrid[:SIDE, :SIDE]
    target = torch.from_numpy(np.stack([128 + 90 * np.sin((x + i * y) / 4) for i in range(3)], -1).astype(np.uint8))
    module, config, sampling = constant_decoder(target, leak=1e-5)
    save_model_folder(tmp_path / "constant", "constant", module, "mlp-decoder", config, sampling)
    image = save(tmp_path / "a.png", target.numpy())
    policy, authors = studio.policy, studio.authors
    report = verify(
        image, ledgers=[studio.path], policy=policy, authors=authors, models=[tmp_path / "constant"], options=OPTIONS
    )
    assert report.verdict is Verdict.ATTRIBUTED
    assert "registered by the auditor" in report.line
    assert report.document.verdict.author is None


def test_a_model_that_is_the_picture_counts_only_from_its_own_entry_on(tmp_path: Path) -> None:
    """Whoever registers it first has an entry that replays, dated after the picture: presence since then, no more."""
    target = waves(3, 100)
    module, config, sampling = constant_decoder(target, leak=1e-5)
    save_model_folder(tmp_path / "constant", "constant", module, "mlp-decoder", config, sampling)
    with Ledger.init(tmp_path / "a.ledger", author="forger.example/x", witnesses=("one.example/witness",)) as ledger:
        ledger.register_model("constant", folder=tmp_path / "constant")
        model = ledger.models()[0].index
        generate = ledger.wrap(load_model_folder(tmp_path / "constant").sample, model="constant", latent=(8,))
        pixels = generate(1)[0].numpy()
        ledger.flush()
    assert np.array_equal(pixels, target.numpy())
    report = judged(tmp_path / "a.ledger", save(tmp_path / "a.png", pixels))
    assert report.verdict is Verdict.LOGGED
    [found] = report.document.entries
    assert found.index > model
    assert found.author == "forger.example/x"  # the forger's own word about himself, and nobody else's
