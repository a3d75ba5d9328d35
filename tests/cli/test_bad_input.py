"""Bad input of every kind through real runs of `pd`: a clear sentence, the right exit code, nothing lost.

Exit codes: 4 for what cannot be read or run, 1 for evidence that contradicts itself, 5 for an unmet policy, 2 for a
question that cannot be asked. Never a traceback, never 70.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from plausible.ledger import Ledger
from plausible.schemas import jcs

RNG = np.random.default_rng(11)
RGB = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def saved(picture: PIL.Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


PICTURE = PIL.Image.fromarray(RGB)
GOOD = saved(PICTURE, "PNG")
IMAGES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"this is not a picture\n" * 100,
    "truncated png": lambda: GOOD[: len(GOOD) // 2],
    "truncated jpeg": lambda: saved(PICTURE, "JPEG")[:400],
    "damaged png": lambda: GOOD[:60] + bytes(20) + GOOD[80:],
    "decompression bomb": lambda: png(60_000, 60_000, 8, 2, bytes(1000)),
    "bomb in the text chunk": lambda: png(
        8, 8, 8, 2, bytes(200), chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(10**8)))
    ),
    "16 bit grey": lambda: png(8, 8, 16, 0, bytes(8 * 17)),
    "16 bit colour": lambda: png(8, 8, 16, 2, bytes(8 * 49)),
    "2 bit grey with transparency": lambda: png(8, 8, 2, 0, bytes(8 * 3), chunk(b"tRNS", b"\0\1")),
    "cmyk jpeg": lambda: saved(PICTURE.convert("CMYK"), "JPEG"),
    "cmyk tiff": lambda: saved(PICTURE.convert("CMYK"), "TIFF"),
    "lab tiff": lambda: saved(PIL.Image.new("LAB", (8, 8)), "TIFF"),
    "float tiff": lambda: saved(PIL.Image.new("F", (8, 8)), "TIFF"),
    "32 bit integer tiff": lambda: saved(PIL.Image.new("I", (8, 8)), "TIFF"),
    "animated gif": lambda: saved(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)]),
    "two page tiff": lambda: saved(PICTURE, "TIFF", save_all=True, append_images=[PICTURE.rotate(90)]),
    "pickle": lambda: pickle.dumps({"a": 1}),
    "svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}


@pytest.mark.parametrize("kind", IMAGES)
def test_pictures_that_cannot_be_read(pd, tmp_path: Path, kind: str) -> None:
    (tmp_path / "probe.png").write_bytes(IMAGES[kind]())
    result = pd("verify", "probe.png")
    assert result.code == 4, result.out + result.err
    assert result.out.startswith("probe.png: incomplete: ")
    assert "Traceback" not in result.err


def test_pictures_that_are_too_large_or_no_files(pd, tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.write(GOOD)
        file.truncate(10**12)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("huge.png", "pipe.png", "folder.png", "absent.png", "name\x1b[31m.png"):
        result = pd("verify", name)
        assert result.code == 4, name
        assert ": incomplete: " in result.out
        assert "\x1b" not in result.out + result.err


# --- evidence --------------------------------------------------------------------------------------------------------


@pytest.fixture
def evidence(pd, studio) -> Path:
    """Picture 1 with its proof and opening beside it; returns the picture."""
    for command in ("prove", "open"):
        assert pd("log", command, studio.picture(1), "--ledger", studio.ledger).code == 0
    return studio.picture(1)


def head(proof: bytes) -> list[bytes]:
    return proof.split(b"\n")


PROOFS: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "empty": (lambda _: b"", 4),
    "another header": (lambda p: p.replace(b"@v1", b"@v2", 1), 4),
    "no entry": (lambda p: b"\n".join(line for line in head(p) if not line.startswith(b"extra ")), 4),
    "an entry that is none": (lambda p: p.replace(head(p)[1], b"extra e30=", 1), 4),
    "a signed index": (lambda p: p.replace(b"\nindex 2\n", b"\nindex +2\n", 1), 4),
    "another index": (lambda p: p.replace(b"\nindex 2\n", b"\nindex 3\n", 1), 1),
    "an index beyond the tree": (lambda p: p.replace(b"\nindex 2\n", b"\nindex 5\n", 1), 4),
    "a hash too few": (lambda p: b"\n".join(line for i, line in enumerate(head(p)) if i != 3), 4),
    "a hash that is none": (lambda p: p.replace(head(p)[3], b"AAAA", 1), 4),
    "no checkpoint": (lambda p: p.split(b"\n\n")[0] + b"\n\n", 4),
    "a note without signatures": (lambda p: b"\n\n".join(p.split(b"\n\n")[:2]) + b"\n", 4),
    "a note with a control character": (
        lambda p: p.replace(b"models.example/studio/log\n5", b"models.example\x07\n5"),
        4,
    ),
    "a size with a zero in front": (lambda p: p.replace(b"log\n5\n", b"log\n05\n"), 4),
    "another size": (lambda p: p.replace(b"log\n5\n", b"log\n6\n"), 1),
    "a bent signature": (lambda p: p[:-20] + (b"A" if p[-20:-19] != b"A" else b"B") + p[-19:], 1),
    "garbage": (lambda _: bytes(range(256)) * 20, 4),
}


@pytest.mark.parametrize("kind", PROOFS)
def test_proofs_that_are_malformed_or_false(pd, studio, evidence: Path, kind: str) -> None:
    change, code = PROOFS[kind]
    proof = evidence.with_name("1.png.tlog-proof")
    before = proof.read_bytes()
    after = change(before)
    assert after != before
    proof.write_bytes(after)
    result = pd("verify", evidence, *studio.trust)
    assert result.code == code, result.out + result.err
    assert "FAIL" in result.err
    assert "Traceback" not in result.err


def reopened(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(data)
    change(document)
    return jcs.encode(document)


def twice(document: dict[str, Any]) -> None:
    document["fields"].append(document["fields"][0])


def placed(document: dict[str, Any]) -> None:
    document["fields"][0]["position"] = 3


def bent(document: dict[str, Any]) -> None:
    salt = document["fields"][1]["salt"]
    document["fields"][1]["salt"] = ("0" if salt[0] != "0" else "1") + salt[1:]


def renamed(document: dict[str, Any]) -> None:
    document["fields"][1]["name"] = "soul"


def without_context(document: dict[str, Any]) -> None:
    document["fields"] = [part for part in document["fields"] if part["name"] != "context"]


OPENINGS: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "empty": (lambda _: b"", 4),
    "not canonical": (lambda o: json.dumps(json.loads(o)).encode(), 4),
    "two fields of one name": (lambda o: reopened(o, twice), 4),
    "a chosen position": (lambda o: reopened(o, placed), 4),
    "an unknown field": (lambda o: reopened(o, renamed), 4),
    "without its context": (lambda o: reopened(o, without_context), 4),
    "a duplicate key": (lambda o: o.replace(b'{"fields"', b'{"fields":[],"fields"', 1), 4),
    "deep": (lambda _: b"[" * 10_000 + b"]" * 10_000, 4),
    "another salt": (lambda o: reopened(o, bent), 1),
}


@pytest.mark.parametrize("kind", OPENINGS)
def test_openings_that_are_malformed_or_false(pd, studio, evidence: Path, kind: str) -> None:
    change, code = OPENINGS[kind]
    opening = evidence.with_name("1.png.opening.json")
    before = opening.read_bytes()
    after = change(before)
    assert after != before
    opening.write_bytes(after)
    result = pd("verify", evidence, *studio.trust)
    # the entry stands all the same: what is left is that somebody claimed the picture
    assert result.code in ({4, 6} if code == 4 else {1}), result.out + result.err
    assert "FAIL  opening" in result.err or "FAIL  context" in result.err
    assert "Traceback" not in result.err


def test_the_opening_of_another_record_is_a_foreign_context(pd, studio, evidence: Path) -> None:
    assert pd("log", "open", 4, "--ledger", studio.ledger, "--out", "4.json").code == 0
    shutil.copy("4.json", evidence.with_name("1.png.opening.json"))
    result = pd("verify", evidence, *studio.trust)
    assert result.code == 1
    assert ": refuted: " in result.out


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quorum none\nquorum none\n",
        "log nonsense\nquorum none\n",
        "witness w nonsense\nquorum w\n",
        "quorum missing\n",
        "group g 3 a b\nquorum g\n",
        "wat\n",
        "log \u00e9+12345678+AAAA\nquorum none\n",
    ],
)
def test_policies_that_are_malformed(pd, studio, tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.policy").write_text(text)
    arguments = ("--policy", "bad.policy", "--authors", studio.ledger / "authors.txt")
    result = pd("verify", studio.picture(1), "--ledger", studio.ledger, *arguments)
    assert result.code == 4
    assert "polic" in result.sentence() or "line" in result.sentence() or "quorum" in result.sentence()


@pytest.mark.parametrize("text", ["author nonsense\n", "somebody\n", "author a b c\n", "\x00"])
def test_authors_files_that_are_malformed(pd, studio, tmp_path: Path, text: str) -> None:
    (tmp_path / "authors.txt").write_text(text)
    arguments = ("--policy", studio.ledger / "policy.txt", "--authors", "authors.txt")
    result = pd("verify", studio.picture(1), "--ledger", studio.ledger, *arguments)
    assert result.code == 4
    assert "authors" in result.sentence()


NOTES = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe\n\n\xe2\x80\x94 a AAAA\n",
    "no signatures": b"models.example/studio/log\n5\nAAAA\n",
    "no text": "\n\u2014 a AAAAAA==\n".encode(),
    "a short root": "models.example/studio/log\n5\nAAAA\n\n\u2014 models.example/studio/log AAAAAAAA\n".encode(),
    "a negative size": (
        "models.example/studio/log\n-5\n" + "A" * 43 + "=\n\n\u2014 models.example/studio/log AAAAAAAA\n"
    ).encode(),
    "a megabyte": b"x\n" * 1_000_000,
}


@pytest.mark.parametrize("kind", NOTES)
def test_checkpoints_that_are_malformed(pd, studio, kind: str) -> None:
    (studio.ledger / "public" / "checkpoint").write_bytes(NOTES[kind])
    for command in (("log", "checkpoint"), ("log", "list")):
        result = pd(*command, "--ledger", studio.ledger)
        assert result.code == 4
        assert result.sentence()
    evidence = ("--evidence", "absent.tlog-proof")
    assert pd("verify", studio.picture(1), "--ledger", studio.ledger, *studio.trust, *evidence).code == 4


# --- models ----------------------------------------------------------------------------------------------------------


def add_key(manifest: dict[str, Any]) -> None:
    manifest["more"] = 1


def unknown_architecture(manifest: dict[str, Any]) -> None:
    manifest["architecture"] = "gpt-17"


def other_shape(manifest: dict[str, Any]) -> None:
    manifest["config"]["width"] = 65


def other_digest(manifest: dict[str, Any]) -> None:
    manifest["tensors"][0]["sha256"] = "sha256:" + "0" * 64


@pytest.mark.parametrize("change", [add_key, unknown_architecture, other_shape, other_digest])
def test_manifests_that_do_not_fit(pd, studio, change: Callable[[dict[str, Any]], None]) -> None:
    path = studio.model / "manifest.json"
    path.write_bytes(reopened(path.read_bytes(), change))
    result = pd("attribute", studio.picture(0), "--models", studio.model)
    assert result.code == 4, result.out + result.err
    assert "Traceback" not in result.err


WEIGHTS: dict[str, Callable[[bytes], bytes]] = {
    "gone": lambda _: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "a pickle": lambda _: pickle.dumps({"w": [1.0]}),
    "a torch archive": lambda _: b"PK\x03\x04" + bytes(100),
    "a header that claims too much": lambda data: struct.pack("<Q", 2**62) + data[8:],
    "another value": lambda data: data[:-3] + bytes([data[-3] ^ 0x10]) + data[-2:],
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_not_the_manifests(pd, studio, kind: str) -> None:
    path = studio.model / "weights.safetensors"
    path.write_bytes(WEIGHTS[kind](path.read_bytes()))
    added = pd("models", "add", studio.model, "--name", "other", "--ledger", studio.ledger)
    assert added.code == 4, added.err
    assert added.sentence()
    rows = pd("models", "list", "--ledger", studio.ledger, "--json").document()["models"]
    assert [row["name"] for row in rows] == ["blobs"], "a refused model is not half registered"
    result = pd("attribute", studio.picture(0), "--models", studio.model)
    assert result.code == 4
    assert "incomplete" in result.out or result.sentence()


def test_registered_weights_that_were_exchanged(pd, studio) -> None:
    (studio.ledger / "models/blobs/weights.safetensors").write_bytes(pickle.dumps(1))
    result = pd("models", "verify", "--ledger", studio.ledger)
    assert result.code == 4
    assert "pickle" in result.sentence()


# --- disks and processes ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def read_only(folder: Path) -> Generator[None]:
    """The folder as on a read-only disk: without write permission, or for root mounted so."""
    if os.geteuid() != 0:
        paths = [folder, *folder.rglob("*")]
        modes = {path: path.stat().st_mode for path in paths}
        for path in reversed(paths):
            path.chmod(modes[path] & ~0o222)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        return
    bind = ["mount", "--bind", str(folder), str(folder)]
    if shutil.which("mount") is None or subprocess.run(bind, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("running as root, and nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_disk(pd, studio, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with read_only(studio.folder), read_only(empty):
        result = pd("models", "add", studio.model, "--name", "other", "--ledger", studio.ledger)
        assert result.code == 4
        assert result.sentence()
        assert pd("init", empty / "new.ledger", "--author", "a.example").code == 4
        assert pd("log", "prove", 1, "--ledger", studio.ledger, "--out", empty / "p").code == 4
        # what only reads goes on working
        for command in (("log", "list"), ("models", "list"), ("vault", "list"), ("log", "prove", 1)):
            result = pd(*command, "--ledger", studio.ledger)
            assert result.code == 0, (command, result.err)
        assert pd("verify", studio.picture(1), "--ledger", studio.ledger, *studio.trust).code == 0
    assert list(empty.iterdir()) == []


def limited(arguments: list[object], size: int) -> subprocess.CompletedProcess[str]:
    """A real `pd` that may make no file larger than `size` bytes: what a full disk does to it."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run(
        [sys.executable, "-m", "plausible.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )


@pytest.mark.parametrize("size", [0, 100, 5_000, 20_000])
def test_a_full_disk(pd, studio, tmp_path: Path, size: int) -> None:
    before = pd("log", "list", "--ledger", studio.ledger, "--json").out
    made = limited(["init", tmp_path / "new.ledger", "--author", "a.example"], size)
    assert made.returncode in (0, 4), made.stderr
    assert "Traceback" not in made.stderr
    if made.returncode:
        assert made.stderr.startswith("pd: ")
        assert not (tmp_path / "new.ledger").exists(), "nothing half made is left"
    added = limited(["models", "add", studio.model, "--name", "other", "--ledger", studio.ledger], size)
    assert added.returncode in (0, 4), added.stderr
    assert "Traceback" not in added.stderr
    if added.returncode:
        assert pd("log", "list", "--ledger", studio.ledger, "--json").out == before
    with Ledger.open(studio.ledger) as ledger:
        assert ledger.checkpoint().size >= 5
    assert pd("verify", studio.picture(1), "--ledger", studio.ledger, *studio.trust).code == 0


def test_a_second_process_on_one_ledger(pd, studio) -> None:
    """It enqueues durably for the one that sequences, which logs it; nobody waits for ever and nothing is lost."""
    with Ledger.open(studio.ledger) as ledger:
        assert ledger.sequencing
        arguments = ["models", "add", studio.model, "--name", "other", "--ledger", studio.ledger]
        command = [sys.executable, "-m", "plausible.cli", *map(str, arguments)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 0, second.stderr
        assert second.stdout.endswith("entry 5\n")
        ledger.flush()
        assert [model.name for model in ledger.models()] == ["blobs", "other"]
    assert len(pd("log", "list", "--ledger", studio.ledger, "--json").document()["entries"]) == 6
