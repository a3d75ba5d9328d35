"""The documentation says what the program does: generated parts are current, examples run, links resolve."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from plausible.cli.catalogue import ABOUT, COMMANDS, GROUPS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
SPEC = sorted((ROOT / "docs" / "spec").glob("*.md"))


def script(name: str) -> ModuleType:
    """A script of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_command_page_is_current() -> None:
    assert script("make_cli").page() == (ROOT / "docs" / "cli.md").read_text(), "run: python docs/make_cli.py"


@pytest.mark.parametrize("page", SPEC, ids=lambda page: page.name)
def test_spec_examples_are_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert script("make_spec").fill(text) == text, "run: python docs/make_spec.py"


@pytest.mark.parametrize("page", [page for page in SPEC if page.name != "README.md"], ids=lambda page: page.name)
def test_a_spec_page_begins_with_an_example(page: Path) -> None:
    """Example artefact first, then conventions, rules, vectors."""
    text = page.read_text(encoding="utf-8")
    first = re.search(r"^```|^ {4}\S", text, re.MULTILINE)
    heading = re.search(r"^## ", text, re.MULTILINE)
    assert first is not None
    assert heading is not None
    assert first.start() < heading.start()
    assert (ROOT / "docs" / "spec" / "README.md").read_text().count(f"({page.name})") == 1


@pytest.mark.parametrize("name", [*(" ".join(c.parts) for c in COMMANDS), *GROUPS, "pd"])
def test_help_starts_with_an_example(name: str) -> None:
    texts = {
        **{" ".join(c.parts): c.function.__doc__ or "" for c in COMMANDS},
        **{group: text for group, (_, text) in GROUPS.items()},
        "pd": ABOUT,
    }
    marker, *example = texts[name].split("\n\n", maxsplit=1)[0].splitlines()
    assert marker == "\b"
    wanted = "pd " if name == "pd" else f"pd {name}"
    assert any(line.strip().startswith(wanted) for line in example), example


@pytest.mark.parametrize("name", [" ".join(c.parts) for c in COMMANDS])
def test_a_command_names_its_python_equal(name: str) -> None:
    """...and what it names exists."""
    function = next(c.function for c in COMMANDS if " ".join(c.parts) == name)
    found = re.search(r"^ *Python: (plausible(?:\.\w+)+)$", function.__doc__ or "", re.MULTILINE)
    assert found is not None
    parts = found[1].split(".")
    for cut in range(len(parts) - 1, 1, -1):
        module = ".".join(parts[:cut])
        try:
            present = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            present = False
        if present:
            thing: object = importlib.import_module(module)
            for part in parts[cut:]:
                thing = getattr(thing, part)
            return
    pytest.fail(f"{found[1]} does not exist")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_resolve(page: Path) -> None:
    """Relative links, to the file and to its heading; addresses elsewhere are not visited."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    wrong: list[str] = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong, wrong


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An empty folder with the model folder `faces/`, and the names the README's Python starts from."""
    torch = pytest.importorskip("torch")
    from plausible.attribution.generators import mlp, save_model_folder

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = {"latent": 8, "hidden": [16], "height": 16, "width": 16, "channels": 3}
    sampling = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
    generator = save_model_folder(tmp_path / "faces", "faces", mlp.build(config), "mlp-decoder", config, sampling)
    return {"generate": generator.sample}


def readme_python() -> str:
    """The Python example, as printed."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    return code[1]


def readme_commands() -> list[list[str]]:
    """The `pd` lines of "A first look", in order."""
    look = (ROOT / "README.md").read_text().split("## A first look")[1].split("\n## ")[0]
    return [shlex.split(line, comments=True)[1:] for line in re.findall(r"^    (pd .*)$", look, re.MULTILINE)]


def test_the_python_example_of_the_readme(studio: dict[str, Any]) -> None:
    """Beside a ledger made as its comment says: same results as unwrapped, and on the record."""
    import torch
    from plausible.cli.main import main
    from plausible.ledger import Ledger

    made_by = re.search(r"made by: pd (.*)", readme_python())
    assert made_by is not None
    assert main(made_by[1].split()) == 0
    with Ledger.open("studio.ledger") as ledger:
        ledger.register_model("faces", folder="faces")
    unwrapped = studio["generate"]
    exec(compile(readme_python(), "README.md", "exec"), studio)
    z = torch.randn(3, 8)
    assert torch.equal(studio["generate"](z), unwrapped(z))
    studio["ledger"].close()
    with Ledger.open("studio.ledger", mode="read") as ledger:
        assert len(list(ledger.records())) == 3


def test_the_commands_of_the_readme(studio: dict[str, Any]) -> None:
    """As printed, one after the other; the auditor's, who has no weights, ends `claimed`."""
    import PIL.Image
    import torch
    from plausible.cli.main import main

    init, add, *later = readme_commands()
    assert len(later) == 5
    assert main(init) == 0
    assert main(add) == 0
    exec(compile(readme_python(), "README.md", "exec"), studio)
    PIL.Image.fromarray(studio["generate"](torch.randn(1, 8))[0].numpy()).save("face.png")
    studio["ledger"].close()
    shutil.copy("studio.ledger/policy.txt", "court.policy")
    shutil.copy("studio.ledger/authors.txt", "authors.txt")
    codes = [main(command) for command in later]
    assert codes == [0, 0, 0, 0, 6]


def field_names(document: type[Any]) -> set[str]:
    """Every JSON field name of a document and of the documents inside it."""
    schema = document.model_json_schema(by_alias=True)
    return {name for part in [schema, *schema.get("$defs", {}).values()] for name in part.get("properties", {})}


@pytest.mark.parametrize("page", ["record", "opening", "receipt", "report", "calibration", "copies", "attribution"])
def test_every_field_name_stands_in_its_page(page: str) -> None:
    """Formats cannot change later: what is stored was specified before."""
    from plausible.schemas.calibration import CalibrationDocument
    from plausible.schemas.generate import DOCUMENTS

    documents = {**DOCUMENTS, "calibration": CalibrationDocument}
    text = (ROOT / "docs" / "spec" / f"{page}.md").read_text(encoding="utf-8")
    missing = sorted(
        name for name in field_names(documents[page]) if f"`{name}`" not in text and f'"{name}"' not in text
    )
    assert not missing


def test_every_field_name_of_a_contradiction_stands_in_its_page() -> None:
    from plausible.schemas.contradiction import KINDS

    text = (ROOT / "docs" / "spec" / "contradiction.md").read_text(encoding="utf-8")
    names = {name for model in KINDS.values() for name in field_names(model)} | set(KINDS)
    assert not sorted(name for name in names if f"`{name}`" not in text and f'"{name}"' not in text)
