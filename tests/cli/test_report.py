"""`pd report` and `pd pack`: renderings and archives of a report, refused for another picture or other trust files."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from plausible.attribution.report.document import sign_report
from plausible.ledger.entries.images import read_image
from plausible.ledger.notes.note import SignerKey
from plausible.schemas.report import ReportDocument
from plausible.schemas.text import digest_text

POLICY, AUTHORS = b"quorum none\n", b"# nobody\n"
AUDITOR = SignerKey("auditor.example", 0x01, bytes(32))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    rng = np.random.default_rng(7)
    path = tmp_path / "face.png"
    PIL.Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return path


def document(picture: Path, auditor: str | None = None, **changes: Any) -> ReportDocument:
    image = read_image(picture)
    fields: dict[str, Any] = {
        "accused": (),
        "auditor": auditor,
        "authors": digest_text(hashlib.sha256(AUTHORS).digest()),
        "budget": None,
        "candidates": (),
        "checkpoints": (),
        "checks": ({"name": "pixels", "reason": "read", "stage": "image", "state": "made"},),
        "claimed_date": None,
        "command": "pd verify face.png --policy policy.txt --authors authors.txt",
        "copies": {
            **dict.fromkeys(
                ("calibration", "found", "key", "limit", "psnr", "residual", "ssim", "transformation"), None
            ),
            "pictures": 0,
            "ran": False,
            "reason": "no ledger",
        },
        "coverage": {"logs": (), "reason": "no ledger", "state": "unknown"},
        "created": "2026-01-01T00:00:00.000000Z",
        "entries": (),
        "image": {
            "file": digest_text(image.file_digest),
            "format": "PNG",
            "height": 16,
            "mode": "RGB",
            "name": "face.png",
            "notes": (),
            "pixels": digest_text(image.pixel_digest),
            "width": 16,
        },
        "not_shown": ("Innocence.",),
        "policy": digest_text(hashlib.sha256(POLICY).digest()),
        "scope": {"classes": ("unprocessed",), "name": "strict"},
        "scores": (),
        "seconds": {},
        "trust": "policy",
        "verdict": {
            "author": None,
            "error": None,
            "exit_code": 3,
            "line": "nothing decisive <script>alert(1)</script>",
            "model": None,
            "reasons": (),
            "self_attested": False,
            "stage": "decide",
            "word": "inconclusive",
        },
        "versions": {},
        **changes,
    }
    return ReportDocument.model_validate(fields)


@pytest.fixture
def files(picture: Path, tmp_path: Path) -> Path:
    """Report, policy and authors beside the picture."""
    (tmp_path / "report.json").write_bytes(document(picture).to_jcs() + b"\n")
    (tmp_path / "policy.txt").write_bytes(POLICY)
    (tmp_path / "authors.txt").write_bytes(AUTHORS)
    return tmp_path


def test_a_page_of_its_own_without_scripts(pd, files: Path, picture: Path) -> None:
    result = pd("report", "report.json", "--image", picture)
    assert (result.code, result.out) == (0, "")
    page = (files / "report.html").read_text()
    assert "inconclusive" in page
    assert "<script" not in page
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_page_is_not_overwritten(pd, files: Path) -> None:
    (files / "report.html").write_text("mine")
    assert pd("report", "report.json").code == 2
    assert (files / "report.html").read_text() == "mine"
    assert pd("report", "report.json", "--force").code == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", ""),
        (b"{}", ""),
        (b"\xff\xfe", ""),
        (b'{"payload":"","payloadType":"x","signatures":[]}', ""),
        (b"[" * 100_000, ""),
        (b'{"format":"plausible.report/2"}', ""),
        (b"PK\x03\x04", ""),
    ],
)
def test_a_malformed_report_is_incomplete(pd, tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "bad.json").write_bytes(data)
    result = pd("report", "bad.json")
    assert result.code == 4
    assert said in result.sentence()
    assert not (tmp_path / "bad.html").exists()


def test_a_report_that_is_not_there_is_wrong_usage(pd) -> None:
    assert pd("report", "none.json").code == 2
    assert pd("report", ".").code == 2


def test_a_signature_is_checked(pd, files: Path, picture: Path) -> None:
    vkey = AUDITOR.verifier.encode()
    signed = sign_report(document(picture, auditor=vkey), AUDITOR)
    (files / "signed.json").write_bytes(signed)
    assert pd("report", "signed.json", "--auditor", vkey).code == 0
    result = pd("report", "signed.json", "--force")
    assert result.code == 0
    assert "pin it with --auditor" in result.err
    other = SignerKey("auditor.example", 0x01, bytes([1] * 32)).verifier.encode()
    assert pd("report", "signed.json", "--auditor", other, "--force").code == 4
    assert pd("report", "report.json", "--auditor", vkey, "--force").code == 4
    place = signed.index(b'"sig":"') + 12
    broken = signed[:place] + (b"B" if signed[place : place + 1] == b"A" else b"A") + signed[place + 1 :]
    (files / "signed.json").write_bytes(broken)
    assert pd("report", "signed.json", "--force").code == 4


def test_an_archive_has_everything_and_is_the_same_every_time(pd, files: Path, picture: Path) -> None:
    (files / "face.png.opening.json").write_bytes(b"{}")
    (files / "calibration.json").write_bytes(b"{}")
    arguments = ("pack", picture, "--report", "report.json", "--policy", "policy.txt", "--authors", "authors.txt")
    assert pd(*arguments, "--add", "calibration.json", "--out", "one.zip").code == 0
    assert pd(*arguments, "--add", "calibration.json", "--out", "two.zip").code == 0
    assert (files / "one.zip").read_bytes() == (files / "two.zip").read_bytes()
    archive = zipfile.ZipFile(files / "one.zip")
    content = {name: archive.read(name) for name in archive.namelist()}
    assert set(content) == {
        "README.txt",
        "SHA256SUMS",
        "authors.txt",
        "evidence/face.png.opening.json",
        "image/face.png",
        "more/calibration.json",
        "policy.txt",
        "report.html",
        "report.json",
        "versions.txt",
    }
    assert content["image/face.png"] == picture.read_bytes()
    assert b"inconclusive" in content["README.txt"]
    assert b"Innocence." in content["README.txt"]
    sums = {line[66:]: line[:64] for line in content["SHA256SUMS"].decode().splitlines()}
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in content.items() if name != "SHA256SUMS"}


def test_no_archive_about_another_picture_or_other_trust(pd, files: Path, picture: Path) -> None:
    other = files / "other.png"
    PIL.Image.new("RGB", (16, 16), (1, 2, 3)).save(other)
    trust = ("--policy", "policy.txt", "--authors", "authors.txt")
    assert pd("pack", other, "--report", "report.json", *trust, "--out", "case.zip").code == 4
    result = pd("pack", picture, "--report", "report.json", "--authors", "authors.txt", "--out", "case.zip")
    assert result.code == 2
    assert "--policy" in result.sentence()
    (files / "policy.txt").write_bytes(b"quorum nobody\n")
    result = pd("pack", picture, "--report", "report.json", *trust, "--out", "case.zip")
    assert result.code == 2
    assert "another policy" in result.sentence()
    assert not (files / "case.zip").exists()
