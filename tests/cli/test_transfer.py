"""`pd export` and `pd import` as people use them: a file, a pipe, a served log; the copy serves and verifies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_copy_reads_serves_and_verifies_like_the_log(
    pd: Callable[..., Any], studio: Any, serve: Callable[[Path], contextlib.AbstractContextManager[str]]
) -> None:
    told = pd("export", "log.tar", "--ledger", studio.ledger, "--json").document()
    assert (told["policy"], told["bytes"]) == ("met", Path("log.tar").stat().st_size)
    assert pd("export", "log.tar", "--ledger", studio.ledger).code == 2
    assert pd("export", "again.tar", "--ledger", studio.ledger).code == 0
    assert Path("again.tar").read_bytes() == Path("log.tar").read_bytes()
    assert pd("import", "log.tar", "copy").code == 2, "nobody said whose signatures count"
    policy = ("--policy", studio.ledger / "policy.txt")
    done = pd("import", "log.tar", "copy", *policy, "--json").document()
    assert (done["size"], done["root"], done["left_out"]) == (told["size"], told["root"], 0)
    assert pd("fsck", "copy", *policy).code == 0
    assert pd("log", "list", "--ledger", "copy", *policy).code == 0
    assert pd("import", "log.tar", "copy", *policy).code == 2
    with serve(Path("copy")) as address:
        assert pd("fsck", address, *policy).code == 0
        assert pd("export", "served.tar", "--ledger", address, *policy).code == 0
    assert pd("import", "served.tar", "second", *policy).code == 0


def test_what_fails_leaves_no_file(pd: Callable[..., Any], studio: Any, tmp_path: Path) -> None:
    policy = ("--policy", studio.ledger / "policy.txt")
    pd("export", "log.tar", "--ledger", studio.ledger)
    data = Path("log.tar").read_bytes()
    Path("cut.tar").write_bytes(data[:-700])
    assert pd("import", "cut.tar", "copy", *policy).code == 4
    assert pd("import", "absent.tar", "copy", *policy).code == 2
    (studio.folder / "b.policy").write_bytes(
        (studio.ledger / "policy.txt").read_bytes().replace(b"group witnesses 2", b"group witnesses 3")
    )
    bundle = next((studio.ledger / "public/tile/entries").rglob("000.p/5"))
    broken = bytearray(bundle.read_bytes())
    broken[-1] ^= 1
    bundle.write_bytes(broken)
    before = sorted(tmp_path.iterdir())
    assert pd("export", "broken.tar", "--ledger", studio.ledger).code == 4
    assert sorted(tmp_path.iterdir()) == before
