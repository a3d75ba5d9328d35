"""A monitor against logs under a test's thumb: what is false is caught and proven, what is not seen is no success."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from plausible.ledger.contradiction import verify_contradiction
from plausible.ledger.entries.entry import sign_entry
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.node.monitor.config import CONFIG, read_config
from plausible.node.monitor.directory import add, make
from plausible.node.monitor.service import open_monitor
from plausible.node.monitor.views import origin_hash
from plausible.node.monitor.watch import Outcome
from plausible.schemas.errors import SetupError, UsageError
from plausible.schemas.statement import NO_PREVIOUS, AuthorRevocationStatement, Header

from tests.ledger.falselog import AUTHOR, INDEX, LOG, Chain, FalseLog, forged

WITNESS = SignerKey("w.example/witness", COSIGNATURE_ED25519, bytes(range(3, 35)))
MIRROR_INDEX = SignerKey("mirror.example/index", ED25519, bytes(range(4, 36)))


@dataclass
class Setting:
    """A monitor in a folder, a log beside it, and a hook that writes down what it was told."""

    root: Path
    mirrors: tuple[str, ...] = ()
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    @property
    def folder(self) -> Path:
        return self.root / "monitor"

    @property
    def told(self) -> Path:
        return self.root / "told"

    def make(self, index: bool = False, witness: str | None = None, quorum: str = "none") -> None:
        self.folder.mkdir()
        line = f"witness w {WITNESS.verifier} {witness}\n" if witness else ""
        (self.folder / "a.policy").write_text(f"log {LOG.verifier}\n{line}quorum {quorum}\n")
        keys = f"log {INDEX.verifier}\nwitness m {MIRROR_INDEX.verifier}\nquorum none\n"
        (self.folder / "index.policy").write_text(keys)
        hook = [sys.executable, "-c", f"import sys; open({str(self.told)!r}, 'a').write(sys.argv[1] + '\\n')"]
        text = f"version = 1\nhook = {json.dumps(hook)}\n[[log]]\npolicy = 'a.policy'\nurl = '../log'\n"
        text += f"mirrors = {json.dumps(self.mirrors)}\n" + ("index_policy = 'index.policy'\n" if index else "")
        (self.folder / CONFIG).write_text(text)

    def look(self) -> int:
        self.outcomes = []
        with open_monitor(self.folder) as monitor:
            return monitor.once(self.outcomes.append)

    @property
    def said(self) -> str:
        return "\n".join(str(finding) for outcome in self.outcomes for finding in outcome.findings)

    def evidence(self) -> list[tuple[str, str]]:
        """(kind, what) of every file, each verified offline under the policy."""
        policy = Policy.parse((self.folder / "a.policy").read_bytes())
        found = [verify_contradiction(path.read_bytes(), policy=None) for path in self.files()]
        assert {one.keys[-1] for one in found} <= {log.key.encode() for log in policy.logs} | {
            INDEX.verifier.encode(),
            MIRROR_INDEX.verifier.encode(),
        }
        return sorted((one.kind, one.what) for one in found)

    def files(self) -> list[Path]:
        return sorted((self.folder / "evidence").glob("*.json"))


def grown(folder: Path, *parts: int) -> tuple[FalseLog, Chain]:
    log, chain = FalseLog(folder), Chain()
    for count in parts:
        log.grow(chain.leaves(count))
    return log, chain


def test_a_sound_log_is_followed(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.make(index=True)
    log, chain = grown(tmp_path / "log", 3)
    log.index()
    assert setting.look() == 0 and setting.outcomes[0].size == 3, setting.said
    log.grow([*chain.leaves(300), b"stranger", *Chain(chain="44" * 16).leaves(2)])
    log.index(INDEX, MIRROR_INDEX)
    assert setting.look() == 0 and setting.outcomes[0].size == 306, setting.said
    assert setting.look() == 0 and not setting.files() and not setting.told.exists()


def test_two_histories_are_caught_in_one_look(tmp_path: Path) -> None:
    """A witness cosigned one tree, the log shows the monitor another of that size."""
    seen, _ = grown(tmp_path / "seen", 3)
    prefix = tmp_path / "witness"
    setting = Setting(tmp_path, mirrors=("../witness",))
    setting.make()
    prefix.mkdir()
    log = FalseLog(tmp_path / "log")
    log.grow(Chain(chain="55" * 16).leaves(3))
    FalseLog(prefix / origin_hash(LOG.name)).put("checkpoint", seen.head(None, WITNESS))
    assert setting.look() == 1
    [(kind, what)] = setting.evidence()
    assert kind == "two-heads" and "size 3" in what
    assert setting.told.read_text() == f"{setting.files()[0]}\n"
    # it stays so, is not told twice, and nothing more of the log is believed
    log.grow(Chain(chain="66" * 16).leaves(2))
    assert setting.look() == 1 and len(setting.files()) == 1
    assert setting.told.read_text().count("\n") == 1 and setting.outcomes[0].size == 0


@pytest.mark.parametrize(("before", "after"), [(5, 9), (9, 5), (300, 301), (2, 600)])
def test_a_history_that_does_not_go_on_is_caught(before: int, after: int, tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.make()
    log = FalseLog(tmp_path / "log")
    log.grow(Chain(chain="55" * 16).leaves(before))
    assert setting.look() == 0
    log.folder.rename(tmp_path / "gone")
    other = FalseLog(tmp_path / "log")
    other.grow(Chain(chain="66" * 16).leaves(after))
    code = setting.look()
    if after > before:
        assert code == 1 and setting.evidence()[0][0] == "inconsistent-heads"
    else:
        # nobody serves the larger tree any more: nothing is proven, and it is not success
        assert code == 4 and "nobody serves" in setting.said and not setting.files()
        other.grow(Chain(chain="77" * 16).leaves(before + 1 - after))
        assert setting.look() == 1 and setting.evidence()[0][0] == "inconsistent-heads"


def test_a_head_whose_entries_nobody_serves_is_kept_until_it_can_be_compared(tmp_path: Path) -> None:
    """A mirror once showed a larger tree than the log does, and is gone when the log goes on with another one."""
    setting = Setting(tmp_path, mirrors=("../mirror",))
    setting.make()
    log, chain = grown(tmp_path / "log", 4)
    mirror = FalseLog(tmp_path / "mirror", leaves=list(log.leaves))
    mirror.leaves += Chain(chain="55" * 16).leaves(3)
    mirror.put("checkpoint", mirror.head())  # its tiles are withheld
    assert setting.look() == 4 and "nobody serves" in setting.said
    (tmp_path / "mirror" / "checkpoint").unlink()
    assert setting.look() == 4
    log.grow(chain.leaves(6))
    assert setting.look() == 1 and setting.evidence()[0][0] == "inconsistent-heads"


def test_false_entries_are_caught(tmp_path: Path) -> None:
    cases: dict[str, tuple[str, list[bytes]]] = {}
    chain = Chain()
    first = chain.leaves(3)
    cases["signature"] = ("false-entry", [*first, forged(chain.leaf())])
    chain = Chain()
    cases["fork"] = ("entry-pair", [*chain.leaves(3), chain.leaf(seq=2, word="other")])
    chain = Chain()
    cases["fork later"] = ("entry-pair", [*chain.leaves(3), b"stranger", chain.leaf(seq=1, word="other")])
    chain = Chain()
    cases["prev"] = ("entry-pair", [*chain.leaves(3), chain.leaf(prev="sha256:" + "11" * 32)])
    chain = Chain()
    cases["gap"] = ("chain-gap", [*chain.leaves(3), b"stranger", chain.leaf(seq=7)])
    cases["late start"] = ("chain-gap", [b"stranger", Chain().leaf(seq=2, prev="sha256:" + "11" * 32)])
    chain = Chain()
    cases["draw"] = ("entry-pair", [*chain.leaves(3), chain.leaf(draw=0)])
    for name, (kind, leaves) in cases.items():
        root = tmp_path / name
        root.mkdir()
        setting = Setting(root)
        setting.make()
        log = FalseLog(root / "log")
        log.grow(leaves[:2])
        assert setting.look() in (0, 1)
        log.grow(leaves[2:])  # the other half of the contradiction was checked in an earlier look
        assert setting.look() == 1, name
        assert {one for one, _ in setting.evidence()} == {kind}, name


def test_a_false_index_root_is_caught_and_named_by_its_signer(tmp_path: Path) -> None:
    setting = Setting(tmp_path, mirrors=("../mirror",))
    setting.make(index=True)
    log, chain = grown(tmp_path / "log", 4)
    log.index()
    mirror = FalseLog(tmp_path / "mirror", leaves=[])
    mirror.grow(list(log.leaves))
    mirror.index(MIRROR_INDEX, lie=True)
    assert setting.look() == 1 and "mirror.example" in setting.said
    [(kind, _)] = setting.evidence()
    assert kind == "index-root"
    log.grow(chain.leaves(2))
    log.index()
    assert setting.look() == 1 and setting.outcomes[0].size == 6  # the log itself did nothing: it is followed
    log.grow(chain.leaves(2))
    log.index(lie=True)
    assert setting.look() == 1
    assert [one for one, _ in setting.evidence()] == ["index-root", "index-root"]
    log.grow(chain.leaves(2))
    assert setting.look() == 1 and setting.outcomes[0].size == 8  # now it is not


def test_what_cannot_be_looked_at_is_not_success(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.make()
    assert setting.look() == 4  # no log
    log, chain = grown(tmp_path / "log", 3)
    assert setting.look() == 0
    good = log.head()
    for bad in (b"", b"no note", good[:-4] + b"AA==\n", log.head().replace(b"log.example/a\n3", b"log.example/a\n4")):
        log.put("checkpoint", bad)
        assert setting.look() == 4, bad
    log.put("checkpoint", good)
    assert setting.look() == 0
    log.grow(chain.leaves(300))
    log.put("tile/entries/001.p/47", b"\0\1x" * 47)
    assert setting.look() == 4 and not setting.files()
    log.put("tile/0/001.p/47", bytes(32 * 47))
    assert setting.look() == 4 and not setting.files()


def test_a_policy_that_is_not_met_is_told_apart(tmp_path: Path) -> None:
    prefix = tmp_path / "log"
    setting = Setting(tmp_path)
    setting.make()
    log, _ = grown(prefix, 3)
    (setting.folder / "a.policy").write_text(f"log {LOG.verifier}\nwitness w {WITNESS.verifier}\nquorum w\n")
    assert setting.look() == 5
    log.put("checkpoint", log.head(None, WITNESS))
    assert setting.look() == 0
    # a head that was cosigned long ago may be an old one that is shown on purpose
    config = setting.folder / CONFIG
    config.write_text(config.read_text() + "max_age_seconds = 3600\n")
    assert setting.look() == 4 and "seconds ago" in setting.said
    log.put("checkpoint", log.head(None, WITNESS, time=int(time.time()) - 60))
    assert setting.look() == 0
    log.put("checkpoint", log.head(None, WITNESS, time=int(time.time()) + 3600))
    assert setting.look() == 5  # a cosignature from the future does not count


def test_a_revoked_key_that_goes_on_is_named_and_the_log_is_followed(tmp_path: Path) -> None:
    """Verifiers refuse such entries and nobody contradicted himself: no file, another exit code."""
    setting = Setting(tmp_path)
    setting.make()
    log, chain = grown(tmp_path / "log", 2)
    other, vkey = Chain(chain="88" * 16), AUTHOR.verifier.encode()
    header = Header(author=vkey, chain=other.chain, prev=NO_PREVIOUS, seq=0, time="2026-01-02T03:04:05.000006Z")
    log.grow([sign_entry(AuthorRevocationStatement.make(header, revoked=vkey), AUTHOR)])
    assert setting.look() == 0, setting.said
    log.grow(chain.leaves(2))
    assert setting.look() == 5 and "entry 3 is signed by the revoked key" in setting.said
    log.grow([b"stranger"])
    assert setting.look() == 5 and setting.outcomes[0].size == 6 and not setting.files()


def test_a_look_that_takes_too_long_says_so_and_the_next_goes_on(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.make()
    grown(tmp_path / "log", 2500)
    config = setting.folder / CONFIG
    config.write_text("look_seconds = 0.001\n" + config.read_text())
    seen: list[int] = []
    while setting.look() == 4:
        assert "the next look goes on" in setting.said
        seen.append(setting.outcomes[0].size)
    assert seen == [1024, 2048] and setting.outcomes[0].size == 2500


def test_a_signer_who_lies_at_every_look_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plausible.node.monitor.watch.MAX_STANDING", 3)
    setting = Setting(tmp_path, mirrors=("../mirror",))
    setting.make(index=True)
    log, chain = grown(tmp_path / "log", 4)
    mirror = FalseLog(tmp_path / "mirror")
    for _ in range(5):
        log.grow(chain.leaves(1))
        log.index()
        mirror.grow(log.leaves[len(mirror.leaves) :])
        mirror.index(MIRROR_INDEX, lie=True)
        assert setting.look() == 1
    assert len(setting.files()) == 3 and setting.outcomes[0].size == 9


def test_a_person_lifts_what_stands(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.make()
    log = FalseLog(tmp_path / "log")
    chain = Chain()
    log.grow([*chain.leaves(2), chain.leaf(seq=1, word="other")])
    assert setting.look() == 1
    with open_monitor(setting.folder) as monitor:
        assert monitor.state.lift(LOG.name) == 1
    log.grow(Chain(chain="77" * 16).leaves(2))
    assert setting.look() == 0 and setting.outcomes[0].size == 5
    assert len(setting.files()) == 1


def test_a_hook_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(tmp_path)
    setting.make()
    log = FalseLog(tmp_path / "log")
    log.grow([forged(Chain().leaf())])
    with monkeypatch.context() as patch:
        patch.setenv("PD_MONITOR_HOOK", "false")
        assert setting.look() == 1 and "ended with 1" in setting.said
    assert setting.look() == 1 and setting.told.read_text() == f"{setting.files()[0]}\n"


def test_a_setting_that_is_not_understood_is_refused(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.make()
    good = (setting.folder / CONFIG).read_text()
    assert read_config(setting.folder).logs[0].origin == LOG.name
    assert read_config(setting.folder, {"PD_MONITOR_POLL_SECONDS": "2.5"}).poll_seconds == 2.5
    for change in ("poll = 3\n", "version = 2\n", "poll_seconds = -1\n", "hook = 'sh'\n", "log = 3\n", "\x00"):
        (setting.folder / CONFIG).write_text(change + good)
        with pytest.raises(SetupError):
            read_config(setting.folder)
    for change in ('url = "\\u0000"\npolicy = "a.policy"\n', 'policy = "\\u0000"\n'):
        (setting.folder / CONFIG).write_text(f"version = 1\n[[log]]\n{change}")
        with pytest.raises(SetupError):
            read_config(setting.folder)
    for change in ("mirrors = [3]\n", "policy = 3\n", "policy = 'none'\n", "poll_seconds = 3\n"):
        (setting.folder / CONFIG).write_text(f"version = 1\n[[log]]\n{change}")
        with pytest.raises(SetupError):
            read_config(setting.folder)


def test_what_cannot_be_added_changes_nothing(tmp_path: Path) -> None:
    folder, policy = tmp_path / "m", f"log {LOG.verifier}\nquorum none\n".encode()
    make(folder)
    before = (folder / CONFIG).read_bytes()
    with pytest.raises(SetupError):
        add(folder, policy, url="https://log.example/" + "a" * 2000)
    assert (folder / CONFIG).read_bytes() == before
    with pytest.raises(UsageError, match="--url"):
        add(folder, policy)
    assert add(folder, policy, url="https://log.example", mirrors=["https://m.example", str(tmp_path)]) == LOG.name
    with pytest.raises(UsageError, match="followed already"):
        add(folder, policy, url="https://log.example")
    [log] = read_config(folder).logs
    assert log.place == "https://log.example" and log.mirrors == ("https://m.example", tmp_path)
    long = SignerKey("l" * 900 + ".example/log", ED25519, bytes(32))
    assert add(folder, f"log {long.verifier}\nquorum none\n".encode(), url=str(tmp_path)) == long.name


def test_a_kill_between_the_evidence_and_the_state_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(tmp_path)
    setting.make()
    log, chain = FalseLog(tmp_path / "log"), Chain()
    log.grow([*chain.leaves(3), chain.leaf(seq=2, word="other"), *Chain(chain="77" * 16).leaves(2)])

    def killed(*_: object) -> None:
        raise SetupError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("plausible.node.monitor.watch.store", killed)
        assert setting.look() == 4
    assert len(setting.files()) == 1  # the proof was written first
    assert setting.look() == 1 and len(setting.files()) == 1 and setting.outcomes[0].size == 0
    with open_monitor(setting.folder) as monitor:
        monitor.state.lift(LOG.name)
    # the entries are read again, and what a person knows of already does not stop the log a second time
    assert setting.look() == 0 and setting.outcomes[0].size == 6 and len(setting.files()) == 1


def test_two_monitors_in_one_folder(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.make()
    with open_monitor(setting.folder), pytest.raises(SetupError, match="another process"), open_monitor(setting.folder):
        pass
