"""What operators see of a service: metrics on an address of their own, log lines, and nothing of what was asked."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
from plausible.cli.main import main
from plausible.node.logs import logging_to
from plausible.node.metrics import Gauge, Metrics, parse_address
from plausible.schemas.errors import SetupError, UsageError

from tests.ledger.falselog import LOG, Chain, FalseLog, forged


@contextlib.contextmanager
def service(log: Path, *command: str, lines: int = 2, **settings: str) -> Generator[list[str]]:
    """A service as a process: its first lines; all it says on standard error is in `log` at the end."""
    environment = {**os.environ, "PD_METRICS": "127.0.0.1:0", "PD_PORT": "0", **settings}
    process = subprocess.Popen(
        [sys.executable, "-m", "plausible.cli", "node", *command],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        yield [process.stderr.readline() for _ in range(lines)]
    finally:
        process.send_signal(signal.SIGTERM)
        log.write_text(process.stderr.read())
        process.stderr.close()
        process.wait(30)


def metrics(line: str) -> str:
    """What a scrape gives, by the line that names the address."""
    found = re.search(r"on (\S+) port (\d+)", line)
    assert found is not None, line
    answer = httpx.get(f"http://{found[1]}:{found[2]}/metrics")
    assert answer.status_code == 200
    return answer.text


def value(text: str, name: str) -> float:
    """The value of one metric, by its name and labels."""
    return float(next(line for line in text.split("\n") if line.startswith(name)).rsplit(" ", 1)[1])


def test_a_witness_counts_and_logs_its_requests_and_not_what_is_in_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, log = tmp_path / "w", tmp_path / "log"
    assert main(["witness", "init", str(folder), "--name", "w.example/w", "--no-guard"]) == 0
    assert main(["witness", "add", str(folder), LOG.verifier.encode()]) == 0
    secret = "ab" * 32
    with service(log, "witness", str(folder), PD_LOG_FORMAT="json", PD_LOG_LEVEL="info") as lines:
        told, ready = lines
        url = ready.split(" at ")[1].split(";")[0]
        assert httpx.get(f"{url}/{secret}/checkpoint?who={secret}").status_code == 404
        assert httpx.post(f"{url}/add-checkpoint", content=b"prompt: nobody may read this").status_code == 400
        assert httpx.get(f"{url}/nothing/here/{secret}").status_code == 404
        assert httpx.get(f"{url}/metrics").status_code == 404  # never where strangers ask
        text = metrics(told)
    assert value(text, 'plausible_requests_total{method="GET",route="/{digest}/checkpoint",status="404"}') == 1
    assert value(text, 'plausible_requests_total{method="POST",route="/add-checkpoint",status="400"}') == 1
    assert value(text, 'plausible_requests_total{method="GET",route="none",status="404"}') == 2
    assert value(text, "plausible_witness_logs") == 1 and value(text, "plausible_witness_frozen") == 0
    assert value(text, 'plausible_service_info{service="witness"') == 1
    assert value(text, "plausible_requests_in_flight") == 0
    said = log.read_text()
    requests = [json.loads(line) for line in said.splitlines() if '"request"' in line]
    assert [(one["route"], one["status"]) for one in requests] == [
        ("/{digest}/checkpoint", 404), ("/add-checkpoint", 400), ("none", 404), ("none", 404),
    ]  # fmt: skip
    assert all(one["service"] == "witness" and one["time"].endswith("Z") for one in requests)
    assert secret not in said + text and "prompt" not in said + text and "127.0.0.1" not in "".join(map(str, requests))


def test_a_monitor_says_how_its_looks_ended(tmp_path: Path) -> None:
    log = FalseLog(tmp_path / "log")
    log.grow([forged(Chain().leaf())])
    policy = tmp_path / "policy"
    policy.write_text(f"log {LOG.verifier}\nquorum none\n")
    assert main(["monitor", "init", str(tmp_path / "m")]) == 0
    assert main(["monitor", "add", str(tmp_path / "m"), "--policy", str(policy), "--url", str(log.folder)]) == 0
    with service(tmp_path / "said", "monitor", str(tmp_path / "m"), lines=3) as lines:
        assert lines[2].startswith(LOG.name), lines
        text = metrics(lines[1])
    at = f'{{origin="{LOG.name}"}}'
    assert value(text, f"plausible_monitor_exit_code{at}") == 1
    assert value(text, f"plausible_monitor_entries{at}") == 1
    assert value(text, f"plausible_monitor_found{at}") == 1
    assert value(text, f"plausible_monitor_last_sound_time_seconds{at}") == 0
    assert value(text, f"plausible_monitor_last_look_time_seconds{at}") > 1_700_000_000


def test_what_a_service_cannot_say_is_a_metric_too() -> None:
    def gauges() -> Generator[Gauge]:
        yield Gauge("first", "Help.", 1.0)
        raise SetupError("the state is away")

    made = Metrics("x", "1", gauges)
    with made.serve("127.0.0.1", 0) as port:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert value(text, "plausible_first") == 1 and value(text, "plausible_metrics_failed") == 1


def test_a_line_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("plausible.test")
    for kind in ("json", "text"):
        out = io.StringIO()
        with logging_to("log", kind=kind, level="info", stream=out):
            logger.info("a\nb \x1b[31m %s", "c\u202e", extra={"fields": {"origin": "o", "level": "forged"}})
            logger.debug("not this")
        lines = out.getvalue().splitlines()
        assert len(lines) == 1
        if kind == "json":
            assert json.loads(lines[0])["level"] == "info" and json.loads(lines[0])["origin"] == "o"
        assert "\x1b" not in out.getvalue() and "\u202e" not in out.getvalue() and "not this" not in out.getvalue()
    with pytest.raises(UsageError), logging_to("log", kind="xml"):
        pass


def test_an_address() -> None:
    assert parse_address("9100") == ("127.0.0.1", 9100)
    assert parse_address("[::1]:9100") == ("::1", 9100)
    assert parse_address("0.0.0.0:1") == ("0.0.0.0", 1)
    for bad in ("", "host", "host:", "host:x", "host:70000", "host:-1"):
        with pytest.raises(SetupError):
            parse_address(bad)
