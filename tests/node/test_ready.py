"""`/readyz` of a served ledger: whether what readers get holds, not whether a process is alive."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.ledger.studio import make
from tests.node.conftest import Serve


def test_ready_means_that_the_served_checkpoint_holds(tmp_path: Path, serve: Serve) -> None:
    make(tmp_path / "log").close()
    public = tmp_path / "log" / "public"
    good = (public / "checkpoint").read_bytes()
    with serve(tmp_path / "log") as url:
        assert httpx.get(f"{url}/healthz").status_code == 200
        answer = httpx.get(f"{url}/readyz")
        assert answer.status_code == 200 and "size 1, cosigned" in answer.text
        for bad in (good[:-6] + b"AAA=\n", b"", good.split(b"\n\n")[0] + b"\n\n" + good.split(b"\n")[4] + b"\n"):
            (public / "checkpoint").write_bytes(bad)
            answer = httpx.get(f"{url}/readyz")
            assert answer.status_code == 503 and "does not hold" in answer.text, answer.text
            assert httpx.get(f"{url}/healthz").status_code == 200
        (public / "checkpoint").unlink()
        assert httpx.get(f"{url}/readyz").status_code == 503


def test_a_copy_has_no_policy_of_its_own(tmp_path: Path, serve: Serve) -> None:
    make(tmp_path / "log").close()
    (tmp_path / "log" / "public").rename(tmp_path / "public")
    with serve(tmp_path / "public") as url:
        answer = httpx.get(f"{url}/readyz")
        assert answer.status_code == 200 and "readers' to check" in answer.text
