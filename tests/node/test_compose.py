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
from typing import Any

import httpx
import pytest
import yaml
from plausible.cli.catalogue import COMMANDS
from plausible.cli.main import main
from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.node.conformance.chain import MadeChain

ROOT = Path(__file__).resolve().parents[2]
PD = [sys.executable, "-m", "plausible.cli"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
ANNA = SignerKey("anna.example/studio", ED25519, bytes(range(1, 33)))


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


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has loopback addresses to spare")
@pytest.mark.skipif(shutil.which("sh") is None, reason="setup.sh needs a shell")
def test_the_topology_of_the_compose_file_as_processes(topology: Topology) -> None:
    topology.setup(ANNA.verifier.encode())
    before = {p: p.read_bytes() for p in topology.data.rglob("*") if p.is_file() and "db" not in p.suffix}
    topology.setup("")  # again: nothing that is there changes
    assert {p: p.read_bytes() for p in before} == before
    witnesses = ("witness-a", "witness-b", "witness-c")
    topology.start(*witnesses)
    for name in witnesses:  # one that comes after the quorum has signed is asked with the next head only
        until(f"{name} never became healthy", lambda name=name: topology.healthy(name))
    topology.start("log", "mirror", "monitor")
    log, chain = topology.url("log", 8100), MadeChain(ANNA)

    def post(wait: str) -> int:
        answer = httpx.post(f"{log}/entry?wait={wait}", content=chain.make(), timeout=30)
        if answer.status_code in (200, 202):
            chain.next()
        return answer.status_code

    def reachable() -> bool:
        try:
            return httpx.get(f"{log}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    until("the log never listened", reachable)
    assert post("witnessed") == 200 and post("witnessed") == 200
    for name in SERVICES:
        if name != "setup":
            until(f"{name} never became healthy", lambda name=name: topology.healthy(name))
    policy = Policy.parse((topology.data / "shared" / "policy.txt").read_bytes())
    met = policy.check(httpx.get(f"{log}/checkpoint").content)
    assert met.size == 2 and len(met.cosigners) >= 2

    # one of three away: entries still become witnessed; two away: they wait, and nothing is lost
    topology.stop("witness-a", signal.SIGKILL)
    assert post("witnessed") == 200
    topology.stop("witness-b", signal.SIGKILL)
    assert post("sequenced") == 200
    time.sleep(2)
    assert policy.check(httpx.get(f"{log}/checkpoint").content).size == 3
    # the log is killed with it, and comes back before its witnesses do
    topology.stop("log", signal.SIGKILL)
    topology.start("log")
    topology.start("witness-b", "witness-a")
    until("the log never came back", reachable)
    until("what waited was lost", lambda: policy.check(httpx.get(f"{log}/checkpoint").content).size == 4)
    topology.stop("mirror", signal.SIGKILL)
    assert post("witnessed") == 200
    topology.start("mirror")
    topology.stop("monitor", signal.SIGKILL)
    topology.start("monitor")
    for name in SERVICES:
        if name != "setup":
            until(f"{name} never became healthy again", lambda name=name: topology.healthy(name))
    digest = hashlib.sha256(policy.logs[0].key.name.encode()).hexdigest()
    copy = topology.url("mirror", 8102) + f"/{digest}"
    until("the mirror is behind", lambda: policy.check(httpx.get(f"{copy}/checkpoint").content).size == 5)
    status = ["monitor", "status", str(topology.data / "monitor" / "service")]
    until("the monitor saw no sound log of five entries", lambda: main(status) == 0 and monitored(topology) == 5)
    assert main(["fsck", copy, "--policy", str(topology.data / "shared" / "policy.txt")]) in (0, 4)
    for name in list(topology.processes):
        process = topology.processes[name]
        topology.stop(name)
        assert process.returncode in (0, -signal.SIGTERM, 143), (name, process.returncode)


def monitored(topology: Topology) -> float:
    """What the monitor's metrics say of the entries it checked."""
    text = httpx.get(topology.url("monitor", 9100) + "/metrics").text
    found = re.search(r"^plausible_monitor_entries\{[^}]*\} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found is not None else -1
