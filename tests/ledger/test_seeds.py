"""Committed seeds: the specification's vector, the sphere, and what a check of a record's latent can say."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from plausible.ledger.entries.digests import array_digest
from plausible.ledger.seeds import committed as seeds
from plausible.schemas.errors import EvidenceError, UsageError
from plausible.schemas.record import Epoch, Latent
from plausible.schemas.text import b64, digest_text

from tests.ledger import keys

VKEY = "models.example/studio+8c7402d5+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
H = bytes.fromhex("149b33b31b9a5c21165a48509b4e23230f4a649da394f85e7286256dcce9582d")


def test_the_vector_of_the_specification() -> None:
    assert keys.AUTHOR.verifier.encode() == VKEY
    h = seeds.derive(bytes(range(32)), hashlib.sha256(b"model").digest(), VKEY, 7)
    assert h == H
    z = seeds.latent(h, [100])
    assert z.dtype == np.float32
    assert [float(value) for value in z[:3]] == [float(np.float32(v)) for v in (0.39703435, 0.39510396, -0.7724687)]
    digest = hashlib.sha256(z.astype("<f4").tobytes()).hexdigest()
    assert digest == "0a35843a46d79fa43ec8aac458a45088bdb7b002c9ab1f1c54a949c404856518"


def test_each_part_of_the_preimage_changes_the_seed() -> None:
    base = (bytes(32), bytes(32), VKEY, 7)
    changes = [(b"\x01" + bytes(31), bytes(32), VKEY, 7), (bytes(32), b"\x01" + bytes(31), VKEY, 7)]
    changes += [(bytes(32), bytes(32), VKEY + "x", 7), (bytes(32), bytes(32), VKEY, 8)]
    assert len({seeds.derive(*parts) for parts in [base, *changes]}) == 5


def test_shapes_share_the_stream_and_the_sphere_has_its_radius() -> None:
    flat = seeds.latent(H, [12])
    assert np.array_equal(seeds.latent(H, [3, 4]), flat.reshape(3, 4))
    assert seeds.latent(H, []).shape == ()
    sphere = seeds.latent(H, [512], "sphere")
    normal = seeds.latent(H, [512])
    assert sphere.dtype == np.float32
    assert float(np.sum(sphere.astype(np.float64) ** 2)) == pytest.approx(512, rel=1e-6)
    assert np.allclose(sphere / normal, sphere[0] / normal[0], rtol=1e-5)


def test_the_sphere_vector() -> None:
    """The same h, prior sphere, shape 100: fixed here because the order of operations decides the last bit."""
    digest = hashlib.sha256(seeds.latent(H, [100], "sphere").astype("<f4").tobytes()).hexdigest()
    assert digest == "930df7dd23a8c5cf249a9b8fa656386b90dc7e410a3eaa9c9651c97f0a3406e5"


def test_wrong_sizes_are_the_callers_mistake() -> None:
    with pytest.raises(UsageError):
        seeds.derive(bytes(31), bytes(32), VKEY, 0)
    with pytest.raises(UsageError):
        seeds.derive(bytes(32), bytes(32), VKEY, -1)
    with pytest.raises(UsageError):
        seeds.latent(H, [2], "uniform")
    with pytest.raises(UsageError):
        seeds.latent(H[:31], [2])


CONTEXT = keys.record(bytes(32)).context
STORED = seeds.latent_record(seeds.latent(H, [100]), prior="normal", seed_secret=keys.SEED, keep_values=True)


def test_a_derived_latent_is_recognised() -> None:
    check = seeds.check_latent(STORED, CONTEXT)
    assert check.status == "equal"
    assert check.derived
    bare = STORED.model_copy(update={"values": None})
    assert seeds.check_latent(bare, CONTEXT).status == "equal"


def test_another_platforms_last_bits_are_close_and_the_stored_values_decide() -> None:
    z = seeds.latent(H, [100])
    other = np.nextafter(z, np.float32(10))
    stored = seeds.latent_record(other, prior="normal", seed_secret=keys.SEED, keep_values=True)
    check = seeds.check_latent(stored, CONTEXT)
    assert check.status == "close"
    assert check.derived
    assert check.z is not None
    assert np.array_equal(check.z, other)


def test_a_chosen_latent_under_a_committed_grade_is_found() -> None:
    chosen = seeds.latent_record(np.ones(100, np.float32), prior="normal", seed_secret=keys.SEED, keep_values=True)
    assert seeds.check_latent(chosen, CONTEXT).status == "different"
    hidden = chosen.model_copy(update={"values": None})
    assert not seeds.check_latent(hidden, CONTEXT).derived
    for other in (
        CONTEXT.model_copy(update={"draw": 8}),
        CONTEXT.model_copy(update={"model": digest_text(bytes(32))}),
        CONTEXT.model_copy(update={"author": keys.OTHER.verifier.encode()}),
    ):
        assert seeds.check_latent(STORED, other).status == "different"


def test_a_captured_latent_is_not_committed() -> None:
    captured = seeds.latent_record(np.ones(4, np.float32), prior="normal", seed_secret=None, keep_values=True)
    check = seeds.check_latent(captured, CONTEXT)
    assert check.status == "not committed"
    assert not check.derived


def test_values_that_are_not_their_digests_are_false() -> None:
    for values in (b64(bytes(400)), b64(bytes(4)), ""):
        false = STORED.model_copy(update={"values": values})
        with pytest.raises(EvidenceError, match="latent"):
            seeds.check_latent(false, CONTEXT)


def test_epoch_proofs() -> None:
    secrets = [bytes([i]) * 32 for i in range(5)] + [keys.SEED]
    tree = seeds.epoch_tree(secrets)
    assert tree.get(0, 5) == hashlib.sha256(b"\x00" + keys.SEED).digest()
    path = tuple(digest_text(value) for value in tree.inclusion(5))
    epoch = Epoch(count=6, entry=digest_text(bytes(32)), first_draw=2, path=path)
    stored = Latent.of(STORED.to_json() | {"grade": "committed-epoch", "epoch": epoch.to_json()})
    seeds.verify_epoch(stored, 7, tree.root())
    for draw, root in ((6, tree.root()), (8, tree.root()), (1, tree.root()), (7, bytes(32))):
        with pytest.raises(EvidenceError):
            seeds.verify_epoch(stored, draw, root)
    with pytest.raises(EvidenceError):
        seeds.verify_epoch(STORED, 7, tree.root())


def test_the_record_keeps_the_tensor_digest_of_the_latent() -> None:
    assert STORED.sha256 == digest_text(array_digest(seeds.latent(H, [100])))
    assert STORED.grade == "committed-fresh"
