"""`pd log archive`, `pd log prove --dated` and `pd gc`: what a person asks about time and space."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plausible.ledger.notes.policy import Policy
from plausible.ledger.notes.proof import TlogProof

from tests.ledger.studio import make, picture


def build(path: Path, count: int = 300) -> Path:
    with make(path) as ledger:
        for number in range(4):
            ledger.append(image=picture(number), model="m").wait("witnessed", 20)
        for number in range(4, count):
            ledger.append(image=picture(number, 5), model="m")
    return path


def test_dates_and_space(pd: Callable[..., Any], tmp_path: Path) -> None:
    ledger = build(tmp_path / "a.ledger")
    listed = pd("log", "archive", "--ledger", ledger, "--json").document()
    sizes = [row["size"] for row in listed["kept"]]
    assert sizes == sorted(sizes)
    assert all(row["problem"] is None and len(row["cosigners"]) >= 2 and row["existed_by"] for row in listed["kept"])
    only = pd("log", "archive", "3", "--ledger", ledger, "--json").document()["kept"]
    assert [row["size"] for row in only] == [min(size for size in sizes if size > 3)]
    assert pd("log", "archive", "--ledger", ledger, "--limit", "1").out.count("\n") == 2

    assert pd("log", "prove", "1", "--ledger", ledger, "--dated", "--out", "1.tlog-proof").code == 0
    proof = TlogProof.parse(Path("1.tlog-proof").read_bytes())
    assert proof.checkpoint.size == min(size for size in sizes if size > 1)
    assert Policy.parse((ledger / "policy.txt").read_bytes()).check(proof.note).existence_time is not None

    dry = pd("gc", ledger, "--json").document()
    assert dry["files"] > 0
    assert (dry["removed"], dry["differing_files"]) == (False, 0)
    assert pd("gc", ledger, "--remove").code == 0
    assert pd("gc", ledger, "--json").document()["files"] == 0
    assert pd("fsck", ledger).code == 0
    assert pd("gc", ledger, "--thin", "3600", "--json").document()["checkpoints_dropped"] == []


def test_a_served_log_lists_what_it_keeps_and_is_believed_for_nothing(
    pd: Callable[..., Any], tmp_path: Path, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = build(tmp_path / "a.ledger", 6)
    near = pd("log", "archive", "--ledger", ledger, "--json").document()
    trust = ("--policy", ledger / "policy.txt")
    with serve(ledger) as address:
        assert pd("log", "archive", "--ledger", address, *trust, "--json").document() == near
        one = pd("log", "archive", "3", "--ledger", address, *trust, "--json").document()["kept"]
        assert one == [next(row for row in near["kept"] if row["size"] > 3)]
        assert pd("export", "a.tar", "--ledger", address, *trust).code == 0
        assert pd("export", "b.tar", "--ledger", ledger).code == 0
        assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
        # a list that is none, as of a server that answers everything with a page; and one with a size that is not kept
        last = [row["size"] for row in near["kept"]][-1]
        for text, sizes, code in (("<html>", [last], 0), ("7\n3\n", [last], 0), ("3\n290000\n", [3, 290000], 4)):
            monkeypatch.setattr("plausible.node.server.listing", lambda _folder, text=text: text.encode())
            told = pd("log", "archive", "--ledger", address, *trust, "--json")
            assert ([row["size"] for row in told.document()["kept"]], told.code) == (sizes, code)


def test_who_vouches_must_be_named_for_a_copy(pd: Callable[..., Any], tmp_path: Path) -> None:
    ledger = build(tmp_path / "a.ledger")
    copy = shutil.copytree(ledger / "public", tmp_path / "copy")
    assert "--policy" in pd("log", "archive", "--ledger", copy).sentence()
    assert "--policy" in pd("gc", copy, "--thin", "5").sentence()
    told = pd("log", "archive", "--ledger", copy, "--policy", ledger / "policy.txt", "--json")
    assert told.code == 0
    (copy / "checkpoints/2").write_bytes((copy / "checkpoints/3").read_bytes())
    assert pd("log", "archive", "--ledger", copy, "--policy", ledger / "policy.txt").code == 1
    make(tmp_path / "b.ledger").close()
    assert pd("log", "archive", "--ledger", ledger, "--policy", tmp_path / "b.ledger/policy.txt").code == 5
