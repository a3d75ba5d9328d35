"""Counted inputs: a replay convinces only where its inputs cannot hold the picture."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from plausible.ledger.entries.counted import Counted, chi_square_tails, counted_inputs, free_limit, norm_is_central
from plausible.ledger.entries.digests import model_manifest
from plausible.ledger.entries.record import OpenedRecord, commit, make_opening, open_record, verify_opening
from plausible.ledger.seeds import committed as seeds
from plausible.schemas.errors import UsageError
from plausible.schemas.record import Batch, Call, Input, Latent, Rng, RngSource, Tensor
from plausible.schemas.text import b64, digest_text

from tests.ledger import keys

PIXELS = hashlib.sha256(b"pixels").digest()
LIMIT = 64 * 64 * 3 // 4
RNG = np.random.default_rng(3)
BARE: dict[str, Any] = {"rng": None, "style": None, "noise": None, "extra": None}


def call(**arguments: Any) -> Call:
    return Call(arguments=arguments, batch=Batch(index=0, size=1), callable="f")


def opened(**changes: Any) -> OpenedRecord:
    base: dict[str, Any] = BARE | {"call": call(n=1)}
    return open_record(keys.record(PIXELS, **(base | changes)))


def captured(z: np.ndarray[Any, Any], prior: str = "normal", keep: bool = True) -> Latent:
    return seeds.latent_record(z.astype(np.float32), prior=prior, seed_secret=None, keep_values=keep)


def state(size: int, disclosed: bool = True) -> Rng:
    data = bytes(size)
    digest = digest_text(hashlib.sha256(data).digest())
    return Rng(
        sources=(RngSource(algorithm="mt", device="cpu", sha256=digest, state=b64(data) if disclosed else None),)
    )


def only_reason(counted: Counted) -> str:
    assert not counted.counts
    [reason] = counted.reasons
    return reason


def test_a_committed_latent_has_no_free_number() -> None:
    counted = counted_inputs(opened())
    assert counted.counts
    assert (counted.free, counted.limit) == (1, LIMIT)


def test_a_latent_that_does_not_follow_from_its_seed_does_not_count() -> None:
    z = seeds.latent(bytes(32), [100])
    chosen = seeds.latent_record(z, prior="normal", seed_secret=keys.SEED, keep_values=True)
    assert "does not follow" in only_reason(counted_inputs(opened(latent=chosen)))


@pytest.mark.parametrize(("dimensions", "counts"), [(100, True), (LIMIT - 1, True), (LIMIT, False), (12288, False)])
def test_captured_latents_count_up_to_a_quarter_of_the_samples(dimensions: int, counts: bool) -> None:
    counted = counted_inputs(opened(latent=captured(RNG.standard_normal(dimensions))))
    assert counted.counts is counts
    assert counted.free == dimensions + 1


def test_a_generators_state_counts_if_it_is_smaller_than_the_latent() -> None:
    z = RNG.standard_normal(8000)
    assert counted_inputs(opened(latent=captured(z), rng=state(16))).free == 17
    assert counted_inputs(opened(latent=captured(z[:100]), rng=state(5056))).free == 101
    assert counted_inputs(opened(latent=None, rng=state(16))).counts
    assert "free numbers" in only_reason(counted_inputs(opened(latent=None, rng=state(5056))))
    assert counted_inputs(opened(rng=state(48))).free == 49, "beside a committed latent the state drives something else"
    assert "not disclosed" in only_reason(counted_inputs(opened(latent=None, rng=state(16, disclosed=False))))


def test_a_latent_outside_its_prior_does_not_count() -> None:
    z = RNG.standard_normal(100)
    assert "1 - 1e-6" in only_reason(counted_inputs(opened(latent=captured(z * 2))))
    assert "1 - 1e-6" in only_reason(counted_inputs(opened(latent=captured(z, prior="uniform"))))
    unit = z * 10 / np.linalg.norm(z)
    assert counted_inputs(opened(latent=captured(unit, prior="sphere"))).counts
    assert "1 - 1e-6" in only_reason(counted_inputs(opened(latent=captured(unit * 1.01, prior="sphere"))))


def test_an_unknown_latent_needs_the_replays() -> None:
    z = RNG.standard_normal(100)
    unknown = opened(latent=captured(z, keep=False), rng=state(16))
    assert "norm cannot be tested" in only_reason(counted_inputs(unknown))
    assert counted_inputs(unknown, drawn=z).counts
    assert "1 - 1e-6" in only_reason(counted_inputs(unknown, drawn=z * 3))
    assert "shape" in only_reason(counted_inputs(unknown, drawn=z[:50]))


def test_pictures_noise_maps_and_the_unknown_never_count() -> None:
    picture = Input(grade="captured", image=digest_text(bytes(32)))
    assert "picture" in only_reason(counted_inputs(opened(style={"content": picture})))
    scalar = Input(grade="captured", value=0)
    assert "free map" in only_reason(counted_inputs(opened(noise={"n": scalar})))
    for kind in ("image", "bytes"):
        assert kind in only_reason(counted_inputs(opened(call=call(x={kind: digest_text(bytes(32))}))))
    assert "opaque" in only_reason(counted_inputs(opened(call=call(x=[{"a": [{"opaque": "mod.Cls"}]}]))))


def test_text_scalars_and_tensors_are_added_up() -> None:
    tensor = Tensor(dtype="float32", sha256=digest_text(bytes(32)), shape=(4, 10))
    style = {"w": Input(grade="captured", tensor=tensor), "psi": Input(grade="captured", value={"f64": "0" * 16})}
    arguments: dict[str, Any] = {
        "prompt": "é" * 10,
        "steps": 5,
        "list": [1, True, None, {"k": 2}],
        "t": {"tensor": tensor.to_json()},
    }
    counted = counted_inputs(opened(style=style, call=call(**arguments)))
    assert counted.free == 40 + 1 + 20 + 1 + (1 + 1 + 0 + 2) + 40
    assert counted.counts
    assert not counted_inputs(opened(call=call(prompt="x" * (LIMIT + 1)))).counts
    assert counted_inputs(opened(call=call(prompt="x" * LIMIT))).counts


def test_references_to_recorded_inputs_are_not_counted_twice() -> None:
    latent = keys.record(PIXELS).latent
    assert latent is not None
    tensor = Tensor(dtype="float32", sha256=latent.sha256, shape=latent.shape)
    ok = call(z={"input": "latent"}, again={"tensor": tensor.to_json()}, m={"model": digest_text(keys.MODEL)})
    assert counted_inputs(opened(call=ok)).free == 0
    for value in (
        {"input": "style.w"},
        {"input": "noise"},
        {"rng": 0},
        {"rng": True},
        {"model": digest_text(bytes(32))},
        {"tensor": 3},
    ):
        assert not counted_inputs(opened(call=call(x=value))).counts
    assert counted_inputs(opened(call=call(g={"rng": 0}), rng=state(16))).counts


def test_the_batch_a_latent_is_a_row_of_is_not_counted_again() -> None:
    def batch(shape: tuple[int, ...], dtype: str = "float32") -> Call:
        tensor = Tensor(dtype=dtype, sha256=digest_text(bytes(32)), shape=shape)
        return Call(arguments={"z": {"tensor": tensor.to_json()}}, batch=Batch(index=3, size=64), callable="f")

    assert counted_inputs(opened(call=batch((64, 100)))).free == 0
    for other in (batch((63, 100)), batch((100, 64)), batch((64, 100), "float64"), batch((6400,))):
        assert counted_inputs(opened(call=other)).free in (6400, 6300)
    assert counted_inputs(opened(call=batch((64, 100)), latent=None)).free == 6400


def test_a_device_is_one_choice_among_few() -> None:
    counted = counted_inputs(opened(call=call(device={"opaque": "torch.device"}, dtype={"opaque": "torch.dtype"})))
    assert counted.counts
    assert counted.free == 2


def test_fixed_inputs_are_believed_only_with_the_manifest() -> None:
    noise = digest_text(hashlib.sha256(b"noise_const").digest())
    sampling = {"rounding": "round_half_even_255", "psi": 0.7}
    rows = [("noise_const", "float32", [64, 64], hashlib.sha256(b"noise_const").digest())]
    manifest = model_manifest("stylegan", {"layers": 3}, sampling, rows)
    tensor = Tensor(dtype="float32", sha256=noise, shape=(64, 64))
    record = opened(
        style={"psi": Input(grade="fixed", value={"f64": "3fe6666666666666"}), "layers": Input(grade="fixed", value=3)},
        noise={"n": Input(grade="fixed", tensor=tensor)},
    )
    assert counted_inputs(record, manifest=manifest).free == 1
    assert counted_inputs(record, manifest=manifest).counts
    assert "free map" in only_reason(counted_inputs(record))
    lying = opened(
        noise={"n": Input(grade="fixed", tensor=tensor.model_copy(update={"sha256": digest_text(bytes(32))}))}
    )
    assert "free map" in only_reason(counted_inputs(lying, manifest=manifest))
    other = opened(style={"psi": Input(grade="fixed", value=1)})
    assert counted_inputs(other, manifest=manifest).free == 2


def test_what_is_not_disclosed_does_not_count() -> None:
    from plausible.ledger.entries.entry import parse_entry, sign_entry

    record = keys.record(PIXELS, **BARE)
    entry = parse_entry(sign_entry(keys.generation(commit(record, keys.SECRET), PIXELS), keys.AUTHOR))
    part = verify_opening(make_opening(record, keys.SECRET, ["latent", "output"]), entry)
    assert "not disclosed: rng" in only_reason(counted_inputs(part))
    assert counted_inputs(verify_opening(make_opening(record, keys.SECRET), entry)).counts


@pytest.mark.parametrize("dimensions", [1, 2, 3, 10, 100, 511, 16384, 300_000])
def test_chi_square_tails_against_scipy(dimensions: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    for probability in (1e-12, 0.5e-6, 1e-3, 0.3, 0.5):
        low, high = stats.chi2.ppf(probability, dimensions), stats.chi2.isf(probability, dimensions)
        assert chi_square_tails(dimensions, float(low))[0] == pytest.approx(probability, rel=1e-6)
        assert chi_square_tails(dimensions, float(high))[1] == pytest.approx(probability, rel=1e-6)
    assert sum(chi_square_tails(dimensions, dimensions * 1.1)) == pytest.approx(1)


def test_the_norms_limits_of_100_dimensions() -> None:
    """Quantiles of chi-square at 0.5e-6 and 1 - 0.5e-6 for d = 100, as tables give them."""
    stats = pytest.importorskip("scipy.stats")
    low, high = (float(value) for value in stats.chi2.ppf([0.5e-6, 1 - 0.5e-6], 100))
    direction = np.ones(100) / 10
    for squared, inside in ((low * 0.999, False), (low * 1.001, True), (high * 0.999, True), (high * 1.001, False)):
        assert norm_is_central(direction * np.sqrt(squared), "normal") is inside


def test_odd_norms() -> None:
    assert not norm_is_central(np.array([]), "normal")
    assert not norm_is_central(np.array([np.nan]), "normal")
    assert not norm_is_central(np.array([np.inf, 1.0]), "sphere")
    assert not norm_is_central(np.zeros(100), "normal")
    assert not norm_is_central(np.ones(100), "beta")
    assert chi_square_tails(4, 0.0) == (0.0, 1.0)
    for arguments in ((0, 1.0), (3, -1.0)):
        with pytest.raises(UsageError):
            chi_square_tails(*arguments)
    assert free_limit(12288) == 3072


def test_fresh_draws_are_central() -> None:
    assert all(norm_is_central(RNG.standard_normal(100), "normal") for _ in range(300))
