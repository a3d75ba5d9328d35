"""Scripts that draw their latents inside the recorded call: the state is enough to draw them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plausible.attribution.generators import Generator, load_model_folder
from plausible.attribution.generators.protocol import LatentSpec
from plausible.attribution.replay.records import NotReplayable, recorded_latent, replay
from plausible.attribution.replay.redraw import redraw
from plausible.attribution.verifier import Options, Verifier
from plausible.ledger import Ledger
from plausible.ledger.entries.counted import counted_inputs
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.entries.record import OpenedRecord, open_record
from plausible.schemas.verdict import Verdict

from tests.attribution.studio import AUTHOR, BUDGET, LATENT, WITNESSES, model_folder, save

Draw = Callable[..., Any]

WAYS: dict[str, Draw] = {
    "torch": lambda n: torch.randn(n, LATENT),
    "torch, its own generator": lambda n, rng: torch.randn(n, LATENT, generator=rng),
    "numpy": lambda n: torch.from_numpy(np.random.standard_normal((n, LATENT)).astype(np.float32)),
    "numpy's generator": lambda n, rng: torch.from_numpy(rng.standard_normal((n, LATENT)).astype(np.float32)),
    "numpy's generator, float32": lambda n, rng: torch.from_numpy(rng.standard_normal((n, LATENT), dtype=np.float32)),
}
GENERATORS: dict[str, Callable[[], Any]] = {
    "torch, its own generator": lambda: torch.Generator().manual_seed(5),
    "numpy's generator": lambda: np.random.default_rng(5),
    "numpy's generator, float32": lambda: np.random.default_rng(6),
}


def logged(folder: Path, path: Path, draw: Draw, *rng: Any, count: int = 3) -> tuple[Generator, list[Any], list[int]]:
    """(generator, pictures, indices) of one recorded call that draws by `draw`."""
    generator = load_model_folder(folder)

    def generate(n: int, *rng: Any) -> Any:
        with torch.no_grad():
            return generator.output.to_uint8(generator.module(draw(n, *rng)))

    with Ledger.init(path, author=AUTHOR, witnesses=WITNESSES) as ledger:
        ledger.register_model("mlp", folder=folder)
        pictures = list(ledger.wrap(generate, model="mlp")(count, *rng).numpy())
        ledger.flush()
        indices = [ledger.find(pixels=pixel_digest(p))[0] for p in pictures]
    return generator, pictures, indices


def opened(path: Path, index: int) -> OpenedRecord:
    with Ledger.open(path, mode="read") as ledger:
        return open_record(ledger.record_of(index))


@pytest.mark.parametrize("way", WAYS)
def test_every_usual_way_is_drawn_again(way: str, tmp_path: Path) -> None:
    rng = [GENERATORS[way]()] if way in GENERATORS else []
    generator, pictures, indices = logged(
        model_folder(tmp_path / "w" / "mlp", 1), tmp_path / "l", WAYS[way], *rng
    )  # fmt: skip
    for picture, index in zip(pictures, indices, strict=True):
        record = opened(tmp_path / "l", index)
        assert record.latent is None
        outcome = replay(record, generator, picture)
        assert (outcome.state, outcome.reproduces_entry, outcome.differing) == ("exact", True, ())
        assert outcome.drawn is not None
        assert np.array_equal(recorded_latent(record, generator), outcome.drawn)
        counted = counted_inputs(record, manifest=generator.manifest, drawn=outcome.drawn)
        assert counted.counts and LATENT <= counted.free <= LATENT + 4


def test_the_verdict_is_logged(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "w" / "mlp", 1)
    _, pictures, _ = logged(folder, tmp_path / "l", WAYS["torch"])
    options = Options(scope="strict", budget=BUDGET, threads=1)
    policy, authors = (tmp_path / "l" / "policy.txt").read_bytes(), (tmp_path / "l" / "authors.txt").read_bytes()
    with Verifier(ledgers=[tmp_path / "l"], policy=policy, authors=authors, options=options) as verifier:
        report = verifier.verify(save(tmp_path / "p.png", pictures[1]))
    assert report.verdict is Verdict.LOGGED


def test_what_was_drawn_before_the_latents_excuses_but_never_counts(tmp_path: Path) -> None:
    """The state stood elsewhere when the latents were drawn: no replay, and no contradiction either."""

    def draw(n: int) -> Any:
        torch.rand(3)
        return torch.randn(n, LATENT)

    generator, pictures, indices = logged(model_folder(tmp_path / "w" / "mlp", 1), tmp_path / "l", draw)
    record = opened(tmp_path / "l", indices[0])
    outcome = replay(record, generator, pictures[0])
    assert (outcome.state, outcome.reproduces_entry, outcome.drawn) == ("different", False, None)
    assert "random numbers drawn in the call" in outcome.differing
    with pytest.raises(NotReplayable, match="could not be drawn again"):
        recorded_latent(record, generator)


def test_a_state_counts_for_the_latent_that_it_draws(tmp_path: Path) -> None:
    """5,056 bytes of torch's state could hold more than a picture of 3,072 samples: alone they never count."""
    generator, _, indices = logged(model_folder(tmp_path / "w" / "mlp", 1), tmp_path / "l", WAYS["torch"])
    alone = counted_inputs(opened(tmp_path / "l", indices[0]), manifest=generator.manifest)
    assert not alone.counts and alone.free > 5000


def test_a_latent_far_from_its_prior_does_not_count(tmp_path: Path) -> None:
    generator, pictures, indices = logged(model_folder(tmp_path / "w" / "mlp", 1), tmp_path / "l", WAYS["torch"])
    record = opened(tmp_path / "l", indices[0])
    drawn = replay(record, generator, pictures[0]).drawn
    assert drawn is not None
    counted = counted_inputs(record, manifest=generator.manifest, drawn=drawn * 100)
    assert "central" in " ".join(counted.reasons)


def test_latents_of_other_priors_are_not_guessed(tmp_path: Path) -> None:
    _, _, indices = logged(model_folder(tmp_path / "w" / "mlp", 1), tmp_path / "l", WAYS["torch"])
    record = opened(tmp_path / "l", indices[0])
    assert list(redraw(record, LatentSpec(LATENT, "uniform"), 3)) == []
    (sphere,) = redraw(record, LatentSpec(LATENT, "sphere"), 3)
    assert np.allclose(np.square(sphere).sum(1), LATENT, rtol=1e-5)
