"""Replay of real records: exact here, a difference where nothing excuses it, and what tolerance is worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plausible.attribution.generators import load_model_folder
from plausible.attribution.replay.records import (
    NotReplayable,
    environment_differences,
    replay,
    replay_pictures,
    unused_inputs,
)
from plausible.ledger import Ledger
from plausible.ledger.entries.record import OpenedRecord, open_record
from plausible.ledger.recorder.environment import environment
from plausible.schemas.errors import EvidenceError, SetupError, UsageError
from plausible.schemas.record import Batch, Input, Rng, RngSource, Tolerance

from tests.attribution.studio import Studio, make_studio, model_folder


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return make_studio(tmp_path_factory.mktemp("replay") / "studio.ledger", pictures=5, batch=2)


@pytest.fixture
def opened(studio: Studio) -> Iterator[OpenedRecord]:
    with Ledger.open(studio.path, mode="read") as ledger:
        yield open_record(ledger.record_of(studio.indices[3]))


def test_a_record_replays_sample_for_sample(studio: Studio, opened: OpenedRecord) -> None:
    outcome = replay(opened, studio.generator, studio.pictures[3])
    assert (outcome.state, outcome.samples, outcome.reproduces_entry) == ("exact", 0, True)
    assert outcome.batch == 2
    assert outcome.differing == ()
    assert "all 3072 samples equal" in str(outcome)


def test_another_picture_is_different_but_contradicts_nothing(studio: Studio, opened: OpenedRecord) -> None:
    outcome = replay(opened, studio.generator, studio.pictures[2])
    assert outcome.state == "different"
    assert outcome.reproduces_entry
    small = replay(opened, studio.generator, studio.pictures[3][:4, :4])
    assert (small.state, small.samples) == ("different", None)


def test_a_false_entry_is_contradicted_only_under_the_records_own_environment(
    studio: Studio, opened: OpenedRecord
) -> None:
    """The entry names other pixels than its record makes: here that cannot be excused, elsewhere it could be."""
    false = replace(opened, context=opened.context.model_copy(update={"pixels": "sha256:" + "0" * 64}))
    assert replay(false, studio.generator, studio.pictures[2]).state == "contradicts"
    assert replay(false, studio.generator, studio.pictures[3]).state == "contradicts"
    assert opened.environment is not None
    elsewhere = replace(false, environment=opened.environment.model_copy(update={"torch": "2.1.0"}))
    outcome = replay(elsewhere, studio.generator, studio.pictures[2])
    assert (outcome.state, outcome.differing) == ("different", ("torch",))
    undisclosed = replace(false, environment=None)
    assert replay(undisclosed, studio.generator, studio.pictures[2]).state == "different"


def test_a_call_with_inputs_of_its_own_cannot_be_contradicted(studio: Studio, opened: OpenedRecord) -> None:
    """A wrapped function may do more than the generator: its further arguments excuse a difference, and are named."""
    false = replace(opened, context=opened.context.model_copy(update={"pixels": "sha256:" + "0" * 64}))
    assert false.call is not None
    assert unused_inputs(false) == ()
    for extra, excused in (
        ({"brightness": {"f64": "3ff8000000000000"}}, True),
        ({"title": "x"}, True),
        ({"z": {"input": "latent"}, "n": 2, "g": None, "rng": {"rng": 0}}, False),
        (
            {"mask": {"tensor": {"dtype": "float32", "sha256": "sha256:" + "1" * 64, "shape": [9], "values": None}}},
            True,
        ),
    ):
        call = false.call.model_copy(update={"arguments": {**false.call.arguments, **extra}})
        outcome = replay(replace(false, call=call), studio.generator, studio.pictures[2])
        assert outcome.state == ("different" if excused else "contradicts"), extra
    drawn = Rng(sources=(RngSource(algorithm="a", device="cpu", sha256="sha256:" + "2" * 64),))
    outcome = replay(replace(false, rng=drawn), studio.generator, studio.pictures[2])
    assert (outcome.state, outcome.differing) == ("different", ("random numbers drawn in the call",))


def test_tolerance_is_the_authors_word_and_counts_up_to_one_level_on_one_percent(
    studio: Studio, opened: OpenedRecord
) -> None:
    rng = np.random.default_rng(0)
    picture = studio.pictures[3].copy()
    flat = picture.reshape(-1)
    places = rng.choice(flat.size, flat.size // 100, replace=False)
    flat[places] = np.where(flat[places] < 255, flat[places] + 1, 254)
    generous = Tolerance(levels=200, fraction=(1, 1))
    assert replay(opened, studio.generator, picture).state == "different"
    assert replay(replace(opened, tolerance=generous), studio.generator, picture).state == "tolerance"
    mean = Tolerance(levels=1, fraction=(1, 1000))
    assert replay(replace(opened, tolerance=mean), studio.generator, picture).state == "different"
    flat[[i for i in range(200) if i not in places][:1]] ^= 1
    assert replay(replace(opened, tolerance=generous), studio.generator, picture).state == "different"


def test_threads_are_set_as_recorded_and_put_back(studio: Studio, opened: OpenedRecord) -> None:
    assert opened.environment is not None
    before = torch.get_num_threads()
    device = opened.environment.device.model_copy(update={"threads": before + 1})
    other = replace(opened, environment=opened.environment.model_copy(update={"device": device}))
    outcome = replay(other, studio.generator, studio.pictures[3])
    assert "threads" not in outcome.differing
    assert torch.get_num_threads() == before


def test_what_cannot_be_replayed_says_why(studio: Studio, opened: OpenedRecord) -> None:
    assert opened.latent is not None
    assert opened.call is not None
    for part, changed in (
        ("call", replace(opened, disclosed=opened.disclosed - {"call"})),
        ("neither a latent", replace(opened, latent=None)),
        ("psi", replace(opened, style={"psi": Input(grade="captured", value=1)})),
        ("batch of", replace(opened, call=opened.call.model_copy(update={"batch": Batch(index=0, size=10**6)}))),
        ("neither a seed", replace(opened, latent=opened.latent.model_copy(
            update={"grade": "captured", "seed_secret": None, "values": None}))),
    ):  # fmt: skip
        with pytest.raises(NotReplayable, match=part):
            replay(changed, studio.generator, studio.pictures[3])


def test_a_latent_that_does_not_follow_from_its_seed_is_false(studio: Studio, opened: OpenedRecord) -> None:
    assert opened.latent is not None
    forged = replace(opened, latent=opened.latent.model_copy(update={"seed_secret": "ab" * 32, "values": None}))
    with pytest.raises(EvidenceError, match="does not follow"):
        replay(forged, studio.generator, studio.pictures[3])


def test_another_model_or_device_is_refused(studio: Studio, opened: OpenedRecord, tmp_path: Path) -> None:
    other = load_model_folder(model_folder(tmp_path / "other", 9))
    with pytest.raises(UsageError, match="is of model"):
        replay(opened, other, studio.pictures[3])
    if not torch.cuda.is_available():
        with pytest.raises(SetupError, match="cuda"):
            replay(opened, studio.generator, studio.pictures[3], device="cuda")


def test_differences_of_environments_are_named() -> None:
    here = environment("cpu")
    assert environment_differences(here, here) == ()
    flags = here.model_copy(update={"flags": {**here.flags, "mkldnn": not here.flags["mkldnn"]}})
    assert environment_differences(flags, here) == ("flag mkldnn",)
    device = here.model_copy(update={"device": here.device.model_copy(update={"isa": "x86-64-v1"})})
    assert environment_differences(device, here) == ("instruction set",)


def test_many_latents_at_once(studio: Studio) -> None:
    z = np.random.default_rng(1).standard_normal((5, studio.generator.latent.dim)).astype(np.float32)
    pictures = list(replay_pictures(z, studio.generator, batch=2))
    assert len(pictures) == 5
    assert np.array_equal(pictures[4], studio.generator.sample(torch.from_numpy(z[4:]))[0].numpy())
