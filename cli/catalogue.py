"""Which command lives where: the order and the headings of the help.

The modules imported here hold signatures and help texts only; what a command needs is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup

from . import (
    absence,
    archive,
    attribute,
    authorkeys,
    calibrate,
    config,
    conformance,
    contradiction,
    convert,
    custody,
    doctor,
    encoder,
    fsck,
    gc,
    hammer,
    init,
    keys,
    log,
    mirror,
    models,
    monitor,
    node,
    pack,
    policy,
    recover,
    replay,
    report,
    strength,
    transfer,
    vault,
    verify,
    witness,
)

RECORD, VERIFY, OPERATE = "Record", "Verify", "Operate"

# fixed, so that help reads the same in every terminal and in docs/cli.md
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `parts` is its name (two words inside a group), `summary` its line in the list."""

    parts: tuple[str, ...]
    heading: str
    summary: str
    function: Callable[..., None]


GROUPS: dict[str, tuple[str, str]] = {
    "models": (
        RECORD,
        "\b\n    pd models add faces/ --ledger studio.ledger\n\nGenerators: recorded, replayed, inverted.",
    ),
    "log": (RECORD, "\b\n    pd log list --ledger studio.ledger\n\nWhat the log says, and evidence cut out of it."),
    "vault": (RECORD, "\b\n    pd vault list --ledger studio.ledger\n\nThe private records behind the entries."),
    "keys": (
        RECORD,
        "\b\n    pd keys show author.key\n\nPrivate keys in files, and their public text.",
    ),
    "policy": (
        VERIFY,
        "\b\n    pd policy check --policy court.policy --authors authors.txt\n\nWhom to believe, in words.",
    ),
    "monitor": (
        OPERATE,
        "\b\n    pd monitor init watch\n    pd monitor add watch --policy a.policy\n\nA monitor, and what it follows.",
    ),
    "witness": (
        OPERATE,
        "\b\n    pd witness init notary --name witness.example/notary\n\nA witness: its key, and the logs it watches.",
    ),
    "mirror": (
        OPERATE,
        "\b\n    pd mirror init archive --name mirror.example/archive\n\nA mirror: its keys, and the logs it copies.",
    ),
    "conformance": (
        OPERATE,
        "\b\n    pd conformance witness URL --log-key test.key --witness VKEY\n\nProtocol cases for any server.",
    ),
    "node": (OPERATE, "\b\n    pd node serve studio.ledger\n\nServices that speak the log's protocols over HTTP."),
}

COMMANDS: tuple[Command, ...] = (
    Command(("init",), RECORD, "make a ledger", init.init),
    Command(("models", "add"), RECORD, "register a model", models.add),
    Command(("models", "list"), RECORD, "list the registered models", models.list_models),
    Command(("models", "show"), RECORD, "print a model's manifest", models.show),
    Command(("models", "verify"), RECORD, "check every tensor against what was logged", models.verify),
    Command(("models", "convert"), RECORD, "make a model folder of a published checkpoint", convert.convert),
    Command(("models", "train-encoder"), RECORD, "make an encoder for its inversions", encoder.train_encoder),
    Command(("models", "calibrate"), RECORD, "measure how near own and other pictures come", calibrate.calibrate),
    Command(("models", "strength"), RECORD, "show what its calibrations support", strength.strength),
    Command(("log", "list"), RECORD, "list entries of a log, near or far", log.list_entries),
    Command(("log", "show"), RECORD, "print one entry", log.show),
    Command(("log", "prove"), RECORD, "write a proof that an entry is in the log", log.prove),
    Command(("log", "open"), RECORD, "disclose fields of a record, provably", log.open_record),
    Command(("log", "epoch"), RECORD, "fix and publish the next seeds, or list epochs", log.epoch),
    Command(("log", "continue"), RECORD, "close a log and go on in a new one", log.continue_in),
    Command(("log", "checkpoint"), RECORD, "print the signed checkpoint and who vouches for it", log.checkpoint),
    Command(("log", "index"), RECORD, "recompute and sign the absence index", absence.sign_index),
    Command(("log", "archive"), RECORD, "list the kept checkpoints, and what dates an entry", archive.archive),
    Command(("vault", "list"), RECORD, "list the records that are here", vault.list_records),
    Command(("vault", "show"), RECORD, "print a whole record (private)", vault.show),
    Command(("vault", "erase"), RECORD, "delete a record for good", vault.erase),
    Command(("vault", "encrypt"), RECORD, "encrypt the records, or go on with it", custody.encrypt),
    Command(("vault", "rotate"), RECORD, "give an encrypted vault new keys", custody.rotate),
    Command(("vault", "status"), RECORD, "how the records are kept", custody.status),
    Command(("vault", "backup"), RECORD, "copy the records into one file, while they are written", custody.backup),
    Command(("vault", "restore"), RECORD, "put back records that are missing, replacing none", custody.restore),
    Command(("keys", "generate"), RECORD, "make a private key in a file", keys.generate),
    Command(("keys", "successor"), RECORD, "log which key may follow the author's", authorkeys.successor),
    Command(("keys", "rotate"), RECORD, "sign with a new author key from now on", authorkeys.rotate),
    Command(("keys", "revoke"), RECORD, "log that a former author key counts no more", authorkeys.revoke),
    Command(("keys", "rotate-log"), RECORD, "change the log's key by overlapping signatures", authorkeys.rotate_log),
    Command(("keys", "history"), RECORD, "what a log says about authors' keys", authorkeys.history),
    Command(("keys", "show"), RECORD, "print the verifier keys of key files", keys.show),
    Command(("verify",), VERIFY, "one verdict a picture, with every check behind it", verify.verify),
    Command(("replay",), VERIFY, "run the recorded call again and compare", replay.replay),
    Command(("attribute",), VERIFY, "which generator could have made it, by inversion alone", attribute.attribute),
    Command(("prove-absence",), VERIFY, "prove that a log does not hold a picture", absence.prove_absence),
    Command(
        ("verify-contradiction",), VERIFY, "check that a file proves a log false", contradiction.verify_contradiction
    ),
    Command(("report",), VERIFY, "render a report as one HTML file", report.report),
    Command(("pack",), VERIFY, "make one archive for a court", pack.pack),
    Command(("policy", "make"), VERIFY, "write a policy: which log, which witnesses, how many", policy.make),
    Command(("policy", "index"), VERIFY, "write an index policy: whose absence index", policy.index),
    Command(("policy", "authors"), VERIFY, "write an authors file: whose entries", policy.authors),
    Command(("policy", "show"), VERIFY, "say in words what such files mean", policy.show),
    Command(("policy", "check"), VERIFY, "say what a trust set-up means and where it is weak", policy.check),
    Command(("node", "serve"), OPERATE, "serve a ledger's public folder over HTTP", node.serve),
    Command(("node", "log-init"), OPERATE, "make a log that several authors write to", node.log_init),
    Command(("node", "log"), OPERATE, "run a log that several authors write to", node.log),
    Command(("node", "witness"), OPERATE, "cosign logs for others", node.witness),
    Command(("node", "monitor"), OPERATE, "follow logs, and keep evidence of what is false", monitor.run),
    Command(("monitor", "init"), OPERATE, "make a monitor", monitor.init),
    Command(("monitor", "add"), OPERATE, "follow a log", monitor.add),
    Command(("monitor", "status"), OPERATE, "how the last looks ended", monitor.status),
    Command(("monitor", "lift"), OPERATE, "follow a log again that was caught", monitor.lift),
    Command(("witness", "init"), OPERATE, "make a witness", witness.init),
    Command(("witness", "add"), OPERATE, "watch a log", witness.add),
    Command(("witness", "keys"), OPERATE, "accept other keys for a watched log", witness.change_keys),
    Command(("witness", "remove"), OPERATE, "watch a log no more", witness.remove),
    Command(("witness", "list"), OPERATE, "list the watched logs and what they were caught in", witness.list_logs),
    Command(("witness", "pull"), OPERATE, "watch the new logs of a published list", witness.pull),
    Command(("node", "mirror"), OPERATE, "copy logs, verified, and serve the copies", node.mirror),
    Command(("mirror", "init"), OPERATE, "make a mirror", mirror.init),
    Command(("mirror", "add"), OPERATE, "mirror a log", mirror.add),
    Command(("mirror", "keys"), OPERATE, "accept other keys for a mirrored log", mirror.change_keys),
    Command(("mirror", "remove"), OPERATE, "mirror a log no more", mirror.remove),
    Command(("mirror", "list"), OPERATE, "list the mirrored logs and what is wrong with them", mirror.list_logs),
    Command(("mirror", "push"), OPERATE, "send a log to a mirror", mirror.push),
    Command(("mirror", "pull"), OPERATE, "read each mirrored log once", mirror.pull),
    Command(("conformance", "log"), OPERATE, "run the cases of a log that takes entries", conformance.log),
    Command(("conformance", "witness"), OPERATE, "run the cases of tlog-witness", conformance.witness),
    Command(("conformance", "mirror"), OPERATE, "run the cases of tlog-mirror", conformance.mirror),
    Command(("fsck",), OPERATE, "re-derive everything a log stores and name what is false", fsck.fsck),
    Command(("recover",), OPERATE, "go on with a ledger that was restored from a backup", recover.recover),
    Command(("gc",), OPERATE, "delete partial tiles that full ones made needless", gc.gc),
    Command(("export",), OPERATE, "write a whole log into one file, verified", transfer.export),
    Command(("import",), OPERATE, "make a copy of a log from an export, verified first", transfer.import_),
    Command(("hammer",), OPERATE, "load on a log, every answer verified", hammer.hammer),
    Command(("doctor",), OPERATE, "what is installed, what is missing and what to do", doctor.doctor),
    Command(("config",), OPERATE, "the effective settings and where each came from", config.config),
)

ABOUT = """\b
    pd init studio.ledger --author models.example/studio
    pd verify image.png --policy court.policy --authors authors.txt

Say, with evidence, whether a generator of yours made a picture.

Record generations in a witnessed log; verify pictures against it; replay, find changed copies, and invert generators
where nothing was logged. The verdict is the exit code: 0 logged, 1 refuted, 3 inconclusive, 4 incomplete, 5 untrusted,
6 claimed, 10 derived, 11 attributed, 12 deniable; 2 wrong usage, 70 a bug, 130 interrupted.
"""


class Grouped(TyperGroup):
    """A group that lists its commands under their headings, in the order they were added."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            heading: Any = getattr(command, "rich_help_panel", None)
            rows = sections.setdefault(heading if isinstance(heading, str) else "Commands", [])
            rows.append((name, command.get_short_help_str(90)))
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


class Root(Grouped):
    """The program itself: typer registers groups after commands; here they stand where the catalogue puts them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the catalogue's order."""
        return list(dict.fromkeys(command.parts[0] for command in COMMANDS))


def _group(text: str, kind: type[TyperGroup] = Grouped) -> typer.Typer:
    return typer.Typer(
        cls=kind,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        from .main import version

        typer.echo(f"plausible-deniability {version()}")
        raise typer.Exit


def app() -> typer.Typer:
    """The program, with every command registered."""
    root = _group(ABOUT, Root)

    @root.callback(help=ABOUT)
    def _root(  # pyright: ignore[reportUnusedFunction]
        _version: bool = typer.Option(
            False, "--version", help="Print the version.", is_eager=True, callback=_show_version
        ),
    ) -> None: ...

    groups: dict[str, typer.Typer] = {}
    for command in COMMANDS:
        parent = root
        if len(command.parts) == 2:
            name = command.parts[0]
            if name not in groups:
                heading, text = GROUPS[name]
                groups[name] = _group(text)
                root.add_typer(groups[name], name=name, rich_help_panel=heading, short_help=_first_sentence(text))
            parent = groups[name]
        parent.command(
            command.parts[-1],
            rich_help_panel=command.heading if parent is root else None,
            short_help=command.summary,
            context_settings=CONTEXT,
        )(command.function)
    return root


def _first_sentence(text: str) -> str:
    """The first line of a group's help that is not part of its example."""
    prose = [line for line in text.splitlines() if line and not line.startswith((" ", "\b"))]
    return prose[0].rstrip(".")
