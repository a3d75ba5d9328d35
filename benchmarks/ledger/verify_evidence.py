"""Offline verification of evidence with its opening, no replay, in process.

    python -m benchmarks.ledger.verify_evidence

One proof of an entry in a log of a million (20 path hashes), three cosignatures, an opening of the eight replay fields
with a latent of 512 values and a generator state of 5,056 bytes. The control is one bare Ed25519 verification of a
message as long as the entry, in the same loop. Making the evidence and decoding the image stay outside the clock.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from plausible.ledger.entries.authors import Authors
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.entries.entry import sign_entry
from plausible.ledger.entries.evidence import verify_evidence
from plausible.ledger.entries.images import Image
from plausible.ledger.entries.record import commit, make_opening
from plausible.ledger.merkle.tree import hash_leaf, inclusion_length, root_from_inclusion
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.ledger.notes.proof import make_proof
from plausible.ledger.seeds import committed as seeds
from plausible.schemas.record import Batch, Call, Context, Device, Environment, Output, Record, Rng, RngSource
from plausible.schemas.statement import NO_PREVIOUS, GenerationStatement, Header
from plausible.schemas.text import b64, digest_text

SIZE, INDEX = 1_000_000, 765_432


def key(word: str, kind: int = ED25519) -> SignerKey:
    """A fixed benchmark key."""
    return SignerKey(f"{word}.example", kind, hashlib.sha256(word.encode()).digest())


def make_evidence() -> tuple[Image, bytes, bytes, Policy, Authors]:
    """An image with its proof, opening, policy and authors."""
    author, log = key("author"), key("log")
    witnesses = [key(f"witness-{i}", COSIGNATURE_ED25519) for i in range(3)]
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = Image(pixels, pixel_digest(pixels), hashlib.sha256(b"file").digest(), "PNG", "RGB", "RGB")
    model, secret, chain, state = bytes(32), bytes(range(32)), "00" * 16, bytes(5056)
    vkey, pixels_text, file_text = (
        author.verifier.encode(),
        digest_text(image.pixel_digest),
        digest_text(image.file_digest),
    )
    z = seeds.latent(seeds.derive(secret, model, vkey, 7), [512])
    source = RngSource(
        algorithm="mt19937", device="cpu", sha256=digest_text(hashlib.sha256(state).digest()), state=b64(state)
    )
    record = Record(
        context=Context(author=vkey, chain=chain, draw=7, file=file_text, model=digest_text(model), pixels=pixels_text),
        rng=Rng(sources=(source,)),
        latent=seeds.latent_record(z, prior="normal", seed_secret=secret, keep_values=True),
        call=Call(arguments={"n": 1}, batch=Batch(index=0, size=1), callable="studio.generate"),
        environment=Environment(
            device=Device(isa="AVX2", name="cpu", threads=2),
            dtype="float32",
            flags={},
            numpy="2",
            plausible="0.1.0",
            python="3.11",
            torch="2.13.0",
        ),
        output=Output(file=file_text, height=64, mode="RGB", pixels=pixels_text, width=64),
    )
    header = Header(author=vkey, chain=chain, prev=NO_PREVIOUS, seq=0, time="2026-01-01T00:00:00.000000Z")
    statement = GenerationStatement.make(
        header,
        commitment=commit(record, secret),
        draw=7,
        model=model,
        pixels=image.pixel_digest,
        file=image.file_digest,
    )
    leaf = sign_entry(statement, author)
    # any path of the right length leads to some root: a million leaves need not be made
    path = [hashlib.sha256(b"%d" % i).digest() for i in range(inclusion_length(INDEX, SIZE))]
    checkpoint = Checkpoint(log.name, SIZE, root_from_inclusion(INDEX, SIZE, hash_leaf(leaf), path))
    note = checkpoint.sign(log).add(*(cosign(checkpoint, witness, 1_700_000_000) for witness in witnesses))
    lines = [f"log {log.verifier}", *(f"witness w{i} {w.verifier}" for i, w in enumerate(witnesses))]
    policy = Policy.parse("\n".join([*lines, "group g 2 w0 w1 w2", "quorum g", ""]).encode())
    proof = make_proof(INDEX, path, note.encode(), leaf).encode()
    return image, proof, make_opening(record, secret), policy, Authors.of([author.verifier])


def measure(n: int) -> tuple[list[float], list[float], int]:
    """Seconds of `n` verifications and of `n` control verifications, taken in turn; and the opening's bytes."""
    image, proof, opening, policy, authors = make_evidence()
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public, message = private.public_key(), bytes(1200)
    signature = private.sign(message)
    ours: list[float] = []
    control: list[float] = []
    for _ in range(n + 20):
        start = time.perf_counter()
        evidence = verify_evidence(image, proof, opening, policy, authors)
        middle = time.perf_counter()
        public.verify(signature, message)
        end = time.perf_counter()
        if evidence.failed or not evidence.present or evidence.opened is None:
            raise SystemExit(f"the evidence did not verify: {evidence.failed}")
        ours.append(middle - start)
        control.append(end - middle)
    return ours[20:], control[20:], len(opening)


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=500, help="verifications")
    n = parser.parse_args().n
    ours, control, size = measure(n)
    median, base = statistics.median(ours) * 1e3, statistics.median(control) * 1e3
    p95 = statistics.quantiles(ours, n=20)[18] * 1e3
    print(f"verify_evidence, opening of {size:,} bytes, n = {n}: median {median:.2f} ms, p95 {p95:.2f} ms")
    print(f"bare Ed25519 verify (control), n = {n}: median {base:.3f} ms; ratio of medians {median / base:.1f}")
    print("target: under 5 ms in process")


if __name__ == "__main__":
    main()
