"""The frame of the experiments: rows are kept and gone on with, pages are filled from whole runs' documents only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from plausible.schemas.errors import UsageError

from benchmarks.attribution import __main__ as command
from benchmarks.attribution import experiments, plots
from benchmarks.attribution.experiments import frame, pages
from benchmarks.attribution.experiments.frame import Experiment, Outcome, Plot, Rows, Settings, Table

PAGE = (
    "# Twice\n\nBy hand.\n\n<!-- X1:begin -->\nold\n<!-- X1:end -->\n\nBetween.\n\n<!-- X2:begin -->\n<!-- X2:end -->\n"
)


def sample(made: list[str] | None = None, stop: int = 99, *, fail: bool = False, plot: bool = False) -> Experiment:
    """Squares of 0..3 as rows; `stop` interrupts before that one."""

    def run(settings: Settings) -> Outcome:
        rows: list[dict[str, Any]] = []
        for number in range(settings.pick(4, 2)):

            def make(number: int = number) -> dict[str, Any]:
                if number == stop:
                    raise KeyboardInterrupt
                if made is not None:
                    made.append(str(number))
                return {"square": np.float64(number**2), "seed": settings.seed}

            rows.append(settings.row(f"square/{number}", make))
        squares = [row["square"] for row in rows]
        return Outcome(
            figures={"sum": sum(squares)},
            tables=[
                Table("Squares", ["n", "square"], list(enumerate(squares))),
                Table("Sum", ["sum|all"], [[sum(squares) + 0.12345]], block="X2"),
            ],
            plots=[plots.lines("growth", "Growth", {"squares": (range(len(squares)), squares)}, x="n", y="square")][
                :plot
            ],
            notes=["squares of whole numbers"],
            failures=["the sum is too small"] if fail else [],
        )

    return Experiment(("X1", "X2"), "000", "squares", "twice.md", run)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "twice.md").write_text(PAGE)
    return folder


def run(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(command, "find", lambda _: experiment)
    monkeypatch.setattr(pages.write, "__defaults__", (tmp_path / "docs",))
    return command.main(["X1", "--out", str(tmp_path / "out"), "--json", str(tmp_path / "x.json"), *words])


def test_an_interrupted_run_goes_on_and_gives_the_same_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    assert run(sample(made, stop=2), tmp_path, monkeypatch) == 130
    assert not (tmp_path / "x.json").exists()
    # a crash in the middle of a line
    with (tmp_path / "x.jsonl").open("a") as stream:
        stream.write('{"key": "square/2", "ro')
    assert run(sample(made), tmp_path, monkeypatch) == 0
    assert made == ["0", "1", "2", "3"]
    resumed = json.loads((tmp_path / "x.json").read_text())
    assert resumed["rows"]["kept_from_before"] == 2
    assert run(sample(made), tmp_path, monkeypatch, "--fresh") == 0
    assert len(made) == 8
    whole = json.loads((tmp_path / "x.json").read_text())
    assert {key: whole[key] for key in ("figures", "tables", "command")} == {
        key: resumed[key] for key in ("figures", "tables", "command")
    }
    assert whole["figures"] == {"sum": 14}


@pytest.mark.parametrize("words", [("--seed", "2"), ("--quick",), ("--threads", "2")])
def test_rows_of_other_settings_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    made: list[str] = []
    monkeypatch.setattr(command.torch, "set_num_threads", lambda _: None)
    assert run(sample(made), tmp_path, monkeypatch) == 0
    made.clear()
    assert run(sample(made), tmp_path, monkeypatch, *words) == 0
    assert made[:2] == ["0", "1"]


def test_a_page_gets_its_blocks_and_keeps_the_rest(tmp_path: Path, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(sample(fail=True, plot=True), tmp_path, monkeypatch, "--docs") == 1
    assert {path.name for path in (tmp_path / "out" / "X1").iterdir()} == {"growth.svg", "growth.png"}
    text = (docs / "twice.md").read_text()
    assert text.startswith("# Twice\n\nBy hand.\n\n<!-- X1:begin -->\n`python -m benchmarks.attribution X1 --threads 1")
    assert "old" not in text
    assert "\nBetween.\n" in text
    first, second = text.split("Between.")
    assert "| 3 | 9 |" in first
    assert "- squares of whole numbers" in first
    assert "- **Not met:** the sum is too small" in first
    assert "![Growth](figures/X1-growth.svg)" in first
    assert "| sum\\|all |\n| --- |\n| 14.1 |" in second
    assert (docs / "figures" / "X1-growth.svg").read_bytes() == (tmp_path / "out" / "X1" / "growth.svg").read_bytes()
    # from the document alone, without running
    (docs / "twice.md").write_text(PAGE)
    assert run(sample(stop=0), tmp_path, monkeypatch, "--docs-from", str(tmp_path / "x.json")) == 0
    assert (docs / "twice.md").read_text() == text


def test_a_quick_run_fills_no_page(tmp_path: Path, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(sample(), tmp_path, monkeypatch, "--quick", "--docs") == 2
    assert run(sample(), tmp_path, monkeypatch, "--quick") == 0
    assert run(sample(), tmp_path, monkeypatch, "--docs-from", str(tmp_path / "x.json")) == 2
    assert (docs / "twice.md").read_text() == PAGE


def test_a_page_without_its_markers_is_left_alone(docs: Path) -> None:
    document, _ = frame.execute(sample(), Settings(out=docs / "out"))
    for text in ("no markers", "<!-- X1:end --><!-- X1:begin -->", PAGE * 2):
        with pytest.raises(UsageError):
            pages.fill(text, document, "X1")


def test_a_table_or_figure_that_cannot_be_written_down_is_an_error(tmp_path: Path) -> None:
    def outcome(*tables: Table, **figures: float) -> Experiment:
        return Experiment(("X1",), "000", "t", None, lambda _: Outcome(dict(figures), tables))

    settings = Settings(out=tmp_path)
    for wrong in (
        outcome(Table("t", ["a", "b"], [["1"]])),
        outcome(Table("t", ["a"], [["1"]], block="E9")),
    ):
        with pytest.raises(UsageError):
            frame.execute(wrong, settings)
    with pytest.raises(ValueError, match="not JSON compliant"):
        frame.execute(outcome(x=float("nan")), settings)
    with pytest.raises(UsageError):
        Experiment(("../x",), "000", "t", None, lambda _: Outcome({}))
    with pytest.raises(UsageError):
        Plot("a/b", lambda _: None)


def test_rows_in_memory_need_no_file() -> None:
    settings = Settings(rows=Rows())
    assert settings.row("k", lambda: (1, 2)) == [1, 2]
    assert settings.row("k", lambda: 5) == [1, 2]


def test_every_family_loads_and_every_page_has_its_markers() -> None:
    """What is listed can be run, and what a page says it shows stands between markers once."""
    found = experiments.experiments()
    listed = (pages.DOCS / "README.md").read_text(encoding="utf-8")
    assert {one.page for one in found if one.page is not None and f"({one.page})" not in listed} == set()
    for experiment in found:
        assert experiments.find(experiment.ids[-1].lower()) is experiment or len(found) > 1
        if experiment.page is None:
            continue
        text = (pages.DOCS / experiment.page).read_text(encoding="utf-8")
        for name in experiment.ids:
            assert all(text.count(marker) == 1 for marker in pages.markers(name)), (experiment.page, name)
    with pytest.raises(UsageError):
        experiments.find("no-such-experiment")


@pytest.mark.parametrize(
    "plot",
    [
        plots.roc_family("roc", "ROC", [("seed 1", [1, 2, 3], [0, 1, 2]), ("seed 2", [2], [1])]),
        plots.roc_family("roc-log", "ROC", [("", [1.0, 2.0], [0.0, 1.0])], low=1e-3),
        plots.confusion("confusion", "Answers", ["a", "b"], [[9, 1, 0], [0, 8, 2]], ["a", "b", "none"]),
        plots.score_histograms("s", "S", {"own": [0.9, 1.0], "other": [-0.9]}),
        plots.residual_histograms("r", "Residuals", {"q 90": [1e-6, 1e-4], "q 50": [1e-3]}),
        plots.error_against_attempts("e", "Error", {"a": ([1, 3], [0.2, 0.1], [0.1, 0.05], [0.3, 0.2])}),
        plots.pictures("p", "Pictures", [("own", [np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8)]), ("b", [])], ["x"]),
        plots.custom("c", "Custom", lambda axes: axes.plot([0, 1])),
    ],
    ids=lambda plot: plot.name,
)
def test_every_form_draws(plot: Plot) -> None:
    figure = Figure()
    plot.draw(figure)
    drawn = sum(len(a.lines) + len(a.patches) + len(a.images) + len(a.containers) for a in figure.axes)
    assert drawn >= 1


def test_a_plot_is_written_alike_each_time(tmp_path: Path) -> None:
    plot = plots.custom("c", "Custom", lambda axes: axes.plot([0, 1]))
    svg, png = plots.write(plot, tmp_path / "a")
    assert svg.read_bytes() == plots.write(plot, tmp_path / "b")[0].read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG")
