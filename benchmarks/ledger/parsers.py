"""The parsers that fuzz.py feeds, each with its corpus and with what an accepted input must satisfy.

A parser returns the bytes that the program would write for what it read, or None where several spellings may stand.
Where signatures decide, it also says `forged` (an AssertionError, which escapes) if something was accepted that nobody
signed.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from plausible.ledger import Ledger
from plausible.ledger.absence.keys import FILE, PIXELS
from plausible.ledger.absence.note import IndexHead, IndexPolicy
from plausible.ledger.absence.proof import AbsenceProof, verify_absence
from plausible.ledger.absence.prove import prove_absence, sign_index
from plausible.ledger.config import CONFIG_FILE, LedgerConfig
from plausible.ledger.contradiction import (
    entry_pair,
    false_entry,
    inconsistent_heads,
    index_root,
    two_heads,
    verify_contradiction,
)
from plausible.ledger.entries.authors import Authors
from plausible.ledger.entries.digests import model_manifest
from plausible.ledger.entries.entry import parse_entry, verify_entry
from plausible.ledger.entries.evidence import verify_evidence
from plausible.ledger.entries.record import parse_opening, verify_opening
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tiles import (
    decode_bundle,
    decode_tile,
    encode_bundle,
    encode_tile,
    parse_path,
    tiles_to_write,
)
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.dsse import Envelope, open_envelope
from plausible.ledger.notes.mirror_body import AddEntriesRequest
from plausible.ledger.notes.note import ED25519, Note, SignerKey, VerifierKey
from plausible.ledger.notes.policy import Policy
from plausible.ledger.notes.proof import TlogProof, verify_proof
from plausible.ledger.transfer import export_log, import_log
from plausible.ledger.witness.request import parse_add_checkpoint_request, parse_sign_subtree_request
from plausible.schemas import jcs
from plausible.schemas.contradiction import parse_contradiction
from plausible.schemas.errors import EvidenceError, SetupError
from plausible.schemas.record import FIELDS, Record
from plausible.schemas.statement import parse_statement

SHARED = Path(os.environ.get("PLAUSIBLE_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
_SEPARATOR = b"\n--- opening ---\n"
_MAX_KNOWN = 1 << 18
TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True)
class Parser:
    """What to feed, and what to feed it with."""

    name: str
    parse: Callable[[bytes], bytes | None]
    corpus: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Artefacts:
    """What a small ledger leaves behind."""

    policy: bytes
    authors: bytes
    config: bytes
    checkpoints: tuple[bytes, ...]
    entries: tuple[bytes, ...]
    proofs: tuple[bytes, ...]
    openings: tuple[bytes, ...]
    records: tuple[bytes, ...]
    manifest: bytes
    export: bytes
    vkeys: tuple[bytes, ...]


def make_ledger(path: Path) -> None:
    """A ledger of three witnesses with a model and four pictures."""
    rng = np.random.default_rng(1)
    names = ("a.example", "b.example", "c.example")
    sampling = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
    manifest = model_manifest("fuzz", {"latent": 4}, sampling, [("w", "float32", [2, 3], bytes(32))])
    with Ledger.init(path, author="fuzz.example/studio", witnesses=names) as ledger:
        ledger.register_model("m", manifest=manifest)
        for number in range(4):
            picture = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            more: dict[str, Any] = {"latent": rng.standard_normal(4).astype(np.float32)} if number else {}
            ledger.append(image=picture, model="m", **more).wait("witnessed", 60)


def read_artefacts(path: Path) -> Artefacts:
    """Everything that can be cut out of a ledger of `make_ledger`."""
    with Ledger.open(path, mode="read") as ledger:
        proofs = [ledger.proof(index) for index in range(5)] + [ledger.proof(1, at=ledger.dated_by(1))]
        openings = [ledger.opening(index, fields=FIELDS) for index in (1, 2)] + [ledger.opening(3, fields=("rng",))]
        records = [ledger.record_of(index).to_jcs() for index in (1, 4)]
        manifest = jcs.encode(ledger.model("m").manifest())
        out = io.BytesIO()
        export_log(ledger.log, out, policy=ledger.policy)
        policy = ledger.policy
        entries = tuple(ledger.log.entries(0, 5, 5))
    public = path / "public"
    heads = [(public / "checkpoint.pending").read_bytes(), (public / "checkpoint").read_bytes()]
    heads += [kept.read_bytes() for kept in sorted((public / "checkpoints").iterdir())]
    keys = [policy.logs[0].key, *(witness.key for witness in policy.witnesses)]
    return Artefacts(
        (path / "policy.txt").read_bytes(), (path / "authors.txt").read_bytes(), (path / CONFIG_FILE).read_bytes(),
        tuple(heads), entries, tuple(proofs), tuple(openings), tuple(records), manifest, out.getvalue(),
        tuple(key.encode().encode() for key in keys),
    )  # fmt: skip


def contradictions(made: Artefacts, folder: Path) -> tuple[bytes, ...]:
    """Files about a log, in `folder`, whose key signed two trees, a forged entry and a false index root."""
    log = SignerKey("false.example/log", ED25519, bytes(range(32)))
    index = SignerKey("false.example/log/index", ED25519, bytes(range(1, 33)))
    at = made.entries[1].rindex(b'"sig":"') + 7
    leaves = [*made.entries, made.entries[1][:at] + b"B" + made.entries[1][at + 1 :], made.entries[0]]
    if leaves[-2] == made.entries[1]:
        leaves[-2] = made.entries[1][:at] + b"C" + made.entries[1][at + 1 :]
    tree, other = MemoryTree(map(hash_leaf, leaves)), MemoryTree(map(hash_leaf, reversed(leaves)))
    for name, data in tiles_to_write(0, leaves, tree.get, leaves.__getitem__):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    read = TiledLog(DirectorySource(folder))
    size = len(leaves)
    head, lie, older = (
        Checkpoint(log.name, count, grown.root(count)).sign(log).encode()
        for count, grown in ((size, tree), (size, other), (3, other))
    )
    note = IndexHead(log.name, size, tree.root(), bytes(32)).sign(index).encode()
    keys = [log.verifier]
    return (
        two_heads(keys, head, lie),
        inconsistent_heads(keys, older, head, read),
        false_entry(keys, head, read, size - 2),
        entry_pair(keys, head, read, 0, size - 1),
        index_root(index.verifier, note, read),
    )


def known_answers(*names: str) -> tuple[bytes, ...]:
    """Every longer text in known-answer files, and the bytes of those that are base64 or hex; none without them."""
    found: dict[bytes, None] = {}
    for name in names:
        path = SHARED / "vectors" / name
        for text in _texts(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else ():
            found[text.encode("utf-8", "surrogatepass")] = None
            for decode in (_unbase64, _unhex):
                if raw := decode(text):
                    found[raw] = None
    return tuple(data for data in found if 20 < len(data) <= _MAX_KNOWN)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in cast("dict[str, Any]", value).values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _texts(item)


def _unbase64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None


def _unhex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def forged(condition: bool, what: str) -> None:
    """Escape if something was accepted that nobody signed."""
    if condition:
        raise AssertionError(f"accepted: {what}")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _back(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _tile(data: bytes) -> bytes:
    """The first byte says the width, as a path would."""
    width = (data[0] if data else 0) + 1
    return data[:1] + encode_tile(decode_tile(data[1:], width))


def _bundle(data: bytes) -> bytes:
    width = (data[0] if data else 0) + 1
    return data[:1] + encode_bundle(decode_bundle(data[1:], width))


def _wide(encode: Callable[[Sequence[bytes]], bytes], items: Sequence[bytes]) -> bytes:
    return bytes([len(items) - 1]) + encode(items)


def _pixels(payload: bytes) -> str:
    return json.loads(payload)["subject"][0]["digest"].get("plausiblePixels1", "")


def _absence(ledger: Path, checkpoint: bytes) -> tuple[tuple[bytes, ...], IndexPolicy, tuple[bytes, ...]]:
    """Absence proofs of pictures that are there and that are not, the policy they pass, and the signed index root."""
    log = TiledLog(DirectorySource(ledger / "public"))
    head = Checkpoint.parse(Note.parse(checkpoint).text)
    keys = [SignerKey(name, ED25519, bytes([7 + place]) * 32) for place, name in enumerate(
        (f"{head.origin}/index", "monitor.example/index"))]  # fmt: skip
    note = sign_index(log, head, keys[1], others=sign_index(log, head, keys[0])).encode()
    lines = f"log {keys[0].verifier}\nwitness monitor {keys[1].verifier}\nquorum monitor\n"
    there = bytes.fromhex(_pixels(Envelope.parse(log.entry(2, head.size)).payload))
    proofs = [
        prove_absence(log, note, checkpoint, pixels=pixels, file=file).encode()
        for pixels, file in ((there, None), (bytes(32), None), (bytes([1]) * 32, bytes([2]) * 32), (there, bytes(32)))
    ]
    return tuple(proofs), IndexPolicy.parse(lines.encode()), (note,)


def parsers(ledger: Path, folder: Path) -> dict[str, Parser]:
    """All parsers by name, on the artefacts of a ledger; `folder` is for what is written while parsing."""
    made = read_artefacts(ledger)
    policy, authors = Policy.parse(made.policy), Authors.parse(made.authors)
    keys = [VerifierKey.parse(key.decode()) for key in made.vkeys]
    heads = {Note.parse(note).text for note in made.checkpoints}
    leaves = {hash_leaf(entry) for entry in made.entries}
    envelopes = [Envelope.parse(entry) for entry in made.entries]
    payloads = [envelope.payload for envelope in envelopes]
    opened = parse_entry(made.entries[1])
    author = authors.authors[0].key

    def note(data: bytes) -> bytes:
        found = Note.parse(data)
        forged(bool(found.known_signatures(keys)) and found.text not in heads, "a note")
        return found.encode()

    def checkpoint(data: bytes) -> bytes:
        found = Checkpoint.parse(Note.parse(data).text)
        accepted = policy.check(data)
        forged(found.text not in heads or len(accepted.cosigners) < 2, "a checkpoint")
        return Note.parse(data).encode()

    def proof(data: bytes) -> bytes:
        found = TlogProof.parse(data)
        leaf = hash_leaf(found.extra or b"")
        try:
            verify_proof(found, leaf, policy)
        except EvidenceError:
            return found.encode()
        forged(leaf not in leaves or found.checkpoint.text not in heads, "a proof")
        return found.encode()

    caught = contradictions(made, folder / "false")
    proven = {verify_contradiction(data).what for data in caught}

    def contradiction(data: bytes) -> bytes:
        found = parse_contradiction(data)
        forged(verify_contradiction(found).what not in proven, "a contradiction")
        return found.to_jcs()

    def read_policy(data: bytes) -> None:
        found = Policy.parse(data)
        found.satisfied_by([witness.name for witness in found.witnesses])
        found.existence_time({witness.name: 1 for witness in found.witnesses[:1]})

    def dsse(data: bytes) -> bytes:
        found = Envelope.parse(data)
        forged(open_envelope(data, TYPE, author) not in payloads, "an envelope")
        return found.encode()

    def entry(data: bytes) -> bytes:
        found = parse_entry(data)
        verify_entry(found, authors)
        forged(found.leaf_hash not in leaves, "an entry")
        return data

    def opening(data: bytes) -> bytes:
        found = parse_opening(data).to_jcs()
        verify_opening(data, opened)
        return found

    def config(data: bytes) -> None:
        (folder / CONFIG_FILE).write_bytes(data)
        try:
            found = LedgerConfig.read(folder)
        except SetupError:
            raise
        forged(LedgerConfig.parse(found.to_toml()) != found, "a log.toml that does not read back the same")

    def evidence(data: bytes) -> None:
        first, marker, second = data.partition(_SEPARATOR)
        found = verify_evidence(None, first, second if marker else None, policy, authors)
        if not found.passed("proof", "checkpoint", "inclusion", "canonical", "profile", "author"):
            raise EvidenceError(found.failed[0].detail if found.failed else "not shown")
        forged(found.entry is None or found.entry.leaf_hash not in leaves, "evidence")
        if found.failed:
            raise EvidenceError(found.failed[0].detail)

    def export(data: bytes) -> bytes | None:
        target = folder / "imported"
        try:
            done = import_log(io.BytesIO(data), target, policy)
            out = io.BytesIO()
            export_log(TiledLog(DirectorySource(target / "public")), out)
        finally:
            shutil.rmtree(target, ignore_errors=True)
        # kept heads whose own signature is broken are left out on purpose
        return None if done.left_out else out.getvalue()

    absence, index_policy, notes = _absence(ledger, made.checkpoints[1])
    truth = {bytes.fromhex(_pixels(payload)): (index,) for index, payload in enumerate(payloads) if index}

    def index_proof(data: bytes) -> bytes:
        found = AbsenceProof.parse(data)
        pixels = found.digests.get(PIXELS, bytes(32))
        told = verify_absence(
            found, pixels=pixels, file=found.digests.get(FILE), policy=policy, index_policy=index_policy
        )
        forged(told.indices != truth.get(pixels, ()), "an absence proof")
        return found.encode()

    def index_note(data: bytes) -> bytes:
        told = index_policy.check(data)
        forged(told.head not in {IndexHead.parse(Note.parse(note).text) for note in notes}, "an index note")
        return Note.parse(data).encode()

    pairs = [b"".join((made.proofs[1], _SEPARATOR, made.openings[0])), made.proofs[1], made.proofs[0]]
    request = b"old 0\n\n" + made.checkpoints[1]
    every = [
        Parser("vkey", lambda data: _back(VerifierKey.parse(_text(data)).encode()), made.vkeys),
        Parser("note", note, (*made.checkpoints, *known_answers("signed_note.json"))),
        Parser("checkpoint", checkpoint, made.checkpoints),
        Parser("proof", proof, (*made.proofs, *known_answers("tlog_proof.json"))),
        Parser("policy", read_policy, (made.policy, *known_answers("tlog_policy.json"))),
        Parser("tile", _tile, (_wide(encode_tile, [bytes(32)] * 256), _wide(encode_tile, sorted(leaves)))),
        Parser("bundle", _bundle, (_wide(encode_bundle, made.entries), _wide(encode_bundle, [b"", b"x" * 300, b"y"]))),
        Parser("tile-path", lambda data: _back(parse_path(_text(data)).path),
               (b"tile/0/000", b"tile/entries/x001/x234/067.p/255", b"tile/63/001.p/1")),
        Parser("jcs", lambda data: jcs.encode(jcs.decode(data)), (*made.records, made.manifest)),
        Parser("dsse", dsse, made.entries),
        Parser("statement", lambda data: parse_statement(data).to_jcs(), tuple(payloads)),
        Parser("entry", entry, made.entries),
        Parser("record", lambda data: Record.parse(data).to_jcs(), made.records),
        Parser("opening", opening, (made.openings[0], made.openings[1], made.openings[2])),
        Parser("authors", lambda data: Authors.parse(data) and None, (made.authors, made.authors + b"# x\n\n",
               made.authors.rstrip(b"\n") + b" fuzz.example/studio/log 3\n")),
        Parser("config", config, (made.config, made.config + b'[batch]\nentries = 5\n')),
        Parser("evidence", evidence, tuple(pairs)),
        Parser("export", export, (made.export,)),
        Parser("index-proof", index_proof, absence),
        Parser("index-note", index_note, notes),
        Parser("index-policy", lambda data: IndexPolicy.parse(data) and None, (index_policy.policy.source,)),
        Parser("contradiction", contradiction, caught),
        Parser("add-checkpoint", lambda data: parse_add_checkpoint_request(data).encode(),
               (request, *known_answers("witness_add_checkpoint.json"))),
        Parser("sign-subtree", lambda data: parse_sign_subtree_request(data).encode(),
               (b"subtree 0 4\n" + base64.b64encode(bytes(32)) + b"\n\n" + made.checkpoints[1], request)),
        Parser("add-entries", lambda data: AddEntriesRequest.parse(data).encode(),
               (b"\0\1x" + bytes(16) + b"\0\0", *known_answers("mirror_add_entries.json"))),
    ]  # fmt: skip
    return {parser.name: parser for parser in every}
