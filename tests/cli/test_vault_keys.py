"""`pd init --vault-...` and `pd vault encrypt|rotate|status|backup|restore`: what a person types, and what is said."""

from __future__ import annotations

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
