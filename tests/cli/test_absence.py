"""`pd prove-absence` and `pd log index`: the exit code says what was proven, and to whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import PIL.Image
import pytest
from plausible.cli import sources
from plausible.ledger.absence.note import IndexHead
from plausible.ledger.absence.proof import AbsenceProof
from plausible.ledger.keys.keyfile import read_key
from plausible.ledger.notes.note import Note


@dataclass(frozen=True, slots=True)
class Court:
    """A studio's ledger with an index note that a monitor signed too, and what an auditor believes."""

    ledger: Path
    monitor: Path
    trust: tuple[object, ...]


@pytest.fixture
def court(pd, studio, tmp_path) -> Court:
    ledger, lines = studio.ledger, []
    for name, file in (("models.example/studio/log/index", "log.key"), ("monitor.example/index", "monitor.key")):
        made = pd("keys", "generate", name, "--role", "index", "--out", file)
        assert made.code == 0, made.err
        lines.append(str(read_key(tmp_path / file).verifier))
    (tmp_path / "index.policy").write_text(f"log {lines[0]}\nwitness monitor {lines[1]}\nquorum monitor\n")
    # the log signs, the monitor recomputes from what is served, the log adds the signature and serves both
    assert pd("log", "index", "--ledger", ledger, "--key", "log.key").code == 0
    assert pd("log", "index", "--ledger", ledger / "public", "--key", "monitor.key", "--out", "note").code == 4
    assert pd("log", "index", "--ledger", ledger, "--key", "monitor.key", "--out", "note").code == 0
    assert pd("log", "index", "--ledger", ledger, "--add", "note").code == 0
    PIL.Image.new("RGB", (5, 5), (9, 200, 31)).save(tmp_path / "never.png")
    trust = ("--policy", ledger / "policy.txt", "--index-policy", "index.policy")
    return Court(ledger, tmp_path / "monitor.key", trust)


def test_absence_is_proven_and_checked_offline(pd, court, tmp_path) -> None:
    made = pd("prove-absence", "never.png", "--ledger", court.ledger, *court.trust)
    assert made.code == 0, made.err
    assert "absent from the first 5 entries of models.example/studio/log, exactly as it is (proven)" in made.out
    checked = pd("prove-absence", "never.png", "--check", "never.png.absence-proof", *court.trust, "--json")
    document = checked.document()
    assert checked.code == document["exit_code"] == 0
    assert (document["format"], document["absent"], document["entries"]) == ("plausible.absence/1", True, [])
    assert (document["standing"], document["size"]) == ("proven", 5)
    assert pd("prove-absence", "never.png", "--ledger", court.ledger).code == 2  # the file is not overwritten


def test_a_logged_picture_is_shown_where_it_is(pd, court, studio) -> None:
    picture = studio.picture(2)
    made = pd("prove-absence", picture, "--ledger", court.ledger, *court.trust, "--out", "proof")
    assert made.code == 6
    assert "in models.example/studio/log, entry 3 (proven)" in made.out
    document = pd("prove-absence", picture, "--check", "proof", *court.trust, "--json").document()
    assert (document["exit_code"], document["absent"], document["entries"]) == (6, False, [3])


def test_without_policies_only_an_own_ledger_is_answered_with_0(pd, court, tmp_path) -> None:
    own = pd("prove-absence", "never.png", "--ledger", court.ledger, "--out", "a")
    assert own.code == 0
    assert "self-attested" in own.out
    (tmp_path / "copy").mkdir()
    (court.ledger / "public").rename(tmp_path / "copy/public")
    foreign = pd("prove-absence", "never.png", "--ledger", "copy", "--out", "b")
    assert foreign.code == 5
    assert "not vouched for" in foreign.out
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()  # the file is the same: trust is the reader's


def test_what_only_the_log_vouches_for(pd, court, tmp_path) -> None:
    log = next(line for line in (tmp_path / "index.policy").read_text().splitlines() if line.startswith("log "))
    (tmp_path / "alone.policy").write_text(f"{log}\nquorum none\n")
    note = Note.parse((court.ledger / "public/index/latest").read_bytes())
    alone = Note(note.text).add(*(s for s in note.signatures if s.name.startswith("models.example")))
    (court.ledger / "public/index/latest").write_bytes(alone.encode())
    trust = ("--policy", court.ledger / "policy.txt", "--index-policy", "alone.policy")
    made = pd("prove-absence", "never.png", "--ledger", court.ledger, *trust)
    assert made.code == 5
    assert "nobody else vouches" in made.out
    unmet = pd("prove-absence", "never.png", "--ledger", court.ledger, *court.trust, "--out", "again")
    assert unmet.code == 5
    assert "quorum of the index policy" in unmet.sentence()


def test_false_malformed_and_foreign_proofs_have_three_outcomes(pd, court, studio, tmp_path) -> None:
    assert pd("prove-absence", "never.png", "--ledger", court.ledger).code == 0
    path = tmp_path / "never.png.absence-proof"
    good = path.read_bytes()

    def check(data: bytes, image: object = "never.png") -> int:
        path.write_bytes(data)
        result = pd("prove-absence", image, "--check", path, *court.trust, "--json")
        if result.code == 1:
            assert result.document()["absent"] is None
        return result.code

    assert check(good) == 0
    at = len(good) - len(AbsenceProof.parse(good).checkpoint) - 4 - len(AbsenceProof.parse(good).note) - 5
    assert check(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]) == 1  # a sibling
    assert check(good[:-200]) == 4
    assert check(good, studio.picture(0)) == 4
    assert pd("prove-absence", "never.png", "--check", path).code == 2  # whom to believe was not said


def test_nobody_signs_beside_a_false_root(pd, court) -> None:
    """A log serves a root that leaves an entry out: whoever recomputes it says so and does not sign."""
    head = IndexHead.parse(Note.parse((court.ledger / "public/index/latest").read_bytes()).text)
    false = IndexHead(head.origin, head.size, head.root, bytes(32)).sign(read_key(court.monitor))
    (court.ledger / "public/index/latest").write_bytes(false.encode())
    signing = pd("log", "index", "--ledger", court.ledger, "--key", court.monitor, "--out", "x")
    assert signing.code == 4
    assert "names a root that its entries do not give" in signing.sentence()
    assert pd("prove-absence", "never.png", "--ledger", court.ledger).code == 4


def test_the_log_s_own_key_reads_only_what_came_since(pd, court) -> None:
    """absence.db is kept for it; what is wrong with the file is said, and it is made again."""
    again = ("log", "index", "--ledger", court.ledger, "--key", "log.key")
    served = (court.ledger / "public/index/latest").read_bytes()
    (court.ledger / "absence.db").write_bytes(b"no database, and long enough to be read as one" * 100)
    result = pd(*again)
    assert result.code == 0
    assert "not a database" in result.err
    assert "not a database" not in pd(*again).err
    assert pd(*again, "--anew").code == 0
    note = Note.parse((court.ledger / "public/index/latest").read_bytes())
    assert {line.name for line in note.signatures} == {line.name for line in Note.parse(served).signatures}


def test_keys_and_notes_that_are_missing(pd, studio) -> None:
    assert pd("keys", "generate", "monitor.example", "--role", "index", "--out", "k").code == 2
    result = pd("prove-absence", studio.picture(0), "--ledger", studio.ledger)
    assert result.code == 4
    assert "pd log index" in result.sentence()
    assert pd("log", "index", "--ledger", studio.ledger).code == 2  # recomputed, and nobody signs


def test_without_torch_proofs_of_absence_are_checked(pd, court, studio, tmp_path, monkeypatch) -> None:
    """An auditor with nothing but the base install reads what a log proves, and what is false about it."""
    assert pd("prove-absence", "never.png", "--ledger", court.ledger, *court.trust).code == 0
    monkeypatch.setattr(sources, "has_attribution", lambda: False)
    trust = (*studio.trust, "--index-policy", "index.policy")

    def check(*arguments: object) -> tuple[int, dict[str, str]]:
        document = pd("verify", "never.png", *arguments, "--json").document()
        assert document["images"][0]["evidence"] == []
        [absence] = document["images"][0]["absence"]
        return document["images"][0]["exit_code"], absence

    code, found = check(*trust)  # nothing was inverted: absence alone denies nothing
    assert (code, found["outcome"]) == (3, "made")
    assert "whose root monitor recomputed" in found["detail"]
    code, found = check(*studio.trust)
    assert (code, found["outcome"]) == (3, "skipped")
    path = tmp_path / "never.png.absence-proof"
    good = path.read_bytes()
    at = len(good) - len(AbsenceProof.parse(good).checkpoint) - 4 - len(AbsenceProof.parse(good).note) - 5
    path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    code, found = check(*trust)
    assert (code, found["outcome"]) == (1, "failed")
    path.write_bytes(good[:-200])
    assert check(*trust)[0] == 4
