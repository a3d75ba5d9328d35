"""The frame of `pd`: exit codes, one sentence for every failure, a traceback only in a file, streams kept apart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from plausible.cli import doctor, main, output
from plausible.schemas.errors import (
    EvidenceError,
    PeerError,
    PlausibleError,
    PolicyError,
    SetupError,
    UsageError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no"), 2),
        (EvidenceError("no"), 4),
        (PeerError("no"), 4),
        (SetupError("no"), 4),
        (PlausibleError("no"), 4),
        (PolicyError("no"), 5),
        (OSError(28, "No space left on device", "studio.ledger/state.db"), 4),
        (MemoryError(), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_failure_is_one_sentence_and_its_code(pd, monkeypatch, error: BaseException, code: int) -> None:
    def fail() -> list[doctor.Finding]:
        raise error

    monkeypatch.setattr(doctor, "findings", fail)
    result = pd("doctor")
    assert result.code == code
    assert result.out == ""
    assert result.sentence()
    if isinstance(error, OSError):
        assert "studio.ledger/state.db: No space left on device" in result.err


def test_a_bug_is_seventy_and_its_traceback_is_in_a_file(pd, monkeypatch) -> None:
    def fail() -> list[doctor.Finding]:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(doctor, "findings", fail)
    result = pd("doctor")
    assert result.code == 70
    path = Path(result.sentence().rpartition(" is in ")[2])
    assert "secret detail" not in result.err
    text = path.read_text()
    assert "ZeroDivisionError: secret detail" in text
    assert "plausible-deniability" in text
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["confi"], "Did you mean 'config'"),
        (["config", "--jsn"], "--json"),
        (["node", "srve"], "Did you mean 'serve'"),
        (["node", "serve", "x", "--port", "many"], "integer"),
        (["node", "serve", "x", "--port", "70000"], "--port"),
        (["node", "serve"], "DIR"),
    ],
)
def test_wrong_usage_is_two_and_says_what(pd, arguments: list[str], said: str) -> None:
    result = pd(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert said in result.err
    assert "--help" in result.sentence()


@pytest.mark.parametrize("arguments", [[], ["node"]])
def test_a_group_alone_shows_its_help(pd, arguments: list[str]) -> None:
    result = pd(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("Usage: pd")


def test_help_and_version_go_to_stdout(pd) -> None:
    assert pd("--help").out.startswith("Usage: pd")
    assert pd("--version").out.startswith("plausible-deniability ")


def test_python_m_is_the_same_program() -> None:
    arguments = [sys.executable, "-m", "plausible.cli", "config"]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("setting")
    assert answer.stderr == ""


def test_a_reader_that_goes_away_is_no_failure() -> None:
    """`pd ... | head -0`: neither a traceback nor Python's complaint at exit."""
    process = subprocess.Popen(
        [sys.executable, "-m", "plausible.cli", "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert said == b""


def test_ctrl_c_ends_with_130(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    # a suite started in the background ignores SIGINT, and so would its children, unless it is handled here
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "plausible.cli", "node", "serve", str(tmp_path / "public"), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stderr is not None
    assert "serving" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "interrupted" in err


# --- files and text --------------------------------------------------------------------------------------------------


def test_a_file_is_not_overwritten_without_force(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    output.write_file(path, b"one", force=False)
    with pytest.raises(UsageError, match="--force"):
        output.write_file(path, b"two", force=False)
    assert path.read_bytes() == b"one"
    output.write_file(path, b"two", force=True)
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_who_creates_the_file_meanwhile_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    flush = os.fsync

    def meanwhile(handle: int) -> None:
        path.write_bytes(b"theirs")
        flush(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    with pytest.raises(UsageError, match="exists"):
        output.write_file(path, b"ours", force=False)
    assert path.read_bytes() == b"theirs"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SetupError, match="No space left"):
        output.write_file(path, b"new", force=True)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SetupError, match="cannot write"):
        output.write_file(tmp_path / "file" / "report.html", b"new", force=False)


def test_text_of_others_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.result("logged\x1b[2K\rrefuted \u202egnp.egami \x9b1m")
    assert capsys.readouterr().out == "logged\\x1b[2K\\x0drefuted \\x202egnp.egami \\x9b1m\n"
    output.table(("name",), [("a\x1b[31m",)])
    assert "\x1b" not in capsys.readouterr().out


def test_no_bar_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("faces", 2) as advance:
        advance()
        advance(1, "second")
    assert capsys.readouterr() == ("", "")


def test_every_known_error_has_a_code() -> None:
    assert {main.exit_code(kind("")) for kind in PlausibleError.__subclasses__()} == {2, 4, 5}
