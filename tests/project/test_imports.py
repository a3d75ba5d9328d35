"""Rooms keep to their walls: who imports whom, nothing heavy where it must not be, and a fast `pd --help`.

Read from the syntax tree, so a forbidden import is found even in a branch no test takes.
"""

from __future__ import annotations

import ast
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("schemas", "ledger", "attribution", "node", "cli")
EVERYTHING = frozenset(ROOMS)
# at module level, and inside functions
MAY_IMPORT: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "schemas": (frozenset(), frozenset()),
    "ledger": (frozenset({"schemas"}), frozenset({"schemas"})),
    "attribution": (frozenset({"schemas", "ledger"}), frozenset({"schemas", "ledger"})),
    "node": (frozenset({"schemas", "ledger"}), frozenset({"schemas", "ledger", "attribution"})),
    "cli": (frozenset({"schemas"}), EVERYTHING),
}
NO_TORCH_AT_MODULE_LEVEL = ("schemas", "ledger", "node", "cli")
NOT_IN_CLI_AT_MODULE_LEVEL = ("torch", "numpy", "fastapi", "uvicorn", "pydantic", "httpx", "PIL", "jinja2", "rich")


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, `torch.nn` or `plausible.ROOM...`, and whether it is imported when the module loads."""

    module: str
    line: int
    at_load: bool


def modules(room: str) -> list[Path]:
    """The Python files of a room."""
    return sorted(path for path in (ROOT / room).rglob("*.py"))


def imports(source: str, package: tuple[str, ...]) -> Iterator[Import]:
    """Every import of a module that lies in `package` (for instance ("plausible", "ledger", "recorder"))."""

    def walk(node: ast.AST, at_load: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_load)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield Import(node.module or "", node.lineno, at_load)
            else:
                base = package[: len(package) - node.level + 1]
                if node.module:
                    yield Import(".".join((*base, node.module)), node.lineno, at_load)
                else:
                    for alias in node.names:
                        yield Import(".".join((*base, alias.name)), node.lineno, at_load)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                yield from walk(child, at_load)
        else:
            inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for child in ast.iter_child_nodes(node):
                yield from walk(child, at_load and not inside)

    yield from walk(ast.parse(source), True)


def of_room(room: str) -> Iterator[tuple[Path, Import]]:
    """Every import of every module of a room."""
    for path in modules(room):
        package = ("plausible", *path.relative_to(ROOT).parent.parts)
        for found in imports(path.read_text(encoding="utf-8"), package):
            yield path.relative_to(ROOT), found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    at_load, anywhere = MAY_IMPORT[room]
    wrong: list[str] = []
    for path, found in of_room(room):
        parts = found.module.split(".")
        if parts[0] != "plausible" or len(parts) < 2 or parts[1] == room:
            continue
        if parts[1] not in (at_load if found.at_load else anywhere):
            wrong.append(f"{path}:{found.line} imports {found.module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", ROOMS)
def test_product_code_reaches_other_rooms_relatively(room: str) -> None:
    """By `plausible.X` pyright cannot follow it; by `X` alone the module would load as a second copy."""
    wrong = [
        f"{path}:{found.line} imports {found.module}"
        for path in modules(room)
        for found in imports(path.read_text(encoding="utf-8"), ("relative",) * 9)
        if found.module.split(".")[0] in (*ROOMS, "plausible")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", ["tests", "examples", "benchmarks"])
def test_no_bare_room_names_outside_the_rooms(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.module}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for found in imports(path.read_text(encoding="utf-8"), ("relative",) * 9)
        if found.module.split(".")[0] in ROOMS
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", NO_TORCH_AT_MODULE_LEVEL)
def test_no_torch_when_the_module_loads(room: str) -> None:
    wrong = [
        f"{path}:{found.line}"
        for path, found in of_room(room)
        if found.at_load and found.module.split(".")[0] == "torch"
    ]
    assert not wrong, "\n".join(wrong)


def test_the_command_line_loads_nothing_heavy() -> None:
    wrong = [
        f"{path}:{found.line} imports {found.module}"
        for path, found in of_room("cli")
        if found.at_load and found.module.split(".")[0] in NOT_IN_CLI_AT_MODULE_LEVEL
    ]
    assert not wrong, "\n".join(wrong)


def test_there_is_no_module_at_the_namespace_itself() -> None:
    """PEP 420: a `plausible/__init__.py` would shut the namespace for everything that shares it."""
    assert not (ROOT / "plausible").exists()
    assert not (ROOT / "__init__.py").exists()


def test_the_scanner_finds_what_it_must() -> None:
    """The rules above are only as good as the scanner."""
    source = "import torch\nfrom ..schemas.jcs import x\nfrom .. import node\ndef f():\n    from ...cli import y\n"
    found = list(imports(source, ("plausible", "ledger", "recorder")))
    assert [(f.module, f.at_load) for f in found] == [
        ("torch", True),
        ("plausible.ledger.schemas.jcs", True),
        ("plausible.ledger.node", True),
        ("plausible.cli", False),
    ]


# help of the commands given (an empty one is the program itself), in one process
_PROBE = """
import contextlib, io, json, sys
from plausible.cli import catalogue
from plausible.cli.main import main
known = [(), *[(name,) for name in catalogue.GROUPS], *[c.parts for c in catalogue.COMMANDS]]
lengths = {}
for parts in known if sys.argv[1] == "all" else [()]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main([*parts, "--help"])
    lengths[" ".join(parts)] = len(out.getvalue()) if code == 0 else -1
print(json.dumps([lengths, sorted({name.split(".")[0] for name in sys.modules})]))
"""
HEAVY = {"torch", "numpy", "fastapi", "uvicorn", "PIL", "httpx", "scipy", "matplotlib", "cryptography", "jinja2"}


def test_help_loads_nothing_heavy() -> None:
    lengths, loaded = run_probe("one")
    assert list(lengths.values()) > [100]
    assert sorted((HEAVY | {"pydantic"}) & set(loaded)) == []


def test_no_command_loads_anything_heavy_for_its_help() -> None:
    """Typer itself takes pydantic as soon as there is a value to convert; everything else stays out."""
    lengths, loaded = run_probe("all")
    assert len(lengths) > 2
    assert all(length > 100 for length in lengths.values()), lengths
    assert sorted(HEAVY & set(loaded)) == []


def run_probe(which: str) -> tuple[dict[str, int], list[str]]:
    """Lengths of the help texts by command, and the top-level modules loaded by printing them."""
    answer = subprocess.run([sys.executable, "-c", _PROBE, which], capture_output=True, text=True, check=True)
    lengths, loaded = json.loads(answer.stdout)
    return lengths, loaded


def test_help_answers_in_half_a_second() -> None:
    """The whole process, start of Python included. Processor time, best of three: other work may share the machine."""
    times: list[float] = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "plausible.cli", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(times) < 0.5, times
