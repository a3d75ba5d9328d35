"""The wheel: only `plausible` at the top, every module in it, and `pd` runs from it without the source tree."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("schemas", "ledger", "attribution", "node", "cli")


def packages() -> dict[str, Path]:
    """Package name -> folder, for every folder with an `__init__.py` inside a room."""
    found = {path.parent for room in ROOMS for path in (ROOT / room).rglob("__init__.py")}
    return {".".join(("plausible", *folder.relative_to(ROOT).parts)): folder for folder in sorted(found)}


def test_pyproject_lists_every_package() -> None:
    """Packages are listed by hand, since discovery cannot follow the mapping: a forgotten one is not shipped."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert sorted(settings["packages"]) == sorted(packages())
    assert {name: ROOT / folder for name, folder in settings["package-dir"].items()} == packages()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that no stale build folder takes part."""
    pytest.importorskip("setuptools")
    source = tmp_path_factory.mktemp("source")
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
    target = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-c", build, str(target)], cwd=source, check=True, capture_output=True)
    return next(target.glob("*.whl"))


def test_only_plausible_at_the_top_and_every_module_inside(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"plausible"}
    assert "plausible/__init__.py" not in names
    for package, folder in packages().items():
        for module in folder.glob("*.py"):
            assert f"{package.replace('.', '/')}/{module.name}" in names
        for data in [*folder.glob("py.typed"), *folder.glob("json/*.json"), *folder.glob("templates/*")]:
            assert f"{package.replace('.', '/')}/{data.relative_to(folder).as_posix()}" in names


def test_pd_runs_from_the_wheel_in_a_bare_environment(wheel: Path, tmp_path: Path) -> None:
    """Installed without dependencies beside a .pth that shows them: nothing comes from this source tree."""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(bare), "install", "-q", "--disable-pip-version-check"]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, env=environment)
    library = Path(sysconfig.get_path("purelib", "venv", {"base": str(bare), "platbase": str(bare)}))
    # only the packages: an editable install of this very project in there must not answer for the wheel
    shown = tmp_path / "dependencies"
    shown.mkdir()
    for folder in site.getsitepackages():
        for entry in Path(folder).iterdir():
            if "plausible" not in entry.name and entry.suffix != ".pth" and not (shown / entry.name).exists():
                (shown / entry.name).symlink_to(entry)
    (library / "dependencies.pth").write_text(f"{shown}\n")
    for script in ("pd", "plausible"):
        answer = subprocess.run(  # noqa: PLW1510  the return code is what is looked at
            [str(bare / "bin" / script), "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stderr
        assert "Operate" in answer.stdout
    where = subprocess.run(
        [str(bare / "bin" / "python"), "-c", "import plausible.ledger as m; print(m.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(library)
