"""The documentation says what the program does: generated parts are current, examples run, links resolve."""

from __future__ import annotations

import importlib.util
import re
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


def test_the_python_example_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as printed, beside a ledger made as its comment says: same results as unwrapped, and on the record."""
    torch = pytest.importorskip("torch")
    from plausible.attribution.generators import make_generator, mlp, save_model_folder
    from plausible.cli.main import main
    from plausible.ledger import Ledger

    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert code is not None
    made_by = re.search(r"made by: pd (.*)", code[1])
    assert made_by is not None
    assert main(made_by[1].split()) == 0

    torch.manual_seed(0)
    config = {"latent": 8, "hidden": [16], "height": 16, "width": 16, "channels": 3}
    sampling = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
    module = mlp.build(config)
    save_model_folder(tmp_path / "faces", "faces", module, "mlp-decoder", config, sampling)
    with Ledger.open("studio.ledger") as ledger:
        ledger.register_model("faces", folder=tmp_path / "faces")
    unwrapped = make_generator("faces", module, "mlp-decoder", config, sampling).sample
    names: dict[str, Any] = {"generate": unwrapped}
    exec(compile(code[1], "README.md", "exec"), names)
    z = torch.randn(3, 8)
    assert torch.equal(names["generate"](z), unwrapped(z))
    names["ledger"].flush()
    assert len(list(names["ledger"].records())) == 3
    names["ledger"].close()


def field_names(document: type[Any]) -> set[str]:
    """Every JSON field name of a document and of the documents inside it."""
    schema = document.model_json_schema(by_alias=True)
    return {name for part in [schema, *schema.get("$defs", {}).values()] for name in part.get("properties", {})}


@pytest.mark.parametrize("page", ["record", "opening", "receipt", "report", "calibration", "copies"])
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
