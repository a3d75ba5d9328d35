"""A private export is a backup: it comes back as the same ledger, and signs nothing before witnesses were asked."""

from __future__ import annotations

import io
import shutil
import stat
from pathlib import Path

import pytest
from plausible.ledger import Ledger
from plausible.ledger.fsck import check_ledger
from plausible.ledger.notes.policy import Policy
from plausible.ledger.transfer import export_private, import_private
from plausible.ledger.transfer.container import END
from plausible.ledger.writing.receipt import NotYet
from plausible.ledger.writing.witnessed import RESTORED_MARK
from plausible.schemas.errors import EvidenceError, PlausibleError, SetupError, UsageError

from tests.ledger.studio import WITNESSES, make, picture


def build(path: Path, witnesses: tuple[str, ...] = WITNESSES) -> Path:
    with make(path, witnesses=witnesses) as ledger:
        for number in range(270):
            ledger.append(image=picture(number, 5), model="m", latent=[0.5] * 8)
        ledger.flush()
    return path


def saved(ledger: Path) -> bytes:
    out = io.BytesIO()
    export_private(ledger, out)
    return out.getvalue()


def restored(data: bytes, target: Path, ledger: Path, *, witnesses: bool = True) -> Path:
    """Import, and put keys and models back as an operator would; with the witnesses, who went on elsewhere."""
    import_private(io.BytesIO(data), target, Policy.parse((ledger / "policy.txt").read_bytes()))
    shutil.rmtree(target / "keys")
    shutil.copytree(ledger / "keys", target / "keys")
    shutil.copytree(ledger / "models", target / "models")
    if witnesses:
        shutil.rmtree(target / "witnesses")
        shutil.copytree(ledger / "witnesses", target / "witnesses")
    return target


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built") / "a.ledger")


@pytest.fixture
def ledger(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "a.ledger"))


def test_it_comes_back_and_goes_on_when_witnesses_know_of_nothing_newer(ledger: Path, tmp_path: Path) -> None:
    copy = restored(saved(ledger), tmp_path / "b.ledger", ledger)
    for name in ("state.db", "vault.db", RESTORED_MARK):
        assert stat.S_IMODE((copy / name).stat().st_mode) == 0o600
    with Ledger.open(ledger, mode="read") as first, Ledger.open(copy, mode="read") as second:
        assert second.checkpoint() == first.checkpoint()
        assert second.opening(5) == first.opening(5)
    with Ledger.open(copy) as opened:
        assert opened.append(image=picture(999), model="m").wait("witnessed", 30).index == 271
    assert not (copy / RESTORED_MARK).exists()
    assert check_ledger(copy).findings == ()


def test_a_witness_that_is_ahead_stops_it(ledger: Path, tmp_path: Path) -> None:
    data = saved(ledger)
    with Ledger.open(ledger) as opened:
        opened.append(image=picture(1000), model="m").wait("witnessed", 30)
    copy = restored(data, tmp_path / "b.ledger", ledger)
    before = (copy / "public/checkpoint").read_bytes()
    with pytest.warns(RuntimeWarning, match="restored"):
        held = Ledger.open(copy)
    with held as opened, pytest.raises(SetupError, match="restored"):
        opened.append(image=picture(1001), model="m").wait("witnessed", 30)
    assert (copy / "public/checkpoint").read_bytes() == before != (ledger / "public/checkpoint").read_bytes()


def test_nothing_is_signed_without_asking(ledger: Path, tmp_path: Path) -> None:
    copy = restored(saved(ledger), tmp_path / "b.ledger", ledger, witnesses=False)
    head = (copy / "public/checkpoint").read_bytes()
    with Ledger.open(copy) as opened:
        receipt = opened.append(image=picture(1001), model="m")
        receipt.wait("accepted", 30)
        with pytest.raises(NotYet):
            receipt.wait("sequenced", 1.5)
    assert (copy / RESTORED_MARK).exists()
    assert (copy / "public/checkpoint").read_bytes() == head


def test_with_no_witnesses_a_person_must_say_so(tmp_path: Path) -> None:
    ledger = build(tmp_path / "a.ledger", witnesses=())
    copy = restored(saved(ledger), tmp_path / "b.ledger", ledger)
    with Ledger.open(copy) as opened:
        receipt = opened.append(image=picture(1001), model="m")
        receipt.wait("accepted", 30)
        with pytest.raises(NotYet):
            receipt.wait("sequenced", 1.5)
    (copy / RESTORED_MARK).unlink()
    with Ledger.open(copy) as opened:
        opened.flush("sequenced", 30)


def test_only_a_ledger_at_rest_is_exported(ledger: Path) -> None:
    with Ledger.open(ledger), pytest.raises(UsageError, match="another process"):
        saved(ledger)
    assert saved(ledger).endswith(END)
    (ledger / "spool.journal").write_bytes(b"x")
    with pytest.raises(SetupError, match="not recorded"):
        saved(ledger)


def test_keys_are_not_in_it(ledger: Path) -> None:
    data = saved(ledger)
    for path in (ledger / "keys").iterdir():
        secret = path.read_bytes().strip().split(b"+", 4)[4]
        assert len(secret) > 40
        assert secret not in data


def test_what_was_changed_or_cut_off_makes_nothing(ledger: Path, tmp_path: Path) -> None:
    data = saved(ledger)
    policy = Policy.parse((ledger / "policy.txt").read_bytes())
    before = sorted(tmp_path.iterdir())
    for place in (5, 600, 3000, 20_000, len(data) // 2, len(data) - 600):
        changed = bytearray(data)
        changed[place] ^= 1
        for wrong in (bytes(changed), data[:place]):
            with pytest.raises(PlausibleError):
                import_private(io.BytesIO(wrong), tmp_path / "b.ledger", policy)
            assert sorted(tmp_path.iterdir()) == before


def test_private_files_of_another_log_are_refused(ledger: Path, tmp_path: Path) -> None:
    """state.db of one log before the public files of another: the heads would disagree."""
    data = saved(ledger)
    other = saved(build(tmp_path / "other.ledger"))
    cut, from_ = data.index(b"plausible-export.json"), other.index(b"plausible-export.json")
    policy = Policy.parse((tmp_path / "other.ledger/policy.txt").read_bytes())
    with pytest.raises(EvidenceError, match=r"state\.db stands"):
        import_private(io.BytesIO(data[:cut] + other[from_:]), tmp_path / "b.ledger", policy)
    assert not (tmp_path / "b.ledger").exists()
