"""`pd config`: the effective settings and where each came from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import output, settings


def config(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """\b
        pd config
        PD_POLICY=court.policy pd config --json

    Show every setting, its value and where it came from.

    A flag wins over the environment (PD_LEDGER, PD_POLICY, ...), that over plausible.toml in the current folder, that
    over config.toml in the user's configuration folder, that over the default. A relative path in a file is relative to
    that file.

    Python: plausible.cli.settings.effective
    """
    effective = settings.effective()
    if as_json:
        output.document(
            "plausible.config/1",
            {
                "files": {"project": str(settings.project_file()), "user": str(settings.user_file())},
                "settings": {
                    name: {"value": _plain(found.value), "source": found.source} for name, found in effective.items()
                },
            },
        )
        return
    output.table(
        ("setting", "value", "from"), [(name, _text(found), found.source) for name, found in effective.items()]
    )


def _text(found: settings.Value) -> str:
    value = _plain(found.value)
    return (" ".join(value) if isinstance(value, list) else value) or "-"


def _plain(value: Any) -> str | list[str] | None:
    if isinstance(value, tuple):
        return [str(word) for word in value]  # pyright: ignore[reportUnknownArgumentType]
    return None if value is None else str(value)
