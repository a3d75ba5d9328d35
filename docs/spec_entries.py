"""Examples of the pages about entries, records and evidence; `make_spec.py` puts them into docs/spec/*.md.

All from published test keys (the author's Ed25519 seed is 00..1f) and one synthetic 4 x 4 picture; never use a key.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np
import PIL.Image as Pillow
from plausible.ledger.entries.authors import Authors
from plausible.ledger.entries.counted import counted_inputs
from plausible.ledger.entries.digests import array_digest, model_digest, model_manifest, pixel_digest
from plausible.ledger.entries.entry import parse_entry, sign_entry
from plausible.ledger.entries.evidence import verify_evidence
from plausible.ledger.entries.images import Image, read_image
from plausible.ledger.entries.record import commit, make_opening, open_record, salt
from plausible.ledger.keys.keyhistory import KeyHistory
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.ledger.notes.proof import make_proof
from plausible.ledger.seeds import committed as seeds
from plausible.ledger.seeds.epochs import EpochIndex, EpochSeeds
from plausible.schemas import jcs
from plausible.schemas.receipt import Receipt
from plausible.schemas.record import (
    FIELDS,
    Batch,
    Call,
    Context,
    Device,
    Environment,
    Epoch,
    Input,
    Output,
    Record,
    weakest_grade,
)
from plausible.schemas.statement import (
    NO_PREVIOUS,
    AuthorKeyStatement,
    AuthorRevocationStatement,
    GenerationStatement,
    Header,
    ModelStatement,
    SeedEpochStatement,
    Statement,
)
from plausible.schemas.text import digest_text

AUTHOR = SignerKey("models.example/studio", ED25519, bytes(range(32)))
SUCCESSOR = SignerKey("models.example/studio", ED25519, bytes(range(1, 33)))
LOG = SignerKey("models.example/studio/log", ED25519, hashlib.sha256(b"plausible test key: log").digest())
WITNESSES = tuple(
    SignerKey(
        f"witness-{letter}.example",
        COSIGNATURE_ED25519,
        hashlib.sha256(f"plausible test key: witness {letter}".encode()).digest(),
    )
    for letter in "abc"
)
SEED_SECRET, RECORD_SECRET = bytes(range(32)), bytes(range(32, 64))
CHAIN = "00112233445566778899aabbccddeeff"
TIME = "2026-01-02T03:04:05.000006Z"


def _block(text: str) -> str:
    return "```\n" + text.rstrip("\n") + "\n```"


def _pretty(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)


def _picture() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return (np.arange(4 * 4 * 3) * 5).astype(np.uint8).reshape(4, 4, 3)


@cache
def _image() -> Image:
    # BMP: its bytes are the same with every version of every library
    buffer = io.BytesIO()
    Pillow.fromarray(_picture()).save(buffer, "BMP")
    return read_image(buffer.getvalue())


@cache
def _manifest_bytes() -> bytes:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    steps = np.array(7, dtype=np.int64)
    rows = [
        ("weight", "float32", weight.shape, array_digest(weight)),
        ("steps", "int64", (), array_digest(steps)),
    ]
    sampling = {"output_range": [-1.0, 1.0], "rounding": "mul255_add0.5_floor"}
    return jcs.encode(model_manifest("toy-4", {"z": 2, "gain": 1.0}, sampling, rows))


def _model() -> bytes:
    return model_digest(json.loads(_manifest_bytes()))


def _header(seq: int = 0, prev: str = NO_PREVIOUS) -> Header:
    return Header(author=AUTHOR.verifier.encode(), chain=CHAIN, prev=prev, seq=seq, time=TIME)


@cache
def _record() -> Record:
    image, vkey = _image(), AUTHOR.verifier.encode()
    z = seeds.latent(seeds.derive(SEED_SECRET, _model(), vkey, 7), [2])
    pixels, file = digest_text(image.pixel_digest), digest_text(image.file_digest)
    return Record(
        context=Context(author=vkey, chain=CHAIN, draw=7, file=file, model=digest_text(_model()), pixels=pixels),
        latent=seeds.latent_record(z, prior="normal", seed_secret=SEED_SECRET, keep_values=True),
        style={"psi": Input(grade="captured", value=cast("Any", jcs.wrap_number(0.7)))},
        call=Call(
            arguments={"z": {"input": "latent"}, "title": "a face"}, batch=Batch(index=0, size=1), callable="toy.make"
        ),
        environment=Environment(
            device=Device(isa="AVX2", name="Example CPU", threads=2),
            dtype="float32",
            flags={"deterministic_algorithms": False},
            numpy="2.4.6",
            plausible="0.1.0",
            python="3.11.7",
            torch="2.13.0",
        ),
        output=Output(file=file, height=4, mode="RGB", pixels=pixels, width=4),
    )


@cache
def _leaf() -> bytes:
    image = _image()
    statement = GenerationStatement.make(
        _header(),
        commitment=commit(_record(), RECORD_SECRET),
        draw=7,
        model=_model(),
        pixels=image.pixel_digest,
        file=image.file_digest,
    )
    return sign_entry(statement, AUTHOR)


def json_rules() -> str:
    """A document with every kind of number."""
    value = {
        "é": "text is UTF-8, unescaped",
        "integer": 9007199254740991,
        "larger": jcs.wrap_number(18446744073709551615),
        "one": jcs.wrap_number(1.0),
        "minus infinity": jcs.wrap_number(float("-inf")),
        "a dictionary that looks like a number": jcs.wrap_value({"int": 5}),
        "null": None,
    }
    return _block(jcs.encode(value).decode())


def digests() -> str:
    """A 4 x 4 picture, a tensor and a manifest."""
    samples = _picture()
    z = seeds.latent(_vector_h(), [100])
    manifest = _manifest_bytes()
    lines = [
        rf"pixels   SHA-256(b'plausible.pixels/1\n4 4 RGB\n' || {samples.tobytes()[:4].hex()}...)",
        f"         = {pixel_digest(samples).hex()}",
        r"tensor   SHA-256(b'plausible.tensor/1\nfloat32 100\n' || the 100 floats of committed-seeds.md)",
        f"         = {array_digest(z).hex()}",
        "model    SHA-256 of these bytes",
        manifest.decode(),
        f"         = {hashlib.sha256(manifest).hexdigest()}",
    ]
    return _block("\n".join(lines))


def authors() -> str:
    """Two keys of one author, the first revoked."""
    text = (
        "# whom I believe, from the studio's letterhead\n"
        f"author {AUTHOR.verifier} models.example/studio/log 1200\n"
        f"author {SUCCESSOR.verifier}\n"
    )
    Authors.parse(text)
    return _block(text)


def key_history() -> str:
    """Seven entries about three keys, in the order of a log, and what they come to."""
    keys = {"A": AUTHOR, "B": SUCCESSOR, "C": SignerKey("models.example/studio", ED25519, bytes(range(2, 34)))}
    history, lines = KeyHistory(), ["index  signed by  says         leaf hash"]
    steps = (
        ("C", "revokes", "A"), ("A", "names", "B"), ("B", "revokes", "A"), ("A", "names", "C"), ("A", "revokes", "B"),
        ("B", "revokes", "B"), ("B", "names", "C"),
    )  # fmt: skip
    for index, (signer, says, about) in enumerate(steps):
        vkey = keys[about].verifier.encode()
        header = Header(author=keys[signer].verifier.encode(), chain=CHAIN, prev=NO_PREVIOUS, seq=0, time=TIME)
        if says == "names":
            statement: Statement = AuthorKeyStatement.make(header, successor=vkey)
        else:
            statement = AuthorRevocationStatement.make(header, revoked=vkey)
        made = parse_entry(sign_entry(statement, keys[signer]))
        history.pass_by(index, made)
        lines.append(f"{index}      {signer}          {f'{says} {about}':12} {made.leaf_hash.hex()}")
    names = {key.verifier.encode(): letter for letter, key in keys.items()}
    lines += [f"{letter} = {key.verifier}" for letter, key in keys.items()]
    lines += [f"{names[vkey]} counts no more from index {index} on" for vkey, index in history.revoked.items()]
    lines.append(f"entries that say nothing: {', '.join(str(item.index) for item in history.ignored)}")
    return _block("\n".join(lines))


def entry() -> str:
    """The leaf's bytes, and the payload inside."""
    leaf = _leaf()
    made = parse_entry(leaf)
    return (
        _block(leaf.decode())
        + f"\n\n{len(leaf)} bytes, leaf hash `{made.leaf_hash.hex()}`. The payload's bytes:\n\n"
        + _block(made.envelope.payload.decode())
    )


def statements() -> str:
    """Predicates of the four other types."""
    root = seeds.epoch_tree([SEED_SECRET]).root()
    made: list[Statement] = [
        ModelStatement.make(_header(), manifest=_model()),
        AuthorKeyStatement.make(_header(), successor=SUCCESSOR.verifier.encode()),
        AuthorRevocationStatement.make(_header(), revoked=AUTHOR.verifier.encode()),
        SeedEpochStatement.make(_header(), first_draw=7, count=1, root=root),
    ]
    lines: list[str] = []
    for statement in made:
        value = statement.to_json()
        value["predicate"]["header"] = "..."
        lines.append(jcs.encode(value).decode())
    return _block("\n".join(lines))


def record() -> str:
    """A record as the vault keeps it, here with line breaks."""
    return _block(_pretty(_record().to_json()))


def commitment() -> str:
    """The ten salted leaves of that record."""
    values = _record().to_json()
    lines = [f"record secret  {RECORD_SECRET.hex()}"]
    leaves: list[bytes] = []
    for i, name in enumerate(FIELDS):
        leaf = jcs.encode([name, values[name], salt(RECORD_SECRET, name).hex()])
        leaves.append(hash_leaf(leaf))
        lines.append(f"leaf {i} {name:12}  salt {salt(RECORD_SECRET, name).hex()}  hash {leaves[-1].hex()}")
    lines.append(f"commitment     {MemoryTree(leaves).root().hex()}")
    style = jcs.encode(["style", values["style"], salt(RECORD_SECRET, "style").hex()])
    lines.append(f"leaf 3 is SHA-256(0x00 || {style.decode()})")
    counted = counted_inputs(open_record(_record()))
    lines.append(f"grade {weakest_grade(_record())}; {counted.free} free numbers, at most {counted.limit} count")
    return _block("\n".join(lines))


def opening() -> str:
    """The latent of that record and nothing else, here with line breaks."""
    return _block(_pretty(json.loads(make_opening(_record(), RECORD_SECRET, ["latent"]))))


def _vector_h() -> bytes:
    model = hashlib.sha256(b"model").digest()
    return seeds.derive(SEED_SECRET, model, AUTHOR.verifier.encode(), 7)


def _sha256(z: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
    return hashlib.sha256(z.astype("<f4").tobytes()).hexdigest()


def committed_seed() -> str:
    """The vector: inputs, h, the first numbers, the digest of 100."""
    h = _vector_h()
    z = seeds.latent(h, [100])
    sphere = seeds.latent(h, [100], "sphere")
    lines = [
        f"seed_secret  {SEED_SECRET.hex()}",
        f"model        {hashlib.sha256(b'model').hexdigest()}   (SHA-256 of the word model)",
        f"author       {AUTHOR.verifier}",
        "draw         7",
        f"h            {h.hex()}",
        f"z[0:3]       {', '.join(str(value) for value in z[:3])}",
        f"z            SHA-256 of 100 little-endian floats {_sha256(z)}",
        f"sphere       the same of z sqrt(100) / |z|        {_sha256(sphere)}",
    ]
    return _block("\n".join(lines))


def seed_epoch() -> str:
    """Three seeds, their root, the entry that publishes it, and what a record of draw 8 says of its seed."""
    secrets = [bytes(range(start, start + 32)) for start in (0, 32, 64)]
    made, author = EpochSeeds.of(secrets), AUTHOR.verifier.encode()
    published = parse_entry(
        sign_entry(SeedEpochStatement.make(_header(), first_draw=7, count=3, root=made.root), AUTHOR)
    )
    entry, path = digest_text(published.leaf_hash), tuple(digest_text(value) for value in made.path(1))
    z = seeds.latent(seeds.derive(secrets[1], _model(), author, 8), [2])
    latent = seeds.latent_record(z, prior="normal", seed_secret=secrets[1]).model_copy(
        update={"epoch": Epoch(count=3, entry=entry, first_draw=7, path=path), "grade": "committed-epoch"}
    )
    index = EpochIndex()
    index.pass_by(LOG.name, 4, published)
    index.complete[LOG.name] = 9
    context = _record().context.model_copy(update={"draw": 8})
    proven = index.check(latent, context, LOG.name, 6)
    lines = [f"seed {i}  {secret.hex()}  leaf {seeds.epoch_leaf(secret).hex()}" for i, secret in enumerate(secrets)]
    lines += [
        f"root    {made.root.hex()}",
        f"entry   seed-epoch:v1 {{first_draw 7, count 3, root}}, seq 0 of chain {CHAIN}",
        f"        leaf hash {published.leaf_hash.hex()}",
        "latent  of draw 8, as it stands in the record (model of digests.md):",
        latent.to_jcs().decode(),
        f"epoch at index 4, image at index 6: {proven}",
    ]
    return _block("\n".join(lines))


def _policy() -> Policy:
    lines = [f"log {LOG.verifier}", *(f"witness {key.name[8]} {key.verifier}" for key in WITNESSES)]
    return Policy.parse("\n".join([*lines, "group independent 2 a b c", "quorum independent", ""]).encode())


def evidence() -> str:
    """Every check of `verify_evidence` on true evidence for that picture."""
    leaf = _leaf()
    tree = MemoryTree([hash_leaf(b"another entry"), hash_leaf(leaf), hash_leaf(b"a third")])
    checkpoint = Checkpoint(LOG.name, 3, tree.root())
    note = checkpoint.sign(LOG).add(*(cosign(checkpoint, key, 1_780_000_000) for key in WITNESSES[:2]))
    proof = make_proof(1, tree.inclusion(1), note.encode(), leaf).encode()
    found = verify_evidence(
        _image(), proof, make_opening(_record(), RECORD_SECRET), _policy(), Authors.of([AUTHOR.verifier])
    )
    return _block("\n".join(check.line for check in found.checks))


def receipt() -> str:
    """A receipt in its first and in its last state."""
    leaf = digest_text(hash_leaf(_leaf()))
    made = (
        Receipt(index=None, leaf=leaf, size=None, state="accepted"),
        Receipt(index=1, leaf=leaf, size=3, state="witnessed"),
    )
    return _block("\n".join(item.to_jcs().decode() for item in made))


EXAMPLES: dict[str, Callable[[], str]] = {
    "json_rules": json_rules,
    "digests": digests,
    "authors": authors,
    "key_history": key_history,
    "entry": entry,
    "statements": statements,
    "record": record,
    "commitment": commitment,
    "opening": opening,
    "committed_seed": committed_seed,
    "seed_epoch": seed_epoch,
    "evidence": evidence,
    "receipt": receipt,
}
