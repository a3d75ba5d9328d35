"""`pd verify` and `pd attribute`: verdicts, exit codes, streams, batches, pages, and answers without torch."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from plausible.attribution.report.document import open_report
from plausible.cli import sources
from plausible.ledger.notes.note import VerifierKey
from plausible.schemas.report import ReportDocument


def test_a_logged_picture(pd, studio) -> None:
    result = pd("verify", studio.picture(1), "--ledger", studio.ledger, *studio.trust)
    assert result.code == 0
    assert result.out.startswith(f"{studio.picture(1)}: logged: ")
    assert result.out.count("\n") == 1
    assert "  ok    inclusion" in result.err
    assert "  skip  changed copies" in result.err


def test_the_own_ledger_alone_is_self_attested(pd, studio) -> None:
    result = pd("verify", studio.picture(1), "--ledger", studio.ledger)
    assert result.code == 0
    assert "self-attested" in result.out


def test_a_lossless_copy_in_another_format_is_the_same_picture(pd, studio, tmp_path: Path) -> None:
    PIL.Image.open(studio.picture(1)).save(tmp_path / "same.webp", lossless=True, exact=True)
    assert pd("verify", "same.webp", "--ledger", studio.ledger, *studio.trust).code == 0


def test_over_http_it_is_claimed_and_with_evidence_and_weights_logged(pd, studio, serve) -> None:
    picture = studio.picture(2)
    with serve(studio.ledger) as address:
        result = pd("verify", picture, "--ledger", address, *studio.trust)
        assert result.code == 6
        assert "not opened" in result.out
        assert pd("log", "prove", picture, "--ledger", studio.ledger).code == 0
        assert pd("log", "open", picture, "--ledger", studio.ledger).code == 0
        result = pd("verify", picture, "--ledger", address, *studio.trust, "--models", studio.model)
        assert result.code == 0, result.out + result.err


def test_evidence_offline(pd, studio) -> None:
    """The proof of the picture, its opening, the proof of the model's entry: no ledger at all."""
    picture = studio.picture(2)
    for arguments in (("prove", picture), ("open", picture), ("prove", 0, "--out", "model.tlog-proof")):
        assert pd("log", *arguments, "--ledger", studio.ledger).code == 0
    beside = picture.with_name("2.png.tlog-proof")
    arguments = ("verify", picture, "--evidence", beside, *studio.trust, "--models", studio.model, "--offline")
    assert pd(*arguments).code == 6
    assert pd(*arguments, "--evidence", "model.tlog-proof").code == 0


def test_evidence_of_another_picture_is_a_failed_check_by_name(pd, studio) -> None:
    assert pd("log", "prove", studio.picture(0), "--ledger", studio.ledger, "--out", "other.tlog-proof").code == 0
    PIL.Image.new("RGB", (32, 32), (90, 90, 90)).save("flat.png")
    result = pd("verify", "flat.png", "--evidence", "other.tlog-proof", *studio.trust)
    assert result.code == 3
    assert "FAIL  subject" in result.err


def test_too_few_cosignatures_and_unknown_authors_are_untrusted(pd, studio, tmp_path: Path) -> None:
    picture, ledger = studio.picture(1), studio.ledger
    assert pd("log", "prove", picture, "--ledger", ledger).code == 0
    witness = pd("keys", "generate", "w.example", "--role", "witness", "--out", "w.key").out.strip()
    log = next(line for line in (ledger / "policy.txt").read_text().splitlines() if line.startswith("log "))
    (tmp_path / "hard.policy").write_text(f"{log}\nwitness w {witness}\nquorum w\n")
    stranger = pd("keys", "generate", "models.example/studio", "--role", "author", "--out", "a.key").out.strip()
    (tmp_path / "others.txt").write_text(f"author {stranger}\n")
    policy, authors = ledger / "policy.txt", ledger / "authors.txt"
    for trust in (("hard.policy", authors), (policy, "others.txt")):
        result = pd("verify", picture, "--policy", trust[0], "--authors", trust[1], "--offline")
        assert result.code == 5, result.out
        assert "untrusted" in result.out


def test_an_edited_entry_is_refuted(pd, studio) -> None:
    """Somebody changed the last entry in the served files; the picture it was about is found and does not fit."""
    for path in (studio.ledger / "public/tile/entries/000.p").iterdir():
        data = path.read_bytes()
        place = len(data) - 40
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    result = pd("verify", studio.picture(3), "--ledger", studio.ledger, *studio.trust)
    assert result.code == 1
    assert ": refuted: " in result.out


def test_a_flat_picture_is_inconclusive(pd, studio) -> None:
    PIL.Image.new("RGB", (32, 32), (90, 90, 90)).save("flat.png")
    result = pd("verify", "flat.png", "--ledger", studio.ledger, *studio.trust)
    assert result.code == 3
    assert "flat" in result.out
    assert pd("verify", "flat.png", "--ledger", studio.ledger, *studio.trust, "--exit-zero").code == 0


def test_a_batch_exits_with_the_worst_and_loses_nothing(pd, studio) -> None:
    PIL.Image.new("RGB", (32, 32), (90, 90, 90)).save("flat.png")
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    images = (studio.picture(0), "broken.png", "flat.png", studio.picture(1))
    result = pd("verify", *images, "--ledger", studio.ledger, *studio.trust)
    assert result.code == 4
    words = ["logged", "incomplete", "inconclusive", "logged"]
    assert [line.split(": ")[1] for line in result.out.splitlines()] == words
    found = pd("verify", *images, "--ledger", studio.ledger, *studio.trust, "--json").document()
    assert (found["format"], found["exit_code"], found["interrupted"]) == ("plausible.reports/1", 4, False)
    assert [r["verdict"]["word"] for r in found["reports"]] == words


def test_a_bug_in_one_picture_keeps_the_other_answers(pd, studio, monkeypatch: pytest.MonkeyPatch) -> None:
    from plausible.attribution.verifier import Verifier

    real = Verifier.verify

    def sometimes(self, image, *, name=None):
        if str(image).endswith("1.png"):
            raise ZeroDivisionError
        return real(self, image, name=name)

    monkeypatch.setattr(Verifier, "verify", sometimes)
    result = pd("verify", *(studio.picture(n) for n in range(3)), "--ledger", studio.ledger, *studio.trust)
    assert result.code == 70
    assert result.out.count(": logged: ") == 2
    assert "internal error with" in result.err
    assert "Traceback" not in result.err


def test_an_interrupted_batch_says_what_it_had(pd, studio, monkeypatch: pytest.MonkeyPatch) -> None:
    from plausible.attribution.verifier import Verifier

    real = Verifier.verify

    def once(self, image, *, name=None):
        if str(image).endswith("1.png"):
            raise KeyboardInterrupt
        return real(self, image, name=name)

    monkeypatch.setattr(Verifier, "verify", once)
    images = [studio.picture(n) for n in range(3)]
    result = pd("verify", *images, "--ledger", studio.ledger, *studio.trust, "--json")
    assert result.code == 130
    assert result.document()["interrupted"] is True
    assert len(result.document()["reports"]) == 1


def test_one_json_document_is_the_report_itself(pd, studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pd", "verify", "a picture.png"])
    result = pd("verify", studio.picture(0), "--ledger", studio.ledger, *studio.trust, "--json")
    document = ReportDocument.parse(result.out.removesuffix("\n").encode())
    assert document.verdict.word == "logged"
    assert document.command == "pd verify 'a picture.png'"


def test_from_stdin(pd, studio, monkeypatch: pytest.MonkeyPatch) -> None:
    with studio.picture(0).open("rb") as file:
        monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": file, "isatty": lambda _self: False})())
        result = pd("verify", "-", "--ledger", studio.ledger, *studio.trust)
    assert result.code == 0
    assert result.out.startswith("stdin: logged: ")


def test_a_page_and_a_signed_document(pd, studio, tmp_path: Path) -> None:
    vkey = pd("keys", "generate", "auditor.example", "--out", "auditor.key").out.strip()
    arguments = ("verify", studio.picture(0), "--ledger", studio.ledger, *studio.trust, "--report", "face.html")
    result = pd(*arguments, "--key", "auditor.key")
    assert result.code == 0
    page = Path("face.html").read_text()
    assert "<script" not in page
    assert "data:image/png;base64," in page
    document = open_report(Path("face.json").read_bytes(), VerifierKey.parse(vkey))
    assert document.verdict.word == "logged"
    again = pd(*arguments)
    assert again.code == 2
    assert "--force" in again.sentence()
    packed = ("pack", studio.picture(0), "--report", "face.json", *studio.trust, "--out", "case.zip")
    assert pd(*packed).code == 0


def test_pages_of_a_batch_go_into_a_folder(pd, studio, tmp_path: Path) -> None:
    images = (studio.picture(0), studio.picture(1))
    assert pd("verify", *images, "--ledger", studio.ledger, "--report", "face.html").code == 2
    assert pd("verify", *images, "--ledger", studio.ledger, "--report", "pages").code == 0
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == [
        "0.png.html", "0.png.json", "1.png.html", "1.png.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("--policy", "LEDGER/policy.txt"),
        ("--authors", "LEDGER/authors.txt"),
        ("--integrity", "perfect"),
        ("--claimed-date", "yesterday"),
        ("--accused", "nobody.example"),
        ("--models", "absent"),
        ("--policy", "absent", "--authors", "absent"),
        ("--ledger", "absent"),
        ("--evidence", "LEDGER/x.opening.json"),
        ("--ledger", "https://log.example", "--offline"),
        ("--ledger", "https://log.example/?query"),
    ],
)
def test_wrong_questions_are_wrong_usage(pd, studio, arguments: tuple[str, ...]) -> None:
    given = [text.replace("LEDGER", str(studio.ledger)) for text in arguments]
    ledger = [] if "--ledger" in arguments else ["--ledger", studio.ledger]
    result = pd("verify", studio.picture(0), *ledger, *given)
    assert result.code == 2, result.err
    assert result.out == ""
    assert result.sentence()


def test_attribute(pd, studio) -> None:
    """The picture is the generator's own: its latent is found, sample for sample."""
    result = pd("attribute", studio.picture(3), "--models", studio.model, "--threads", 2)
    assert result.code == 11
    lines = result.out.splitlines()
    assert lines[1].split()[0] == "blobs"
    assert lines[1].split()[5] == "yes"
    assert "attributed" in lines[-1]
    assert pd("attribute", studio.picture(3)).code == 2


def test_without_torch_the_evidence_alone_is_checked(pd, studio, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = studio.picture(1)
    assert pd("log", "prove", picture, "--ledger", studio.ledger).code == 0
    assert pd("log", "open", picture, "--ledger", studio.ledger).code == 0
    monkeypatch.setattr(sources, "has_attribution", lambda: False)
    result = pd("verify", picture, *studio.trust)
    assert result.code == 6
    assert "not replayed" in result.out
    assert "ok    inclusion" in result.err
    found = pd("verify", picture, *studio.trust, "--json").document()
    assert (found["format"], found["images"][0]["verdict"]) == ("plausible.evidence-checks/1", "claimed")
    assert pd("verify", picture).code == 2
    assert pd("verify", studio.picture(2), *studio.trust).code == 2
    assert pd("attribute", picture, "--models", studio.model).code == 4
    assert pd("replay", picture, "--ledger", studio.ledger).code == 4
    opening = picture.with_name("1.png.opening.json")
    shutil.copy(opening, picture.with_name("2.png.opening.json"))
    shutil.copy(picture.with_name("1.png.tlog-proof"), picture.with_name("2.png.tlog-proof"))
    assert pd("verify", studio.picture(2), *studio.trust).code == 3, "evidence of another picture proves nothing"
    proof = picture.with_name("1.png.tlog-proof")
    proof.write_bytes(proof.read_bytes()[:100])
    assert pd("verify", picture, *studio.trust).code == 4


def test_without_torch_nothing_of_it_is_loaded(studio, pd) -> None:
    import subprocess
    import sys

    picture = studio.picture(1)
    assert pd("log", "prove", picture, "--ledger", studio.ledger).code == 0
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['safetensors'] = None\n"
        "from plausible.cli import sources\n"
        "sources.has_attribution = lambda: False\n"
        "from plausible.cli.main import main\n"
        f"sys.exit(main({['verify', str(picture), *map(str, studio.trust)]!r}))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 6, answer.stderr


def test_what_a_file_chose_is_said(pd, studio, tmp_path: Path) -> None:
    """A folder of evidence with a plausible.toml in it must not decide unnoticed."""
    ledger = studio.ledger
    text = f'policy = "{ledger}/policy.txt"\nauthors = "{ledger}/authors.txt"\nledger = "{ledger}"\nmax_age = 60\n'
    (tmp_path / "plausible.toml").write_text(text)
    result = pd("verify", studio.picture(1))
    assert result.code == 0
    for name in ("policy", "authors", "ledger", "max_age"):
        assert f"{name} chosen by {tmp_path / 'plausible.toml'}" in result.err
    assert "chosen by" not in pd("verify", studio.picture(1), *studio.trust, "--ledger", ledger, "--max-age", 9).err


@pytest.mark.parametrize("kind", ["flat", "blank", "dim"])
def test_attribute_finds_no_evidence_in_a_blank_picture(pd, studio, tmp_path: Path, kind: str) -> None:
    """Any generator comes near such a picture, so none is inverted and none is named."""
    rng = np.random.default_rng(2)
    pixels = np.full((32, 32, 3), 90, np.uint8)
    if kind == "blank":
        pixels[14:18, 10:22] = 250
    if kind == "dim":
        pixels += rng.integers(0, 3, pixels.shape, dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "empty.png")
    result = pd("attribute", tmp_path / "empty.png", "--models", studio.model, "--json")
    assert result.code == 3
    report = result.document()
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["inversion"]["state"] == "skipped"
    assert "the picture is" in checks["inversion"]["reason"]
    assert report["candidates"] == []
