"""Committed seeds: a latent that its author could not choose, only draw.

    h = SHA-256("plausible.seed/1\n" || seed_secret || model digest || SHA-256(author vkey text) || u64(draw))
    z = numpy.random.RandomState([eight big-endian u32 of h]).standard_normal(shape).astype(float32)

Whoever wants a chosen z must invert SHA-256; whoever tries q secrets buys log2 q bits of choice, and an epoch published
before the draws leaves log2(count). Sphere prior: z sqrt(d) / |z| of that float32 z, in float64.
Source: docs/spec/committed-seeds.md.
"""

from __future__ import annotations

import functools
import hashlib
import math
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import EvidenceError, UsageError
from ...schemas.jcs import MAX_SAFE_INTEGER
from ...schemas.record import Context, Latent
from ...schemas.text import b64, digest_text, parse_digest, parse_hex, unb64
from ..entries.digests import ITEM_BYTES, array_digest, tensor_digest
from ..merkle.tree import MemoryTree, hash_leaf, verify_inclusion
from ..notes.wire import u64

SEED_BYTES = 32
BLOCK = 1024
"""Draws reserved durably at a time, per chain; gaps are allowed."""
PRIORS = ("normal", "sphere")

_CLOSE = 1e-5
"""Relative distance within which two platforms' libm may differ; real differences are of the order of 1."""

_states = threading.local()
"""One generator per thread, for `latent` alone: seeded afresh for every latent."""

LatentStatus: TypeAlias = Literal["equal", "close", "different", "not committed"]


def new_seed_secret() -> bytes:
    """32 fresh random bytes; never the record's secret."""
    return secrets.token_bytes(SEED_BYTES)


@functools.lru_cache(maxsize=64)
def _text_digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()


def derive(secret: bytes, model: bytes, author_vkey: str, draw: int) -> bytes:
    """h, 32 bytes, from the seed's secret, the model's digest, the author's verifier key text and the draw."""
    if len(secret) != SEED_BYTES or len(model) != 32:
        raise UsageError("a seed secret and a model digest have 32 bytes each")
    if not 0 <= draw <= MAX_SAFE_INTEGER:
        raise UsageError(f"a draw lies between 0 and 2^53 - 1, not {draw}")
    author = _text_digest(author_vkey)
    return hashlib.sha256(b"plausible.seed/1\n" + secret + model + author + u64(draw)).digest()


def latent(h: bytes, shape: Sequence[int], prior: str = "normal") -> NDArray[np.float32]:
    """z as float32 of `shape` (without the batch axis) from h; prior `normal` or `sphere`."""
    if len(h) != 32:
        raise UsageError("h has 32 bytes")
    if prior not in PRIORS:
        raise UsageError(f"committed seeds know the priors {' and '.join(PRIORS)}, not {prior!r}")
    words = np.frombuffer(h, dtype=">u4").astype(np.uint32)
    # Seeding an existing state gives the numbers of RandomState(words) without first gathering entropy for a new one,
    # which would cost the caller of a recorded generator more than all the rest.
    state: np.random.RandomState | None = getattr(_states, "state", None)
    if state is None:
        state = _states.state = np.random.RandomState(0)
    state.seed(words)
    drawn = state.standard_normal(tuple(int(axis) for axis in shape))
    z = np.asarray(drawn).astype(np.float32)
    if prior == "sphere":
        wide = z.astype(np.float64)
        # squares of float32 are exact in float64 and fsum rounds once, so every platform gets these bits
        norm = math.sqrt(math.fsum(float(value) for value in (wide * wide).ravel()))
        z = np.asarray((wide * math.sqrt(z.size) / norm).astype(np.float32))
    return z


@dataclass(frozen=True, slots=True)
class LatentCheck:
    """How a record's latent relates to its committed seed; `z` is the latent to replay (the stored one decides)."""

    status: LatentStatus
    z: NDArray[np.float32] | None = field(default=None, repr=False)

    @property
    def derived(self) -> bool:
        """Whether the seed leads to this latent, up to the last bits of another platform's libm."""
        return self.status in ("equal", "close")


def stored_latent(stored: Latent) -> NDArray[np.float32] | None:
    """The latent's values as float32, if they were kept and are float32; `EvidenceError` if they are not its own."""
    if stored.values is None:
        return None
    data = unb64(stored.values, "latent values")
    check_values("latent", stored.dtype, stored.shape, data, stored.sha256)
    if stored.dtype != "float32":
        return None
    return np.frombuffer(data, dtype="<f4").reshape(stored.shape).astype(np.float32)


def check_values(what: str, dtype: str, shape: Sequence[int], data: bytes, digest: str) -> None:
    """`data` is the tensor that `digest` names, or an `EvidenceError`."""
    if dtype not in ITEM_BYTES:
        raise EvidenceError(f"{what}: the type {dtype!r} is unknown")
    try:
        found = tensor_digest(dtype, shape, data)
    except UsageError as error:
        raise EvidenceError(f"{what}: {error}") from None
    if found != parse_digest(digest):
        raise EvidenceError(f"{what}: the values are not those of the digest")


def check_latent(stored: Latent, context: Context) -> LatentCheck:
    """Whether the latent follows from its seed secret, the entry's model, author and draw.

    `different` means that the record claims a derivation which is not one. `EvidenceError` if values and digest
    contradict each other.
    """
    values = stored_latent(stored)
    if stored.seed_secret is None:
        return LatentCheck("not committed", values)
    if math.prod(stored.shape) > 2**28:
        raise EvidenceError("latent: larger than any that is derived here")
    secret = parse_hex(stored.seed_secret, SEED_BYTES, "seed_secret")
    h = derive(secret, parse_digest(context.model), context.author, context.draw)
    z = latent(h, stored.shape, stored.prior)
    if array_digest(z) == parse_digest(stored.sha256):
        return LatentCheck("equal", z)
    if values is not None and np.allclose(values, z, rtol=_CLOSE, atol=_CLOSE):
        return LatentCheck("close", values)
    return LatentCheck("different", values)


def epoch_leaf(seed_secret: bytes) -> bytes:
    """Leaf hash of a seed in its epoch's tree: SHA-256(0x00 || seed_secret)."""
    return hash_leaf(seed_secret)


def epoch_tree(seed_secrets: Sequence[bytes]) -> MemoryTree:
    """The RFC 6962 tree of an epoch; leaf i belongs to draw first_draw + i."""
    return MemoryTree(epoch_leaf(secret) for secret in seed_secrets)


def verify_epoch(stored: Latent, draw: int, root: bytes) -> None:
    """The latent's secret is leaf draw - first_draw of the epoch with this root, or an `EvidenceError`."""
    if stored.epoch is None or stored.seed_secret is None:
        raise EvidenceError("latent: no epoch to check")
    leaf = epoch_leaf(parse_hex(stored.seed_secret, SEED_BYTES, "seed_secret"))
    path = [parse_digest(value) for value in stored.epoch.path]
    verify_inclusion(draw - stored.epoch.first_draw, stored.epoch.count, leaf, path, root)


def latent_record(
    z: NDArray[np.float32], *, prior: str, seed_secret: bytes | None, keep_values: bool = False
) -> Latent:
    """The record's field for a float32 latent without its batch axis: committed with a seed secret, else captured."""
    ordered = np.ascontiguousarray(z, dtype="<f4")
    return Latent(
        dtype="float32",
        grade="captured" if seed_secret is None else "committed-fresh",
        prior=prior,
        seed_secret=None if seed_secret is None else seed_secret.hex(),
        sha256=digest_text(array_digest(z)),
        shape=tuple(int(axis) for axis in z.shape),
        values=b64(ordered.tobytes()) if keep_values else None,
    )
