"""Telling a person: the operator's command, with the path of an evidence file as its last argument.

No shell, no input, a time limit, and its whole process group ends with it. It is run again at the next look if it
failed, ten times in all; what it prints goes to this program's standard error. Names of logs reach it only inside the
file, so a log cannot choose its arguments.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

MAX_TRIES = 10


def run_hook(command: Sequence[str], argument: str, seconds: float) -> str | None:
    """Run the command; None if it ended with 0 within `seconds`, else what went wrong."""
    try:
        process = subprocess.Popen(
            [*command, argument], stdin=subprocess.DEVNULL, stdout=2, stderr=2, close_fds=True, start_new_session=True
        )
    except (OSError, ValueError) as error:
        return f"the hook {command[0]} cannot be run: {error}"
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"the hook {command[0]} took longer than {seconds:g} seconds and was ended"
    return None if code == 0 else f"the hook {command[0]} ended with {code}"
