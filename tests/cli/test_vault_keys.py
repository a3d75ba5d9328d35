"""`pd init --vault-...` and `pd vault encrypt|rotate|status|backup|restore`: what a person types, and what is said."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import sys
import termios
from pathlib import Path

import pytest


def status(pd, ledger: Path) -> dict[str, object]:
    return pd("vault", "status", "--ledger", ledger, "--json").document()


def test_a_ledger_with_a_key_file(pd, monkeypatch, tmp_path: Path) -> None:
    made = pd("init", "a.ledger", "--author", "models.example/studio", "--vault-key", "keys/a.vault")
    assert made.code == 0
    assert "keep a copy apart" in made.err
    assert "vault     encrypted" in made.out
    locked = pd("vault", "list", "--ledger", "a.ledger")
    assert locked.code == 4
    assert "is encrypted and no key was given" in locked.sentence()
    monkeypatch.setenv("PD_VAULT_KEY", str(tmp_path / "keys/a.vault"))
    assert "serves no checkpoint" in pd("vault", "list", "--ledger", "a.ledger").sentence(), "it opened, and is empty"
    assert status(pd, Path("a.ledger"))["kdf"] == {"name": "file"}


def test_a_ledger_with_a_passphrase(pd, monkeypatch) -> None:
    words = ("init", "a.ledger", "--author", "models.example/studio", "--vault-passphrase")
    assert "PD_VAULT_PASSPHRASE" in pd(*words).sentence()
    monkeypatch.setenv("PD_VAULT_PASSPHRASE", "short")
    assert pd(*words).code == 2
    monkeypatch.setenv("PD_VAULT_PASSPHRASE", "long enough to be one")
    assert pd(*words).code == 0
    assert "serves no checkpoint" in pd("vault", "list", "--ledger", "a.ledger").sentence(), "it opened, and is empty"
    monkeypatch.setenv("PD_VAULT_PASSPHRASE", "long enough to be another")
    wrong = pd("vault", "list", "--ledger", "a.ledger")
    assert wrong.code == 4
    assert "the passphrase is wrong" in wrong.sentence()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--vault-key", "k", "--vault-passphrase"), "not with both"),
        (("--vault-key", "a.ledger/k"), "own folder"),
    ],
)
def test_init_refuses(pd, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    refused = pd("init", "a.ledger", "--author", "models.example/studio", *words)
    assert refused.code == 2
    assert said in refused.sentence()
    assert not list(tmp_path.iterdir())


def test_encrypt_rotate_and_read(pd, studio, monkeypatch) -> None:
    ledger = studio.ledger
    assert status(pd, ledger)["encrypted"] is False
    assert pd("vault", "encrypt", "--ledger", ledger).code == 2
    assert pd("vault", "rotate", "--ledger", ledger, "--data-key").code == 2
    assert pd("vault", "encrypt", "--ledger", ledger, "--vault-key", "one").code == 0
    assert pd("vault", "rotate", "--ledger", ledger, "--data-key").code == 4, "the key is missing"
    monkeypatch.setenv("PD_VAULT_KEY", "one")
    assert pd("vault", "rotate", "--ledger", ledger).code == 2
    rotated = pd("vault", "rotate", "--ledger", ledger, "--data-key", "--new-vault-key", "two")
    assert rotated.code == 0
    assert "the data key" in rotated.err
    assert "the key is wrong" in pd("vault", "list", "--ledger", ledger).sentence()
    monkeypatch.setenv("PD_VAULT_KEY", "two")
    assert len(pd("vault", "list", "--ledger", ledger, "--json").document()["records"]) == 4
    found = status(pd, ledger)
    assert (found["encrypted"], found["complete"], found["data_keys"], found["left"]) == (True, True, 1, 0)
    # a picture is still replayed from its record
    assert pd("verify", studio.picture(1), "--ledger", ledger, *studio.trust).code == 0


def test_backup_and_restore(pd, studio) -> None:
    ledger = studio.ledger
    made = pd("vault", "backup", "v.backup", "--ledger", ledger)
    assert made.code == 0
    assert "4 records, in the clear" in made.err
    assert pd("vault", "backup", "v.backup", "--ledger", ledger).code == 2
    for file in ledger.glob("vault.db*"):
        file.unlink()
    assert pd("vault", "list", "--ledger", ledger).code == 4
    assert pd("vault", "restore", "v.backup", "--ledger", ledger).code == 0
    assert len(pd("vault", "list", "--ledger", ledger, "--json").document()["records"]) == 4
    Path("v.backup").write_bytes(b"something else")
    refused = pd("vault", "restore", "v.backup", "--ledger", ledger)
    assert refused.code == 4
    assert "no backup of a vault" in refused.sentence()


def typed(arguments: list[str], answers: list[str], folder: Path) -> tuple[int, str]:
    """`pd` on a terminal of its own, each question answered: (exit code, all that the terminal showed)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, "-m", "plausible.cli", *arguments])
    shown = b""
    try:
        for answer in answers:
            asked = b""
            while not asked.endswith(b": "):
                assert select.select([terminal], [], [], 60)[0], asked
                asked += os.read(terminal, 1024)
            shown += asked
            # getpass turns the echo off before it asks
            assert not termios.tcgetattr(terminal)[3] & termios.ECHO
            os.write(terminal, answer.encode() + b"\n")
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(terminal, 1024):
                shown += data
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


@pytest.mark.skipif(not hasattr(os, "forkpty"), reason="no pseudo-terminals here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_passphrase_is_asked_for_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entry for entry in sys.path if entry))
    init = ["init", "a.ledger", "--author", "models.example/studio", "--vault-passphrase"]
    code, shown = typed(init, ["long enough to be one", "long enough to be two"], tmp_path)
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "the two passphrases differ" in shown
    code, shown = typed(init, ["long enough to be one"] * 2, tmp_path)
    assert code == 0, shown
    assert "long enough" not in shown
    code, shown = typed(["vault", "list", "--ledger", "a.ledger"], ["long enough to be two"], tmp_path)
    assert code == 4
    assert "the passphrase is wrong" in shown and "long enough" not in shown
    code, shown = typed(["fsck", "a.ledger"], ["long enough to be one"], tmp_path)
    assert code == 0 and ": sound" in shown, shown


def test_fsck_without_the_key(pd, studio, monkeypatch) -> None:
    assert pd("vault", "encrypt", "--ledger", studio.ledger, "--vault-key", "k").code == 0
    refused = pd("fsck", studio.ledger, "--json")
    assert refused.code == 4
    found = refused.document()
    assert found["sound"] is False
    assert "were not read" in found["findings"][0]["what"]
    monkeypatch.setenv("PD_VAULT_KEY", "k")
    assert pd("fsck", studio.ledger).code == 0
    Path("k").chmod(0o640)
    refused = pd("fsck", studio.ledger)
    assert refused.code == 4
    assert "is open to others (mode 0640): chmod 600 it" in refused.sentence()
