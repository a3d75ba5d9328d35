"""Write docs/cli.md from the program's own help: `python docs/make_cli.py` (`--check` only compares)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from plausible.cli.catalogue import COMMANDS, CONTEXT, GROUPS
from plausible.cli.main import command

PAGE = Path(__file__).resolve().parent / "cli.md"

HEAD = """# Command line

Written by `docs/make_cli.py` from `pd --help`; a test fails when it is stale. `pd` and `plausible` are one program, and
so is `python -m plausible.cli`.

Results go to stdout, everything else to stderr. `--json` gives one versioned document. Files are written under a
temporary name and renamed; nothing is overwritten without `--force`.

| exit code | meaning |
| --- | --- |
| 0 | done; of `pd verify`: `logged` |
| 1 | `refuted`; of `pd fsck`, `pd log archive`, `pd gc` and `pd hammer`: something is false |
| 2 | wrong usage |
| 3 | `inconclusive` |
| 4 | `incomplete`: something could not be read or run, or this machine lacks something |
| 5 | `untrusted`: well formed, but the policy is not met |
| 6, 10, 11, 12 | `claimed`, `derived`, `attributed`, `deniable` |
| 70 | a bug in this program; the traceback is in a file that the message names |
| 130 | interrupted; what was finished is kept |

Of several pictures the exit code is the worst, in the order 70, 1, 5, 4, 3, 11, 10, 6, 12, 0.
"""


def helps() -> list[tuple[str, str]]:
    """(full name, help text at 100 columns) of the program, each group and each command."""
    root: Any = command()
    width = {**CONTEXT, "terminal_width": 100}
    found = [("pd", root.get_help(root.context_class(root, info_name="pd", **width)))]
    groups = [(name,) for name in GROUPS]
    for parts in [*groups, *[c.parts for c in COMMANDS]]:
        context = root.context_class(root, info_name="pd", **width)
        here = root
        for part in parts:
            here = here.commands[part]
            context = here.context_class(here, info_name=part, parent=context, **width)
        found.append((" ".join(("pd", *parts)), here.get_help(context)))
    return found


def page() -> str:
    """The whole page."""
    sections = [HEAD]
    for name, text in helps():
        tidy = "\n".join(line.rstrip() for line in text.replace("\b", "").splitlines())
        sections.append(f"## {name}\n\n```\n{tidy.rstrip()}\n```\n")
    return "\n".join(sections)


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` return 1 if it differs."""
    text = page()
    if "--check" in arguments:
        return 0 if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
