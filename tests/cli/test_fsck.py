"""`pd fsck`: findings in a table and as JSON, and an exit code that tells false from could-not-look."""

from __future__ import annotations

import shutil


def test_a_sound_ledger(pd, studio) -> None:
    result = pd("fsck", studio.ledger, "--cross-check")
    assert result.code == 0, result.out
    assert "sound" in result.out
    assert "checked: " in result.err
    document = pd("fsck", studio.ledger, "--json").document()
    assert (document["format"], document["sound"], document["size"]) == ("plausible.fsck/1", True, 5)


def test_a_changed_entry_is_named(pd, studio) -> None:
    path = studio.ledger / "public/tile/entries/000.p/5"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    result = pd("fsck", studio.ledger)
    assert result.code == 1
    assert "tile/entries/000.p/5" in result.out
    [finding] = pd("fsck", studio.ledger, "--json").document()["findings"]
    assert (finding["kind"], finding["file"], finding["index"]) == ("false", "tile/entries/000.p/5", 0)
    assert finding["remedy"]


def test_a_missing_file_is_another_exit_code(pd, studio) -> None:
    (studio.ledger / "public/tile/entries/000.p/5").unlink()
    assert pd("fsck", studio.ledger).code == 4


def test_a_copy_of_public_under_a_policy(pd, studio, tmp_path) -> None:
    shutil.copytree(studio.ledger / "public", tmp_path / "copy")
    assert pd("fsck", "copy", "--policy", studio.ledger / "policy.txt").code == 0
    without = pd("fsck", "copy")
    assert without.code == 0
    assert "skipped: signatures" in without.err


def test_a_policy_that_is_not_met(pd, studio, tmp_path) -> None:
    text = (studio.ledger / "policy.txt").read_text()
    (tmp_path / "other.policy").write_text(text.replace("group witnesses 2", "group witnesses 3"))
    note = (studio.ledger / "public/checkpoint").read_bytes()
    kept = b"".join(line + b"\n" for line in note.split(b"\n")[:-2])
    (studio.ledger / "public/checkpoint").write_bytes(kept)
    shutil.copytree(studio.ledger / "public", tmp_path / "copy")
    assert pd("fsck", "copy", "--policy", "other.policy").code == 5


def test_what_is_no_log(pd, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    result = pd("fsck", "empty")
    assert result.code == 4
    assert "empty" in result.sentence()
    assert pd("fsck").code == 2
