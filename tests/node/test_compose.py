"""docker-compose.yml without a container engine: its own commands, environment and ports, as processes of this machine.

Every service gets a loopback address of its own in place of its name, so that the ports stay as they are written.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import PIL.Image
import pytest
import yaml
from plausible.cli.catalogue import COMMANDS
from plausible.cli.main import main
from plausible.ledger import Ledger
from plausible.ledger.notes.policy import AcceptedCheckpoint, Policy
from plausible.node.sender import open_ledger
from plausible.schemas.verdict import Verdict

if TYPE_CHECKING:
    from plausible.attribution.generators import Generator as Model
    from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
PD = [sys.executable, "-m", "plausible.cli"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def test_no_service_may_write_where_it_should_not_or_be_more_than_it_is() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["user"].split(":")[0] != "0" and "no-new-privileges:true" in service["security_opt"], name
        if name == "setup":
            continue
        assert service["healthcheck"]["test"], name
        assert service["depends_on"] == {"setup": {"condition": "service_completed_successfully"}}, name
        assert tuple(service["command"][:2]) in {command.parts for command in COMMANDS}, name
        # a service sees its own folder, no other's
        own = [volume.split(":")[1] for volume in service["volumes"]]
        assert all(folder in (f"/data/{name}", "/data/guards") for folder in own), name
        for port in service.get("ports", []):
            assert "9100" not in port, "metrics are not for strangers"
    kinds = [service["command"][1] for name, service in SERVICES.items() if name != "setup"]
    assert sorted(kinds) == ["log", "mirror", "monitor", "witness", "witness", "witness"]


def test_the_image_is_not_root_and_has_every_folder() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    folders = re.search(r"for name in ([a-z -]+); do", text)
    assert folders is not None and set(folders[1].split()) == set(COMPOSE["volumes"])
    copied = re.search(r"^COPY (deploy/.*) (/usr/share/plausible/)$", text, re.MULTILINE)
    assert copied is not None
    for file in copied[1].split():
        assert (ROOT / file).is_file()
        assert copied[2] + Path(file).name in (ROOT / "docker-compose.yml").read_text()


def test_the_systemd_unit_starts_a_command_that_exists() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(ROOT / "deploy" / "systemd" / "plausible-node@.service")
    words = shlex.split(unit["Service"]["ExecStart"])
    assert words[1:3] == ["node", "%i"] and unit["Service"]["User"] != "root"
    assert {("node", kind) for kind in ("log", "witness", "mirror", "monitor")} <= {one.parts for one in COMMANDS}
    assert unit["Service"]["ProtectSystem"] == "strict" and unit["Service"]["NoNewPrivileges"] == "yes"


# --- the same topology, as processes ---


class Topology:
    """The services of the file below a folder, each at its own loopback address."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        net = f"127.{random.randrange(64, 250)}.{random.randrange(250)}"
        self.address = {name: f"{net}.{number}" for number, name in enumerate(SERVICES, 1)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.logs = folder / "logs"
        self.logs.mkdir()
        for volume in COMPOSE["volumes"]:
            (self.data / volume).mkdir(parents=True)

    def here(self, text: str, name: str) -> str:
        """A text of the file as it reads on this machine, for the service `name`."""
        text = text.replace("/usr/share/plausible", str(ROOT / "deploy")).replace("/data", str(self.data))
        text = re.sub(r"http://([a-z-]+):", lambda m: f"http://{self.address.get(m[1], m[1])}:", text)
        return text.replace("0.0.0.0", self.address[name]).replace("127.0.0.1", self.address[name])

    def environment(self, name: str, **more: str) -> dict[str, str]:
        given: dict[str, Any] = SERVICES[name].get("environment", {})
        values = {key: self.here(str(value), name) for key, value in given.items()}
        return {**os.environ, "PD": shlex.join(PD), **values, **more}

    def setup(self, authors: str) -> None:
        words = [self.here(word, "setup") for word in SERVICES["setup"]["entrypoint"]]
        subprocess.run(words, env=self.environment("setup", AUTHORS=authors), check=True, timeout=120)

    def start(self, *names: str) -> None:
        for name in names:
            words = [self.here(word, name) for word in SERVICES[name]["command"]]
            with (self.logs / name).open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [*PD, *words], env=self.environment(name), stdout=log, stderr=log
                )

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait(60)

    def healthy(self, name: str) -> bool:
        """What the health check of the file says."""
        kind, *words = [self.here(word, name) for word in SERVICES[name]["healthcheck"]["test"]]
        assert kind == "CMD"
        program = {"python": [sys.executable], "pd": PD}[words[0]]
        return subprocess.run([*program, *words[1:]], capture_output=True, check=False, timeout=60).returncode == 0

    def url(self, name: str, port: int) -> str:
        return f"http://{self.address[name]}:{port}"


@pytest.fixture
def topology(tmp_path: Path) -> Generator[Topology]:
    made = Topology(tmp_path)
    try:
        yield made
    finally:
        for name in list(made.processes):
            made.stop(name, signal.SIGKILL)


def until(what: str, condition: Callable[[], bool], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.2)


class Recording:
    """A generator on the record of the composed log: a ledger of its own that sends there, and the pictures it made."""

    def __init__(self, ledger: Ledger, model: Model, folder: Path) -> None:
        self.ledger, self.folder = ledger, folder
        self._generate: Callable[[int], Tensor] = ledger.wrap(model.sample, model="blobs", latent=(model.latent.dim,))
        self.pictures: list[Path] = []

    @property
    def size(self) -> int:
        """Entries that the log must have in the end: the model's and one for each picture."""
        return 1 + len(self.pictures)

    def make(self, count: int) -> None:
        for pixels in self._generate(count).numpy():
            self.pictures.append(self.folder / f"{self.size}.png")
            PIL.Image.fromarray(pixels).save(self.pictures[-1])

    def prove(self, number: int) -> Path:
        """Evidence of picture `number` beside it; the proof's path."""
        assert self.ledger.sender is not None
        proof = self.ledger.sender.proof(number + 1)  # type: ignore[attr-defined]
        beside = self.pictures[number].with_name(self.pictures[number].name + ".tlog-proof")
        beside.write_bytes(proof)
        opening = self.ledger.opening(number + 1)
        self.pictures[number].with_name(self.pictures[number].name + ".opening.json").write_bytes(opening)
        return beside


def verdict(*words: object) -> str:
    """What `pd verify` says of one picture, as a program of its own."""
    command = [*PD, "verify", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, stdin=subprocess.DEVNULL)
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    word = done.stdout.split(": ")[1]
    assert Verdict(word).exit_code == done.returncode
    return word


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has loopback addresses to spare")
@pytest.mark.skipif(shutil.which("sh") is None, reason="setup.sh needs a shell")
def test_pictures_recorded_into_the_topology_of_the_compose_file(topology: Topology, tmp_path: Path) -> None:
    """Members are killed and come back while a generator records; then everybody verifies, in the end at the mirror."""
    pytest.importorskip("torch")
    from plausible.attribution.generators import load_model_folder

    from tests.attribution.studio import model_folder

    blobs = model_folder(tmp_path / "blobs", 1)
    with Ledger.init(tmp_path / "studio", author="models.example/studio") as ledger:
        ledger.register_model("blobs", folder=blobs)
        author = ledger.author.encode()
    topology.setup(author)
    before = {p: p.read_bytes() for p in topology.data.rglob("*") if p.is_file() and "db" not in p.suffix}
    topology.setup("")  # again: nothing that is there changes
    assert {p: p.read_bytes() for p in before} == before
    topology.start("log", "mirror", "monitor", "witness-a", "witness-b", "witness-c")
    rules = topology.data / "shared" / "policy.txt"
    policy = Policy.parse(rules.read_bytes())
    log = topology.url("log", 8100)

    def served() -> AcceptedCheckpoint:
        return policy.check(httpx.get(f"{log}/checkpoint").content)

    def reachable() -> bool:
        try:
            return httpx.get(f"{log}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    with open_ledger(log, tmp_path / "studio", policy=rules.read_bytes()) as ledger:
        recording = Recording(ledger, load_model_folder(blobs), tmp_path)
        recording.make(2)  # whether the log listens yet or not
        ledger.flush("witnessed", 90)
        assert served().size == recording.size

        # one of three away: entries still become witnessed; two away: they wait, and nothing is lost
        topology.stop("witness-a", signal.SIGKILL)
        recording.make(1)
        ledger.flush("witnessed", 90)
        topology.stop("witness-b", signal.SIGKILL)
        recording.make(1)
        ledger.flush("sequenced", 90)
        assert served().size == recording.size - 1
        # the log is killed with it and comes back before its witnesses do; generation goes on meanwhile
        topology.stop("log", signal.SIGKILL)
        recording.make(1)
        topology.start("log")
        until("the log never came back", reachable)
        topology.start("witness-b")
        ledger.flush("witnessed", 90)
        topology.stop("mirror", signal.SIGKILL)
        topology.stop("monitor", signal.SIGKILL)
        recording.make(1)
        ledger.flush("witnessed", 90)
        assert served().size == recording.size
        topology.start("mirror", "monitor", "witness-a")
        proof, model = recording.prove(3), tmp_path / "model.tlog-proof"
        model.write_bytes(ledger.sender.proof(0))  # type: ignore[union-attr]
    # nothing more is recorded: the witness that comes last cosigns what is there
    until("the log never asked the late witness", lambda: len(served().cosigners) == 3)
    for name in SERVICES:
        if name != "setup":
            until(f"{name} never became healthy again", lambda name=name: topology.healthy(name))
    digest = hashlib.sha256(policy.logs[0].key.name.encode()).hexdigest()
    copy = topology.url("mirror", 8102) + f"/{digest}"
    until("the mirror is behind", lambda: policy.check(httpx.get(f"{copy}/checkpoint").content).size == recording.size)
    status = ["monitor", "status", str(topology.data / "monitor" / "service")]
    until("the monitor saw no sound log", lambda: main(status) == 0 and monitored(topology) == recording.size)
    assert main(["fsck", copy, "--policy", str(rules)]) in (0, 4)

    # what a stranger sees: with the log's address, and after its host is gone with the mirror's; without any offline
    authors, other = tmp_path / "authors.txt", tmp_path / "other.png"
    authors.write_text(f"author {author}\n")
    PIL.Image.fromarray(np.random.default_rng(7).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(other)
    trust = ("--policy", rules, "--authors", authors)
    assert verdict(recording.pictures[0], "--ledger", log, *trust) == "claimed"  # nobody opened its record
    stopped(topology, "monitor")  # while everything it follows is there: what it ends with is what it found
    topology.stop("log", signal.SIGKILL)
    assert verdict(recording.pictures[4], "--ledger", copy, *trust) == "claimed"
    assert verdict(recording.pictures[3], "--ledger", copy, *trust, "--models", blobs) == "logged"
    assert verdict(other, "--ledger", copy, *trust, "--models", blobs, "--seconds", 20) not in ("logged", "claimed")
    given = ("--evidence", proof, "--evidence", model, *trust, "--models", blobs, "--offline")
    assert verdict(recording.pictures[3], *given) == "logged"
    assert verdict(other, *given) not in ("logged", "claimed")
    for name in list(topology.processes):
        stopped(topology, name)


def stopped(topology: Topology, name: str) -> None:
    """Ended as an operator ends it, and with nothing to complain of."""
    process = topology.processes[name]
    topology.stop(name)
    assert process.returncode in (0, -signal.SIGTERM, 143), (name, process.returncode)


def monitored(topology: Topology) -> float:
    """What the monitor's metrics say of the entries it checked."""
    text = httpx.get(topology.url("monitor", 9100) + "/metrics").text
    found = re.search(r"^plausible_monitor_entries\{[^}]*\} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found is not None else -1
