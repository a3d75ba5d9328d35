"""Fill the examples of docs/spec/*.md from fixed test keys: `python docs/make_spec.py` (`--check` only compares).

A page holds `<!-- example: NAME -->` ... `<!-- end -->`; what lies between is written by the function NAME below, so an
example is always what the code of today produces. Every key here is published: never use one.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from plausible.ledger.absence.keys import FILE, PIXELS, index_key
from plausible.ledger.absence.note import IndexHead, IndexPolicy
from plausible.ledger.absence.proof import AbsenceProof, verify_absence
from plausible.ledger.absence.trie import IndexMap, MemoryPages
from plausible.ledger.contradiction import two_heads, verify_contradiction
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tiles import WIDTH, Tile, tiles_at, tiles_to_write
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign, subtree_message
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, Note, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.ledger.notes.proof import make_proof
from plausible.ledger.transfer import export_log
from plausible.ledger.writing.succession import read_predecessor

# spec_entries.py lies beside this script, which tests load by its path
sys.path.insert(0, str(Path(__file__).resolve().parent))
from spec_entries import EXAMPLES as ENTRY_EXAMPLES
from spec_reports import EXAMPLES as REPORT_EXAMPLES

SPEC = Path(__file__).resolve().parent / "spec"
_PLACE = re.compile(r"<!-- example: ([a-z_]+) -->\n.*?<!-- end -->\n", re.DOTALL)

ORIGIN = "models.example/studio/log"
TIME = 1_780_000_000


def _seed(word: str) -> bytes:
    return hashlib.sha256(b"plausible test key: " + word.encode()).digest()


LOG = SignerKey(ORIGIN, ED25519, _seed("log"))
WITNESSES = tuple(
    SignerKey(f"witness-{letter}.example", COSIGNATURE_ED25519, _seed(f"witness {letter}")) for letter in "abc"
)
INDEX_KEYS = tuple(SignerKey(f"{name}/index", ED25519, _seed(f"index {name}")) for name in (ORIGIN, "monitor.example"))
ENTRIES = tuple(f"entry {i}".encode() for i in range(5))


def _block(text: str) -> str:
    return "```\n" + text.rstrip("\n") + "\n```"


def tree() -> str:
    """A tree of five one-line entries: leaf hashes, roots, one path of each kind."""
    made = MemoryTree(hash_leaf(entry) for entry in ENTRIES)
    lines = [f"leaf {i}   {hash_leaf(entry).hex()}   {entry.decode()!r}" for i, entry in enumerate(ENTRIES)]
    lines += [f"root {size}   {made.root(size).hex()}" for size in range(len(ENTRIES) + 1)]
    lines += ["inclusion of leaf 2 in size 5:"] + [f"         {h.hex()}" for h in made.inclusion(2, 5)]
    lines += ["consistency of size 3 with size 5:"] + [f"         {h.hex()}" for h in made.consistency(3, 5)]
    return _block("\n".join(lines))


def note() -> str:
    """A signed note, and the verifier key that accepts it."""
    signed = Note("Anything may stand here.\n\nEmpty lines too.\n").sign(LOG)
    return _block(signed.encode().decode()) + "\n\nVerifier key:\n\n" + _block(LOG.verifier.encode())


def _checkpoint() -> Note:
    root = MemoryTree(hash_leaf(entry) for entry in ENTRIES).root()
    return Checkpoint(ORIGIN, len(ENTRIES), root).sign(LOG)


def checkpoint() -> str:
    """A checkpoint of the tree of tree.md."""
    return _block(_checkpoint().encode().decode())


def _cosigned() -> Note:
    made = _checkpoint()
    point = Checkpoint.parse(made.text)
    return made.add(*(cosign(point, key, TIME + 10 * i) for i, key in enumerate(WITNESSES[:2])))


def cosignature() -> str:
    """The same checkpoint, cosigned by two witnesses."""
    keys = "\n".join(key.verifier.encode() for key in WITNESSES[:2])
    return _block(_cosigned().encode().decode()) + "\n\nVerifier keys of the witnesses:\n\n" + _block(keys)


def ml_dsa_message() -> str:
    """What an ML-DSA-44 witness signs about that checkpoint; the signature itself differs each time it is made."""
    point = Checkpoint.parse(_checkpoint().text)
    message = subtree_message("witness-a.example", TIME, point.origin, 0, point.size, point.root)
    return _block("\n".join(_rows(message.hex(), 96)))


def _rows(text: str, width: int) -> list[str]:
    return [text[start : start + width] for start in range(0, len(text), width)]


def log_keys() -> str:
    """That checkpoint under both keys of its log, and the policy lines that accept either."""
    new = SignerKey(ORIGIN, ED25519, _seed("log, the next key"))
    note = _cosigned()
    both = note.add(new.sign(note.text))
    lines = [f"log {LOG.verifier}", f"log {new.verifier}"]
    rest = [f"witness {key.name[8]} {key.verifier}" for key in WITNESSES[:2]] + ["group g all a b", "quorum g", ""]
    for chosen in (lines, lines[:1], lines[1:]):
        Policy.parse("\n".join([*chosen, *rest]).encode()).check(both.encode())
    return _block(both.encode().decode()) + "\n\n" + _block("\n".join(lines))


def succession() -> str:
    """Entry 0 of the log that continues the one of that checkpoint: its bytes, its hash, the first head over it."""
    leaf = _cosigned().encode()
    following = SignerKey(f"{ORIGIN}-2", ED25519, _seed("log 2"))
    carried = read_predecessor(leaf, following.name)
    if carried is None or read_predecessor(leaf, ORIGIN) is not None:
        raise AssertionError("the example is no succession")
    first = Checkpoint(following.name, 1, MemoryTree([hash_leaf(leaf)]).root()).sign(following)
    said = f"continues {carried.origin}, closed with {carried.size} entries; leaf hash {hash_leaf(leaf).hex()}"
    return _block(leaf.decode()) + f"\n\n{said}. The first checkpoint over it:\n\n" + _block(first.encode().decode())


def policy() -> str:
    """Two of three witnesses; the checkpoint of cosignature.md passes it."""
    lines = [f"log {LOG.verifier.encode()}", ""]
    lines += [f"witness {key.name[8]} {key.verifier.encode()}" for key in WITNESSES]
    text = "\n".join([*lines, "", "group independent 2 a b c", "quorum independent"]) + "\n"
    Policy.parse(text.encode()).check(_cosigned().encode())
    return _block(text)


def proof() -> str:
    """Entry 2 of the tree of tree.md under the cosigned checkpoint."""
    path = MemoryTree(hash_leaf(entry) for entry in ENTRIES).inclusion(2)
    return _block(make_proof(2, path, _cosigned().encode(), ENTRIES[2]).encode().decode())


def tiles() -> str:
    """The files of a log of 70,000 entries; runs of full ones are abbreviated."""
    lines: list[str] = []
    previous: Tile | None = None
    for tile in [*tiles_at(70_000), None]:
        runs_on = tile is not None and previous is not None and tile == Tile(previous.level, previous.index + 1)
        if not runs_on:
            if previous is not None and previous.width == WIDTH and previous.index > 0:
                lines += ["...", _describe(previous)]
            if tile is not None:
                lines.append(_describe(tile))
        previous = tile
    return _block("\n".join(lines))


def export() -> str:
    """The members of an export of 600 entries, one a line."""
    entries = [f"entry {i}".encode() for i in range(600)]
    made = MemoryTree(map(hash_leaf, entries))
    files = dict(tiles_to_write(0, entries, made.get, entries.__getitem__))
    for size in (5, 256, 590, 600):
        files[f"checkpoints/{size}"] = Checkpoint(ORIGIN, size, made.root(size)).sign(LOG).encode()
    files["checkpoint"] = files["checkpoints/600"]
    out = io.BytesIO()
    with tempfile.TemporaryDirectory() as name:
        for path, data in files.items():
            (Path(name) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(name) / path).write_bytes(data)
        export_log(TiledLog(DirectorySource(name)), out)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        lines = [f"{member.name:28}{member.size:>6} bytes" for member in tar]
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    return _block("\n".join(lines)) + f"\n\nIts {len(out.getvalue())} bytes have SHA-256 `{digest}`."


def _describe(tile: Tile) -> str:
    what = f"{tile.width} entries" if tile.is_bundle else f"{tile.width * 32} bytes"
    return f"{tile.path:28}{what}"


def absence_index() -> str:
    """A signed index root over the last vector's map, the policy that accepts it, and a proof of absence under it."""
    pixels = [hashlib.sha256(bytes([i])).digest() for i in range(5)]
    made = IndexMap(MemoryPages())
    made.add((index_key(PIXELS, pixels[which]), at) for at, which in enumerate((0, 1, 2, 3)))
    point = Checkpoint.parse(_cosigned().text)
    note = IndexHead.of(point, made.root()).sign(*INDEX_KEYS)
    log, monitor = (key.verifier.encode() for key in INDEX_KEYS)
    policy_text = f"log {log}\nwitness monitor {monitor}\nquorum monitor\n"
    digests = {PIXELS: pixels[4], FILE: hashlib.sha256(b"file").digest()}
    proofs = {kind: made.prove(index_key(kind, digest)) for kind, digest in digests.items()}
    proof = AbsenceProof(digests, proofs, note.encode(), _cosigned().encode())
    verifier = Policy.parse(
        "\n".join([f"log {LOG.verifier}", *(f"witness {k.name[8]} {k.verifier}" for k in WITNESSES),
                   "group independent 2 a b c", "quorum independent", ""]).encode()
    )  # fmt: skip
    verify_absence(
        proof.encode(),
        pixels=digests[PIXELS],
        file=digests[FILE],
        policy=verifier,
        index_policy=IndexPolicy.parse(policy_text.encode()),
    )
    keys = proof.encode_keys().hex()
    return "\n\n".join(
        [
            _block(note.encode().decode()),
            "An `index.policy` that accepts it:",
            _block(policy_text),
            f"The keys of a proof file under it, in hex ({len(keys) // 2} bytes): an image that no entry names.",
            _block("\n".join(keys[i : i + 96] for i in range(0, len(keys), 96))),
        ]
    )


def contradiction() -> str:
    """Two heads of one size that one key signed, and what that proves."""
    root = MemoryTree(hash_leaf(entry) for entry in (*ENTRIES[:4], b"another entry 4")).root()
    other = Checkpoint(ORIGIN, len(ENTRIES), root).sign(LOG).encode()
    data = two_heads([LOG.verifier], _checkpoint().encode(), other)
    found = verify_contradiction(data, policy=Policy.parse(f"log {LOG.verifier}\nquorum none\n".encode()))
    return _block(data.decode()) + f"\n\nIt proves: {found.accused} {found.what}."


EXAMPLES: dict[str, Callable[[], str]] = {
    "tree": tree,
    "note": note,
    "checkpoint": checkpoint,
    "cosignature": cosignature,
    "ml_dsa_message": ml_dsa_message,
    "log_keys": log_keys,
    "succession": succession,
    "policy": policy,
    "proof": proof,
    "tiles": tiles,
    "export": export,
    "absence_index": absence_index,
    "contradiction": contradiction,
    **ENTRY_EXAMPLES,
    **REPORT_EXAMPLES,
}


def fill(text: str) -> str:
    """The page's text with every example made anew."""

    def one(found: re.Match[str]) -> str:
        return f"<!-- example: {found[1]} -->\n{EXAMPLES[found[1]]()}\n<!-- end -->\n"

    return _PLACE.sub(one, text)


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` name those that differ and return 1."""
    stale = 0
    for page in sorted(SPEC.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = fill(before)
        if before != after:
            stale += 1
            print(f"{page.name}: {'differs' if '--check' in arguments else 'written'}")
            if "--check" not in arguments:
                page.write_text(after, encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
