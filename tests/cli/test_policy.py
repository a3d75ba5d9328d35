"""`pd policy`: a person makes, reads and checks whom to believe; what is weak changes the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from plausible.cli import doctor
from plausible.cli.main import main
from plausible.ledger.absence.note import IndexPolicy
from plausible.ledger.entries.authors import Authors
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, SignerKey
from plausible.ledger.notes.policy import Policy

from tests.ledger.falselog import AUTHOR, INDEX, LOG, Chain, FalseLog

WITNESSES = [SignerKey(f"{one}.example/w", COSIGNATURE_ED25519, bytes([n] * 32)) for n, one in enumerate("xyz", 40)]
MIRROR = SignerKey("mirror.example/index", ED25519, bytes([50] * 32))


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("PD_POLICY", "PD_AUTHORS", "PD_INDEX_POLICY", "PD_LEDGER"):
        monkeypatch.delenv(name, raising=False)


def make(quorum: int = 2) -> int:
    words = [word for key in WITNESSES for word in ("--witness", f"{key.verifier} https://{key.name}")]
    log = ["--log", f"{LOG.verifier} https://log.example/a"]
    return main(["policy", "make", "court.policy", *log, *words, "--quorum", str(quorum)])


def test_made_shown_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make() == 0
    policy = Policy.parse(Path("court.policy").read_bytes())
    assert policy.logs[0].key == LOG.verifier and policy.witnesses[0].url == "https://x.example/w"
    assert "2 operators together can vouch for what is false" in capsys.readouterr().out
    assert make() == 2  # never over a file
    Path("keys.txt").write_text(f"# from the letterhead\n{AUTHOR.verifier}\n")
    assert main(["policy", "authors", "authors.txt", "keys.txt"]) == 0
    assert Authors.parse(Path("authors.txt").read_bytes()).authors[0].key == AUTHOR.verifier
    command = ["policy", "index", "index.policy", "--log", str(INDEX.verifier), "--signer", str(MIRROR.verifier)]
    assert main([*command, "--quorum", "1"]) == 0
    assert IndexPolicy.parse(Path("index.policy").read_bytes()).policy.quorum == "quorum"
    assert main(["policy", "show", "court.policy", "authors.txt", "index.policy"]) == 0
    out = capsys.readouterr().out
    assert "recomputed and signed it" in out and AUTHOR.name in out and "2 of these 3" in out
    check = ["policy", "check", "--policy", "court.policy", "--authors", "authors.txt"]
    check += ["--index-policy", "index.policy"]
    assert main(check) == 0 and main([*check, "--json"]) == 0
    capsys.readouterr()
    log = FalseLog(tmp_path / "log" / "public")
    log.grow(Chain().leaves(2), WITNESSES[0])
    assert main([*check, "--ledger", "log"]) == 5
    assert "quorum" in capsys.readouterr().out
    log.put("checkpoint", log.head(None, *WITNESSES[:2]))
    assert main([*check, "--ledger", "log"]) == 0
    assert "meets it now: 2 entries, cosigned by x, y" in capsys.readouterr().out


def test_one_key_in_two_roles_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    make()
    again = SignerKey("somebody.example/else", ED25519, LOG.seed)
    main(["policy", "authors", "authors.txt", str(again.verifier)])
    capsys.readouterr()
    assert main(["policy", "check", "--policy", "court.policy", "--authors", "authors.txt"]) == 5
    assert "serves as author and, as log.example/a, as log" in capsys.readouterr().out


def test_malformed_is_4_and_missing_is_5(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check"]) == 5
    out = capsys.readouterr().out
    assert "no policy" in out and "no authors" in out and "no index policy" in out
    Path("bad.policy").write_text("quorum nobody\n")
    assert main(["policy", "check", "--policy", "bad.policy"]) == 4
    assert main(["policy", "show", "bad.policy"]) == 4
    assert main(["policy", "make", "p", "--log", "nonsense", "--quorum", "0"]) == 4


def test_the_doctor_says_what_is_missing_in_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {f.detail: f.remedy for f in doctor.findings() if f.name == "trust"}
    assert any("no policy" in what and "pd policy make" in remedy for what, remedy in said.items())
    make(quorum=1)
    monkeypatch.setenv("PD_POLICY", "court.policy")
    said = {f.detail: f.remedy for f in doctor.findings() if f.name == "trust"}
    assert not any("no policy" in what for what in said)
    assert any("one operator alone" in what for what in said)
