"""The program `pd` (and `plausible`): groups of the help, exit codes, and what a person sees when something fails.

Exit codes are the verdicts' (`schemas.verdict`); of the errors: `UsageError` 2, `PolicyError` 5, every other error of
the project and of the operating system 4 (`incomplete`), a bug 70 with its traceback in a file, Ctrl-C 130. A message
is one sentence on stderr; a traceback never reaches the terminal.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import typer

from ..schemas.errors import PlausibleError, PolicyError, UsageError
from . import catalogue, output

INCOMPLETE, UNTRUSTED, USAGE, BUG, INTERRUPTED = 4, 5, 2, 70, 130

# typer carries its own copy of click from 0.16 on and uses the installed one before: take the class by ancestry
_ClickUsageError: type[Exception] = typer.BadParameter.__mro__[1]
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]


def command() -> Any:
    """The whole command tree, built."""
    return typer.main.get_command(catalogue.app())


def main(argv: list[str] | None = None) -> int:
    """Run `pd` with `argv` (default: the process's) and return the exit code; never raises."""
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader went away (`pd log list | head`): not our failure, and Python must not complain at exit
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _run(argv: list[str] | None) -> int:
    try:
        code = command().main(args=argv, prog_name="pd", standalone_mode=False)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # typer turns a closed stdout into exit code 1
            raise BrokenPipeError from None
        return error.code if isinstance(error.code, int) else 0
    except BrokenPipeError:
        raise
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except _ClickException as error:
        return _click_error(error)
    except PlausibleError as error:
        output.note(f"pd: {error}")
        return exit_code(error)
    except MemoryError:
        output.note("pd: out of memory; try a smaller budget, fewer candidates or a smaller picture")
        return INCOMPLETE
    except OSError as error:
        output.note(f"pd: {describe_os_error(error)}")
        return INCOMPLETE
    except Exception as error:  # noqa: BLE001  the boundary: a bug becomes exit code 70 and a file
        return report_bug(error)
    if code == INTERRUPTED:
        return _interrupted()
    return code if isinstance(code, int) else 0


def exit_code(error: PlausibleError) -> int:
    """The exit code of an error of the project that no verdict absorbed."""
    if isinstance(error, UsageError):
        return USAGE
    return UNTRUSTED if isinstance(error, PolicyError) else INCOMPLETE


def describe_os_error(error: OSError) -> str:
    """One sentence: which file, and what the operating system says."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _interrupted() -> int:
    output.note("pd: interrupted; what was finished is kept")
    return INTERRUPTED


def _click_error(error: Exception) -> int:
    if isinstance(error, _ClickUsageError):
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
            output.note(context.get_help())
            return USAGE
        message: str = error.format_message()  # type: ignore[attr-defined]
        path = context.command_path if context is not None else "pd"
        output.note(f"pd: {message.rstrip('.')}; see `{path} --help`")
        return USAGE
    message = error.format_message()  # type: ignore[attr-defined]
    output.note(f"pd: {message}")
    return USAGE


def report_bug(error: Exception, what: str = "") -> int:
    """Keep the traceback in a file and say where; the file names the versions, the command line, no locals.

    Returns the exit code of a bug; `what` says what was being worked on.
    """
    import platform
    import tempfile
    import traceback
    from datetime import UTC, datetime

    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    text = "\n".join(
        [
            f"plausible-deniability {version()}, Python {platform.python_version()}, {platform.platform()}",
            f"command: {sys.argv}",
            "".join(traceback.format_exception(error)),
        ]
    )
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "plausible"
    where = "nowhere (no folder could be written)"
    for folder in (state, Path(tempfile.gettempdir())):
        path = folder / f"crash-{stamp}-{os.getpid()}.txt"
        try:
            output.write_file(path, text.encode("utf-8", "backslashreplace"), force=True, mode=0o600)
        except PlausibleError:
            continue
        where = str(path)
        break
    about = f" with {what}" if what else ""
    output.note(f"pd: internal error{about} ({type(error).__name__}); the traceback is in {where}")
    return BUG


def version() -> str:
    """The installed distribution's version, or `unknown` when run from a source tree."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("plausible-deniability")
    except PackageNotFoundError:
        return "unknown (not installed)"
