"""Schemathesis over docs/openapi against running services: every answer is one that the documents name.

    python -m benchmarks.node.contract --st build/schemathesis/bin/st       # `make contract` installs it
    python -m benchmarks.node.contract --st ... -n 2000 --service log

Each service is a process of its own (`pd node ...`) that holds something. Schemathesis is an environment of its own and
another process. Its requests come from the documents alone; `benchmarks.node.fuzz` sends what bends valid ones. Exit 1
if it finds anything, or if the service ends.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.node.targets import DOCUMENTS, TARGETS

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "openapi"
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", "allow_header_conformance",
)  # fmt: skip


def run(st: Path, service: str, examples: int) -> int:
    """One service; 0 if nothing was found."""
    with tempfile.TemporaryDirectory(prefix="plausible-contract-") as folder, TARGETS[service](Path(folder)) as target:
        document, address = FOLDER / f"{DOCUMENTS[service]}.json", f"http://127.0.0.1:{target.port}"
        command = [
            str(st.absolute()), "run", str(document), "--url", address,
            "--checks", ",".join(CHECKS), "--max-examples", str(examples), "--phases", "coverage,fuzzing",
            "--seed", "1", "--request-timeout", "30", "--continue-on-failure",
            "--warnings", "off", "--suppress-health-check", "all",
        ]  # fmt: skip
        status = subprocess.run(command, cwd=folder, check=False).returncode
        if target.process.poll() is not None:
            print(f"{service} ended with exit code {target.process.returncode}")
            return 1
        if b"Traceback (most recent call last)" in (told := target.told.read_bytes()):
            print(told.decode("utf-8", "replace")[-4000:])
            return 1
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all; 1 if anything was found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--st", type=Path, required=True, help="the st command of Schemathesis")
    options.add_argument("-n", type=int, default=1000, help="generated requests for each operation at most")
    options.add_argument("--service", choices=list(TARGETS), action="append", help="default: all")
    given = options.parse_args(arguments)
    found = [service for service in given.service or TARGETS if run(given.st, service, given.n)]
    print(f"found something: {', '.join(found)}" if found else "nothing was found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
