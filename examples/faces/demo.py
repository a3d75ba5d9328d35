"""The project's main job on a real face generator, end to end: record, then answer for every kind of picture.

    python -m examples.faces.demo [--out DIR] [--faces N]

A developer's ledger with three witnesses and a 2-of-3 policy is made, the generator is registered (`model:v1`),
its `generate()` is wrapped and called until 64 faces are on the record. Then an auditor verifies 14 probes; one table
is printed. Exit 1 if any verdict is not the expected one.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Generator as Yields
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from plausible.attribution.calibration.document import UNPROCESSED_FAILURE, load_calibrations
from plausible.attribution.calibration.measure import OWN, Job, own_picture, run_job
from plausible.attribution.generators import Generator, load_model_folder
from plausible.attribution.inversion import ENGINE_VERSION
from plausible.attribution.verifier import Options, Report, Verifier
from plausible.ledger import Ledger
from plausible.ledger.entries.images import read_image
from plausible.schemas import jcs
from plausible.schemas.errors import PlausibleError, SetupError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .clone import clone_generator
from .fetch import CACHE, model_folder
from .probes import Probe, write

ROOT = Path(__file__).resolve().parents[2]
CALIBRATIONS = Path(__file__).resolve().parent / "calibrations"
AUTHOR = "models.example/studio"
WITNESSES = ("law-firm.example/witness", "ngo.example/witness", "press.example/witness")
BATCH = 8
LOGGED_FACE = 17
FRESH_SEED = 20_261_121
CLONE_SEED = 1
RECHECKED = 5

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    probe: Probe
    report: Report
    seconds: float

    @property
    def as_expected(self) -> bool:
        return self.report.verdict in self.probe.expected and self._right_model()

    def _right_model(self) -> bool:
        """An attribution must name the clone where the clone made the picture, and the original elsewhere."""
        name = self.report.decision.model_name
        return name is None or (name == "faces-clone") == self.probe.clone_registered

    @property
    def verdict(self) -> str:
        name = self.report.decision.model_name
        return f"{self.report.verdict} ({name})" if name else str(self.report.verdict)


@contextmanager
def step(text: str) -> Yields[None]:
    """Say what is being done, and how long it took."""
    began = time.monotonic()
    console.print(f"[dim]…[/] {text}")
    yield
    console.print(f"[green]OK[/] {text} [dim]{time.monotonic() - began:.1f} s[/]")


def studio(folder: Path, faces: int) -> list[NDArray[np.uint8]]:
    """The developer's side: a ledger, a registered model, a wrapped `generate()`, and `faces` recorded pictures."""
    model = folder / "faces"
    shutil.copytree(model_folder(), model)
    (model / "calibrations").mkdir(exist_ok=True)
    for path in CALIBRATIONS.glob("*.json"):
        shutil.copy(path, model / "calibrations" / path.name)
    generator = load_model_folder(model, name="faces")

    def generate(z: torch.Tensor) -> list[Image.Image]:
        return [Image.fromarray(picture) for picture in generator.sample(z).numpy()]

    made: list[Image.Image] = []
    with Ledger.init(folder / "studio.ledger", author=AUTHOR, witnesses=WITNESSES, policy=2) as ledger:
        ledger.register_model("faces", folder=model)
        recorded = ledger.wrap(generate, model="faces", latent="z")
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("faces on the record", total=faces)
            while len(made) < faces:
                made += recorded(min(BATCH, faces - len(made)))  # how many; the latents are drawn from committed seeds
                bar.update(task, completed=len(made))
        ledger.flush("witnessed")
    return [np.asarray(image) for image in made]


def edited_copy(folder: Path, picture: Path) -> None:
    """The same ledger after somebody changed one character of that picture's entry, in the served bundle."""
    with Ledger.open(folder / "studio.ledger", mode="read") as ledger:
        leaf = ledger.entry(ledger.find(pixels=read_image(picture).pixel_digest)[0])
    at = leaf.rindex(b'"sig":"') + 20
    edited = leaf[:at] + (b"B" if leaf[at : at + 1] == b"A" else b"A") + leaf[at + 1 :]
    shutil.copytree(folder / "studio.ledger", folder / "edited.ledger")
    (folder / "edited.ledger" / "lookup.db").unlink(missing_ok=True)  # derived: it comes back from what is served
    for bundle in (folder / "edited.ledger" / "public" / "tile" / "entries").rglob("*"):
        if bundle.is_file():
            bundle.write_bytes(bundle.read_bytes().replace(leaf, edited))


def recheck(model: Path, generator: Generator) -> None:
    """Measure some rows of the shipped calibration again; `SetupError` if they do not come out alike."""
    calibrations = [c for c in load_calibrations(model) if "unprocessed" in c.classes and c.engine == ENGINE_VERSION]
    if not calibrations:
        raise SetupError(
            "examples/faces/calibrations holds no calibration: run "
            "python -m benchmarks.attribution.calibrate --copy examples/faces/calibrations"
        )
    calibration = calibrations[0]
    rows = calibration.document.classes["unprocessed"].own
    with Progress(console=console, transient=True) as bar:
        for row in bar.track(rows[:: max(1, len(rows) // RECHECKED)][:RECHECKED], description="re-checking"):
            again = run_job(Job("unprocessed", OWN, str(row.seed), row.seed), generator, calibration.budget)
            before = float(jcs.unwrap_number(row.residual))
            if (before <= UNPROCESSED_FAILURE) != (again.residual <= UNPROCESSED_FAILURE):
                raise SetupError(
                    f"calibration sample {row.seed} came out at {again.residual:.2e}, the shipped row says {before:.2e}"
                )


def verify_all(folder: Path, probes: list[Probe], clone: Path) -> list[Row]:
    """The auditor's side: every probe under the 2-of-3 policy and the pinned authors that the auditor holds."""
    policy = (folder / "studio.ledger" / "policy.txt").read_bytes()
    authors = (folder / "studio.ledger" / "authors.txt").read_bytes()
    rows: list[Row] = []
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("verifying", total=len(probes))
        for probe in probes:
            bar.update(task, description=probe.label)
            began = time.monotonic()
            with Verifier(
                ledgers=[folder / f"{probe.ledger}.ledger"], policy=policy, authors=authors,
                models=[clone] if probe.clone_registered else [], options=Options(scope=probe.scope),
            ) as verifier:  # fmt: skip
                report = verifier.verify(probe.path, name=probe.label)
            rows.append(Row(probe, report, time.monotonic() - began))
            bar.advance(task)
    return rows


def print_table(rows: list[Row]) -> None:
    """The table, on stdout."""
    table = Table(title="14 probes of a real face generator" if len(rows) == 14 else None)
    for heading in ("probe", "stage that decided", "verdict", "expected", "seconds"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    for row in rows:
        expected = " or ".join(row.probe.expected)
        mark = "" if row.as_expected else "[bold red]"
        scope = " (strict)" if row.probe.scope == "strict" else ""
        table.add_row(
            row.probe.label + scope, row.report.decision.stage, mark + row.verdict, expected, f"{row.seconds:.1f}"
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def run(folder: Path, faces: int) -> int:
    """The whole demo in `folder`; the exit code."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with step("fetching the face generator (once)"):
        model_folder()
    with step(f"recording {faces} faces in a ledger with three witnesses, two of which must cosign"):
        pictures = studio(folder, faces)
        logged_file = folder / "logged.png"
        logged = pictures[LOGGED_FACE % faces]
        Image.fromarray(logged).save(logged_file)
        edited_copy(folder, logged_file)
    generator = load_model_folder(folder / "faces", name="faces")
    with step(f"measuring {RECHECKED} samples of the shipped calibration again"):
        recheck(folder / "faces", generator)
    with step("fine-tuning a clone of the generator, which nobody registers"):
        clone = clone_generator(folder / "faces-clone", CLONE_SEED, generator)
    fresh, of_clone = own_picture(generator, FRESH_SEED), own_picture(clone, FRESH_SEED + 1)
    rows = verify_all(folder, write(folder, logged, logged_file, fresh, of_clone), folder / "faces-clone")
    print_table(rows)
    page = folder / "report.html"
    page.write_text(rows[7].report.html(), encoding="utf-8")
    for number, row in enumerate(rows):
        (folder / f"report-{number + 1:02}.html").write_text(row.report.html(), encoding="utf-8")
        if not row.as_expected:
            console.print(f"[red]FAIL[/] {row.probe.label}: {row.report.verdict}: {row.report.line}")
    print(f"report of the clone's face: {page}")
    print(f"reports of all probes:      {folder}/report-01.html ... report-{len(rows):02}.html")
    return 0 if all(row.as_expected for row in rows) else 1


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "faces", help="folder for everything it makes")
    parser.add_argument("--faces", type=int, default=64, help="how many faces are recorded")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        code = run(options.out, options.faces)
    except PlausibleError as error:
        console.print(f"[red]FAIL[/] {error}")
        return 4
    console.print(f"[dim]{time.monotonic() - began:.0f} s in all; the generator is kept in {CACHE}[/]")
    return code


if __name__ == "__main__":
    sys.exit(main())
