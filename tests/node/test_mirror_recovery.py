"""A developer whose disk died: the log comes back from a mirror, and signs again when its witness was asked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.notes.mirror_body import origin_hash
from plausible.ledger.notes.note import Note, VerifierKey
from plausible.node.mirror.directory import LogSettings
from plausible.node.mirror.directory import make as make_mirror
from plausible.node.mirror.follow import follow_once
from plausible.node.mirror.mirror import Mirror
from plausible.schemas.errors import SetupError

from tests.ledger.studio import AUTHOR, manifest, picture
from tests.node.mirrors import running
from tests.node.test_cosigning import log_key, nodes, policy, until


def pd(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "plausible.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.long
def test_back_from_a_mirror_behind_a_witness(tmp_path: Path) -> None:
    """Mirror behind by one entry: the witness knows more, so nothing is signed; the newer copy heals it."""
    path, safe, mirror_folder = tmp_path / "log", tmp_path / "safe", tmp_path / "mirror"
    with nodes(tmp_path, 1) as (witness,):
        with Ledger.init(path, author=AUTHOR, policy=policy([(witness.vkey, witness.url)], 1)) as ledger:
            key, origin = log_key(ledger), ledger.origin
            witness.watch(key)
            ledger.register_model("m", manifest=manifest(4)).wait("witnessed", 40)
            ledger.append(image=picture(1), model="m").wait("witnessed", 40)
        make_mirror(mirror_folder, "mirror.example/m", guard=tmp_path / "m.count")
        with Mirror(mirror_folder) as mirror:
            mirror.add_log(origin, [VerifierKey.parse(key)], LogSettings(origin, str(path)))
            assert follow_once(mirror, origin).size == 2
        newer = tmp_path / "newer"
        with Ledger.open(path) as ledger:
            ledger.append(image=picture(2), model="m").wait("witnessed", 40)
        shutil.copytree(path / "public", newer)
        assert pd("vault", "backup", tmp_path / "vault.backup", "--ledger", path).returncode == 0
        shutil.copytree(path / "keys", safe)
        shutil.copy(path / "policy.txt", safe)
        shutil.rmtree(path)

        with running(mirror_folder) as (at, _), httpx.Client(base_url=at) as client:
            where = f"{at}/{origin_hash(origin)}"
            until(lambda: client.get(f"/{origin_hash(origin)}/checkpoint").status_code == 200)
            words = ["recover", path, "--from", where, "--keys", safe, "--policy", safe / "policy.txt"]
            # the mirror has less than the backup of the vault was made of
            done = pd(*words, "--backup", tmp_path / "vault.backup")
            assert done.returncode == 4 and "older than this backup" in done.stderr
            done = pd(*words)
            assert done.returncode == 0, done.stderr
            assert "2 entries, 2 of this author" in done.stdout
        served = Note.parse((path / "public/checkpoint").read_bytes())
        assert served.verify([VerifierKey.parse(witness.vkey)])  # the mirror served it along

        with pytest.warns(RuntimeWarning, match="restored from a backup"):
            held = Ledger.open(path)
        # the witness has cosigned an entry more than the mirror had: going on from here would fork the log
        with held, pytest.raises(SetupError, match="pd recover"):
            held.register_model("m", manifest=manifest(4))
        shutil.rmtree(path)
        words[3] = newer
        assert pd(*words, "--backup", tmp_path / "vault.backup").returncode == 0
        with Ledger.open(path) as ledger:
            ledger.register_model("m", manifest=manifest(4))  # the folder is put back, no second entry
            found = ledger.append(image=picture(4), model="m").wait("witnessed", 40)
            assert found.index == 3 and not (path / "restored").exists()
            assert ledger.find(pixels=pixel_digest(picture(2))) == [2] and ledger.opening(2)
