"""Fixed test keys, a header and a full record: what the tests of entries, openings and evidence build on."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from plausible.ledger.notes.keytypes import COSIGNATURE_ED25519, COSIGNATURE_ML_DSA_44, has_ml_dsa
from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.ledger.seeds import committed as seeds
from plausible.schemas.record import (
    Batch,
    Call,
    Context,
    Device,
    Environment,
    Input,
    Output,
    Record,
    Rng,
    RngSource,
    Tolerance,
)
from plausible.schemas.statement import NO_PREVIOUS, GenerationStatement, Header
from plausible.schemas.text import b64, digest_text

AUTHOR = SignerKey("models.example/studio", ED25519, bytes(range(32)))
OTHER = SignerKey("other.example/studio", ED25519, bytes(range(1, 33)))
MODEL = hashlib.sha256(b"model").digest()
CHAIN = "00112233445566778899aabbccddeeff"
TIME = "2026-01-02T03:04:05.000006Z"
SECRET = bytes(range(32, 64))
SEED = bytes(range(32))
PIXELS = np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 3)

needs_ml_dsa = pytest.mark.skipif(not has_ml_dsa(), reason="this machine's cryptography package has no ML-DSA-44")
COSIGNER_KINDS = [COSIGNATURE_ED25519, pytest.param(COSIGNATURE_ML_DSA_44, marks=needs_ml_dsa)]


def header(signer: SignerKey = AUTHOR, seq: int = 0, prev: str = NO_PREVIOUS) -> Header:
    return Header(author=signer.verifier.encode(), chain=CHAIN, prev=prev, seq=seq, time=TIME)


def record(pixels: bytes, file: bytes | None = None, **changes: Any) -> Record:
    """A full record of a committed generation, draw 7."""
    h = seeds.derive(SEED, MODEL, AUTHOR.verifier.encode(), 7)
    z = seeds.latent(h, [100])
    state = bytes(range(48))
    file_text = None if file is None else digest_text(file)
    parts: dict[str, Any] = {
        "context": Context(
            author=AUTHOR.verifier.encode(),
            chain=CHAIN,
            draw=7,
            file=file_text,
            model=digest_text(MODEL),
            pixels=digest_text(pixels),
        ),
        "rng": Rng(
            grade="captured",
            sources=(
                RngSource(
                    algorithm="mt19937",
                    device="cpu",
                    sha256=digest_text(hashlib.sha256(state).digest()),
                    state=b64(state),
                ),
            ),
        ),
        "latent": seeds.latent_record(z, prior="normal", seed_secret=SEED, keep_values=True),
        "style": {"psi": Input(grade="captured", value={"f64": "3fe6666666666666"})},
        "call": Call(arguments={"n": 4, "title": "a face"}, batch=Batch(index=1, size=4), callable="studio.generate"),
        "environment": Environment(
            device=Device(isa="AVX2", name="Test CPU", threads=2),
            dtype="float32",
            flags={"deterministic_algorithms": True},
            numpy="2.4.6",
            plausible="0.1.0",
            python="3.11.7",
            torch="2.13.0",
        ),
        "output": Output(file=file_text, height=64, mode="RGB", pixels=digest_text(pixels), tensor=None, width=64),
        "tolerance": Tolerance(fraction=(1, 100), levels=1),
        "extra": {"client": "x"},
    }
    return Record(**(parts | changes))


def generation(
    commitment: bytes, pixels: bytes, file: bytes | None = None, signer: SignerKey = AUTHOR, **place: Any
) -> GenerationStatement:
    return GenerationStatement.make(
        header(signer, **place), commitment=commitment, draw=7, model=MODEL, pixels=pixels, file=file
    )
