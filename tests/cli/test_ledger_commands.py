"""`pd init|models|log|vault|keys` on a real ledger, near and over HTTP, and on damaged ones."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.policy import Policy
from plausible.ledger.notes.proof import TlogProof, verify_proof

from tests.ledger.keys import needs_ml_dsa


def test_init_says_what_to_give_and_what_to_serve(pd, tmp_path: Path) -> None:
    names = ("--witness", "a.example", "--witness", "b.example")
    found = pd("init", "new.ledger", "--author", "models.example/x", *names, "--json").document()
    assert found["origin"] == "models.example/x/log"
    assert Path(found["policy"]).is_file()
    assert found["author"] in Path(found["authors"]).read_text()
    assert (tmp_path / "new.ledger" / "keys" / "author.key").stat().st_mode & 0o077 == 0
    assert pd("log", "list", "--ledger", "new.ledger").code == 0


def test_init_touches_nothing_that_is_there(pd, tmp_path: Path) -> None:
    (tmp_path / "new.ledger").mkdir()
    (tmp_path / "new.ledger" / "mine").write_text("mine")
    assert pd("init", "new.ledger", "--author", "models.example/x").code == 2
    assert [path.name for path in (tmp_path / "new.ledger").iterdir()] == ["mine"]
    assert [path.name for path in tmp_path.iterdir()] == ["new.ledger"]


@pytest.mark.parametrize(
    "arguments", [["--author", "two words"], ["--author", ""], ["--author", "a.example", "--quorum", "2"], []]
)
def test_init_refuses_what_cannot_be(pd, tmp_path: Path, arguments: list[str]) -> None:
    result = pd("init", "new.ledger", *arguments)
    assert result.code == 2
    assert result.sentence()
    assert not (tmp_path / "new.ledger").exists()


def test_models(pd, studio) -> None:
    rows = pd("models", "list", "--ledger", studio.ledger, "--json").document()["models"]
    assert [(row["name"], row["index"], row["weights"]) for row in rows] == [("blobs", 0, True)]
    shown = pd("models", "show", "blobs", "--ledger", studio.ledger).document()
    assert shown["manifest"]["architecture"] == "example-blobs"
    result = pd("models", "verify", "--ledger", studio.ledger)
    assert result.code == 0
    assert result.out == f"blobs {rows[0]['digest']} ok\n"
    again = pd("models", "add", studio.model, "--name", "blobs", "--ledger", studio.ledger)
    assert (again.code, again.out) == (0, f"blobs {rows[0]['digest']} entry 0\n")
    other = pd("models", "add", studio.model, "--name", "again", "--ledger", studio.ledger)
    assert (other.code, other.out) == (0, f"again {rows[0]['digest']} entry 5\n")


def test_log_list_and_show(pd, studio) -> None:
    listed = pd("log", "list", "--ledger", studio.ledger, *studio.trust[:2], "--json")
    assert listed.err == ""
    body = listed.document()
    assert (body["format"], body["size"]) == ("plausible.log-list/1", 5)
    assert [row["index"] for row in body["entries"]] == [0, 1, 2, 3, 4]
    assert [row["statement"]["predicateType"][14:] for row in body["entries"]] == ["model:v1"] + 4 * ["generation:v1"]
    part = pd("log", "list", "--ledger", studio.ledger, "--from", 3, "--limit", 1, "--json").document()
    assert part["entries"] == body["entries"][3:4]
    assert pd("log", "show", 3, "--ledger", studio.ledger).document() == {
        "format": "plausible.log-entry/1",
        **body["entries"][3],
    }
    assert pd("log", "show", 5, "--ledger", studio.ledger).code == 2
    assert "models.example/studio" in pd("log", "list", "--ledger", studio.ledger).out


def test_log_over_http_is_the_same(pd, studio, serve) -> None:
    near = pd("log", "list", "--ledger", studio.ledger, *studio.trust[:2], "--json").document()
    with serve(studio.ledger) as address:
        assert pd("log", "list", "--ledger", address, *studio.trust[:2], "--json").document() == near
        assert pd("log", "checkpoint", "--ledger", address).out == (studio.ledger / "public/checkpoint").read_text()
        assert pd("vault", "list", "--ledger", address).code == 2
        assert pd("log", "list", "--ledger", address + "/nothing").code == 4


def test_a_checkpoint_is_held_against_the_policy(pd, studio, tmp_path: Path) -> None:
    found = pd("log", "checkpoint", "--ledger", studio.ledger, *studio.trust[:2], "--json").document()
    assert found["policy"] == "met"
    assert len(found["cosigners"]) >= 2
    lines = (studio.ledger / "policy.txt").read_text().splitlines()
    alone = "\n".join([line for line in lines if line.startswith("log ")] + ["quorum none"]) + "\n"
    stranger = alone.replace("models.example/studio/log+", "other.example/log+")
    (tmp_path / "bad.policy").write_text(stranger)
    assert pd("log", "checkpoint", "--ledger", studio.ledger, "--policy", "bad.policy").code == 4
    generated = pd("keys", "generate", "strict.example", "--role", "witness", "--out", "w.key").out.strip()
    (tmp_path / "hard.policy").write_text(alone.replace("quorum none", f"witness w {generated}\nquorum w"))
    result = pd("log", "checkpoint", "--ledger", studio.ledger, "--policy", "hard.policy")
    assert result.code == 5
    assert "quorum" in result.sentence()


def test_proof_and_opening_beside_the_picture(pd, studio) -> None:
    picture = studio.picture(2)
    assert pd("log", "prove", picture, "--ledger", studio.ledger).code == 0
    proof = TlogProof.parse(picture.with_name("2.png.tlog-proof").read_bytes())
    policy = Policy.parse((studio.ledger / "policy.txt").read_bytes())
    assert proof.extra is not None
    assert verify_proof(proof, hash_leaf(proof.extra), policy).size == 5
    assert proof.index == 3
    assert pd("log", "open", picture, "--ledger", studio.ledger, "--field", "latent").code == 0
    opening = json.loads(picture.with_name("2.png.opening.json").read_bytes())
    assert opening["format"] == "plausible.opening/1"
    assert "call" not in json.dumps(opening)
    result = pd("log", "prove", picture, "--ledger", studio.ledger)
    assert result.code == 2
    assert "--force" in result.sentence()
    assert pd("log", "prove", 3, "--ledger", studio.ledger).out.startswith("c2sp.org/tlog-proof@v1\n")


def test_what_is_not_in_the_log(pd, studio, tmp_path: Path) -> None:
    import PIL.Image

    PIL.Image.new("RGB", (32, 32), (9, 9, 9)).save(tmp_path / "other.png")
    result = pd("log", "prove", "other.png", "--ledger", studio.ledger)
    assert result.code == 2
    assert "in no entry" in result.sentence()
    assert pd("log", "prove", 99, "--ledger", studio.ledger).code == 2
    assert pd("log", "open", 0, "--ledger", studio.ledger).code == 2
    assert pd("log", "open", 3, "--ledger", studio.ledger, "--field", "soul").code == 2


def test_vault(pd, studio) -> None:
    rows = pd("vault", "list", "--ledger", studio.ledger, "--json").document()["records"]
    assert [(row["index"], row["model"]) for row in rows] == [(1, "blobs"), (2, "blobs"), (3, "blobs"), (4, "blobs")]
    record = pd("vault", "show", studio.picture(1), "--ledger", studio.ledger).document()
    assert record["index"] == 2
    assert record["record"]["latent"]["grade"] == "committed-fresh"
    refused = pd("vault", "erase", 2, "--ledger", studio.ledger)
    assert refused.code == 2
    assert "--yes" in refused.sentence()
    assert pd("vault", "erase", 2, "--ledger", studio.ledger, "--yes").code == 0
    assert pd("vault", "show", 2, "--ledger", studio.ledger).code == 2
    assert pd("log", "open", 2, "--ledger", studio.ledger).code == 2
    assert pd("log", "prove", studio.picture(1), "--ledger", studio.ledger).code == 0
    assert len(pd("vault", "list", "--ledger", studio.ledger, "--json").document()["records"]) == 3


def test_keys(pd, tmp_path: Path) -> None:
    made = pd("keys", "generate", "auditor.example", "--out", "auditor.key")
    assert made.code == 0
    assert made.out.startswith("auditor.example+")
    assert (tmp_path / "auditor.key").stat().st_mode & 0o077 == 0
    assert pd("keys", "show", "auditor.key").out == made.out
    assert pd("keys", "show", "auditor.key", "--json").document()["keys"][0]["type"] == "0x01"
    before = (tmp_path / "auditor.key").read_bytes()
    assert pd("keys", "generate", "auditor.example", "--out", "auditor.key").code == 2
    assert (tmp_path / "auditor.key").read_bytes() == before
    assert pd("keys", "generate", "a b", "--out", "b.key").code in (2, 4)
    assert pd("keys", "generate", "w.example", "--role", "witness", "--ml-dsa", "--out", "w.key").code == 0
    assert pd("keys", "generate", "a.example", "--ml-dsa", "--out", "c.key").code == 2
    (tmp_path / "auditor.key").chmod(0o644)
    result = pd("keys", "show", "auditor.key")
    assert result.code == 4
    assert "chmod 600" in result.sentence()


# --- ledgers that are not well ----------------------------------------------------------------------------------------


def test_no_ledger_named(pd) -> None:
    result = pd("log", "list")
    assert result.code == 2
    assert "--ledger" in result.sentence()


@pytest.mark.parametrize("command", [("log", "list"), ("models", "list"), ("vault", "list"), ("log", "prove", 1)])
def test_a_folder_that_is_no_ledger(pd, tmp_path: Path, command: tuple[object, ...]) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent"):
        result = pd(*command, "--ledger", name)
        assert result.code == 4
        assert name in result.sentence()
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_ledger_of_a_newer_version(pd, studio) -> None:
    config = studio.ledger / "log.toml"
    config.write_text(config.read_text().replace("version = 1", "version = 2"))
    result = pd("models", "list", "--ledger", studio.ledger)
    assert result.code == 4
    assert "newer" in result.sentence()


@pytest.mark.parametrize("name", ["vault.db", "state.db"])
def test_a_database_of_a_newer_version(pd, studio, name: str) -> None:
    with sqlite3.connect(studio.ledger / name) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    result = pd("vault", "list", "--ledger", studio.ledger)
    assert result.code == 4
    assert result.sentence()


def test_a_missing_vault(pd, studio) -> None:
    for path in studio.ledger.glob("vault.db*"):
        path.unlink()
    result = pd("vault", "list", "--ledger", studio.ledger)
    assert result.code == 4
    assert "vault.db" in result.sentence()
    assert not (studio.ledger / "vault.db").exists(), "an emptied vault would hide that records are gone"


@pytest.mark.parametrize("name", ["state.db", "vault.db", "log.toml", "policy.txt", "authors.txt"])
def test_a_file_that_is_garbage(pd, studio, name: str) -> None:
    for path in studio.ledger.glob(f"{name}-*"):
        path.unlink()
    (studio.ledger / name).write_bytes(b"\x00garbage\xff" * 1000)
    result = pd("vault", "list", "--ledger", studio.ledger)
    assert result.code == 4
    assert result.sentence()
    assert (studio.ledger / name).read_bytes() == b"\x00garbage\xff" * 1000


def test_an_edited_entry_is_noticed(pd, studio) -> None:
    bundle = next((studio.ledger / "public/tile/entries").glob("000.p/*"))
    for path in bundle.parent.iterdir():
        data = bytearray(path.read_bytes())
        data[40] ^= 1
        path.write_bytes(data)
    result = pd("log", "list", "--ledger", studio.ledger)
    assert result.code == 4
    assert "hash" in result.sentence()


def test_a_log_whose_tiles_are_another_tree(pd, studio) -> None:
    for path in (studio.ledger / "public/tile/0/000.p").iterdir():
        path.write_bytes(path.read_bytes()[32:] + path.read_bytes()[:32])
    result = pd("log", "list", "--ledger", studio.ledger)
    assert result.code == 4
    assert "root" in result.sentence()


def test_tiles_that_are_gone(pd, studio) -> None:
    shutil.rmtree(studio.ledger / "public" / "tile")
    assert pd("log", "list", "--ledger", studio.ledger).code == 4


@needs_ml_dsa
def test_witnesses_with_post_quantum_keys(pd) -> None:
    made = pd("init", "a.ledger", "--author", "models.example/a", "--witness", "a.example", "--witness-keys", "both")
    assert made.code == 0
    lines = Path("a.ledger/policy.txt").read_text().splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["witness", "w1-ed25519"], ["witness", "w1-ml-dsa-44"], ["group", "w1"],
    ]  # fmt: skip
    assert pd("fsck", "a.ledger").code == 0
    assert pd("init", "b.ledger", "--author", "models.example/b", "--witness-keys", "rsa").code == 2


# --- author keys ------------------------------------------------------------------------------------------------------


def test_author_keys_follow_each_other(pd, studio) -> None:
    where = ("--ledger", studio.ledger)
    old = pd("keys", "show", studio.ledger / "keys/author.key").out.strip()
    assert pd("keys", "generate", "models.example/studio", "--role", "author", "--out", "spare.key").code == 0
    spare = pd("keys", "show", "spare.key").out.strip()
    assert pd("keys", "successor", spare, *where).out == f"named     {spare}\n"
    made = pd("keys", "rotate", "--key", "spare.key", *where)
    assert made.out == f"author {spare}\n"
    again = pd("keys", "rotate", *where, "--json").document()
    assert (again["before"], again["index"]) == (spare, 7)
    # the key in use cannot be revoked, a former one once
    assert pd("keys", "revoke", again["author"], *where).code == 2
    revoked = pd("keys", "revoke", old, *where)
    assert revoked.out == f"author {old} models.example/studio/log 8\n"
    assert revoked.out in (studio.ledger / "authors.txt").read_text()
    assert "already" in pd("keys", "revoke", old, *where).sentence()
    assert pd("keys", "revoke", "x+y+z", *where).code == 2
    found = pd("keys", "history", *where, "--json").document()
    assert found["revoked"] == [{"first_refused": 8, "key": old}]
    assert [(row["index"], row["key"], row["successor"]) for row in found["successors"]] == [
        (5, old, spare), (7, spare, again["author"]),
    ]  # fmt: skip
    assert "counts no more" in pd("keys", "history", "--ledger", studio.ledger).out
    assert pd("fsck", studio.ledger).code == 0


def test_verification_holds_the_logs_own_revocations_against_its_entries(pd, studio) -> None:
    """An auditor who pinned the old key without any revocation learns of it from the log, near or as served."""
    from plausible.attribution.logs.sources import open_logs
    from plausible.ledger.entries.authors import Authors

    old = pd("keys", "show", studio.ledger / "keys/author.key").out.strip()
    pinned = Authors.parse(f"author {old}\n")
    policy = Policy.parse((studio.ledger / "policy.txt").read_bytes())
    origin = "models.example/studio/log"

    def said(place: Path) -> str:
        [source], _ = open_logs([place], policy, pinned)
        if source.ledger is None:
            assert source.scan() is not None
        assert source.authors is not None
        if source.opened and source.ledger is not None:
            source.ledger.close()
        return source.authors.revocation(old, origin)

    assert said(studio.ledger / "public") == f"none in the first 5 entries of {origin}"
    assert said(studio.ledger) == "not checked", "an index that is not the auditor's own may leave entries out"
    assert pd("keys", "rotate", "--ledger", studio.ledger).code == 0
    assert pd("keys", "revoke", old, "--ledger", studio.ledger).code == 0
    assert said(studio.ledger / "public") == said(studio.ledger) == f"revoked: {origin} from index 6"
    # what the key signed before stays good
    (studio.folder / "pinned").write_text(f"author {old}\n")
    trust = ("--policy", studio.ledger / "policy.txt", "--authors", studio.folder / "pinned")
    result = pd("verify", studio.picture(0), "--ledger", studio.ledger, *trust)
    assert result.code == 0, result.err
    assert "from index 6" in result.err


# --- seed epochs ------------------------------------------------------------------------------------------------------


def test_an_epoch_from_the_command_to_the_verdict(pd, studio) -> None:
    import PIL.Image
    from plausible.ledger import Ledger

    from tests.cli.conftest import own_generator

    made = pd("log", "epoch", "--count", "3", "--ledger", studio.ledger, "--json").document()["epochs"]
    assert [(row["index"], row["count"], row["left"]) for row in made] == [(5, 3, 3)]
    model = own_generator().make_model(studio.folder / "again")
    with Ledger.open(studio.ledger) as ledger:
        generate = ledger.wrap(model.sample, model="blobs", latent=(8,), epoch=True)
        [pixels] = generate(1).numpy()
        ledger.flush()
    picture = studio.folder / "drawn.png"
    PIL.Image.fromarray(pixels).save(picture)
    assert pd("log", "epoch", "--list", "--ledger", studio.ledger).out.splitlines()[1].split()[:3] == [
        "5",
        str(made[0]["first_draw"]),
        "3",
    ]
    where = ("--ledger", studio.ledger)
    assert pd("log", "prove", picture, *where).code == 0
    assert pd("log", "open", picture, *where).code == 0
    assert (studio.folder / "drawn.png.epoch-proof").is_file()
    # the verifier's own ledger, and offline with the files beside the picture
    near = pd("verify", picture, *where)
    assert near.code == 0, near.err
    assert "seed 0 of 3 fixed by entry 5: a choice of at most 1.6 bits" in near.err
    far = pd("verify", picture, *studio.trust, "--models", studio.model)
    assert "earlier epochs of the chain: not checked" in far.err
    (studio.folder / "drawn.png.epoch-proof").unlink()
    assert "the epoch's own entry is not at hand" in pd("verify", picture, *studio.trust, "--models", studio.model).err
    assert pd("fsck", studio.ledger).code == 0


# --- the log's key, and its successor ---------------------------------------------------------------------------------


def test_the_log_s_key_is_changed_in_two_steps(pd, studio) -> None:
    where = ("--ledger", studio.ledger)
    old_policy = (studio.ledger / "policy.txt").read_text()
    lines = pd("keys", "rotate-log", *where).out.splitlines()
    assert len(lines) == 2
    assert old_policy.startswith(lines[0] + "\n")
    found = pd("keys", "rotate-log", "--finish", *where, "--json").document()
    assert [f"log {key}" for key in found["keys"]] == lines[1:]
    assert lines[1] in (studio.ledger / "policy.txt").read_text()
    assert pd("keys", "rotate-log", "--finish", *where).code == 2
    assert pd("fsck", studio.ledger).code == 0
    # what was given out before the change still verifies under the policy of before
    (studio.folder / "old.policy").write_text(old_policy)
    assert pd("log", "checkpoint", *where, "--policy", studio.folder / "old.policy").code == 0


def test_a_log_is_closed_and_continued(pd, studio) -> None:
    new = studio.folder / "studio-2.ledger"
    made = pd("log", "continue", new, "--origin", "models.example/studio/log-2", "--ledger", studio.ledger)
    assert made.code == 0, made.err
    assert made.out.startswith("log models.example/studio/log-2+")
    assert made.out in (new / "policy.txt").read_text()
    listed = pd("log", "list", "--ledger", new).out.splitlines()
    assert listed[1].split() == ["0", "continues", "size", "5", "models.example/studio/log"]
    shown = pd("log", "show", "0", "--ledger", new).document()
    assert shown["continues"]["note"].encode() == (studio.ledger / "public/checkpoint").read_bytes()
    assert pd("log", "list", "--ledger", new, "--json").document()["entries"][0]["statement"] is None
    assert "continues as" in pd("models", "add", studio.model, "--ledger", studio.ledger).sentence()
    assert pd("models", "add", studio.model, "--ledger", new).code == 0
    for place in (new, studio.ledger):
        assert pd("fsck", place).code == 0
    # the old picture is still logged, under the policy that names both
    assert pd("verify", studio.picture(0), "--ledger", studio.ledger, "--policy", new / "policy.txt",
              "--authors", new / "authors.txt").code == 0  # fmt: skip
