"""The papers' experiments. A module of a family has `EXPERIMENTS = [Experiment(...), ...]` and stands in `FAMILIES`.

frame          what an experiment is: settings, rows that are kept, tables, plots, failures
pages          the tables of docs/experiments, written between markers from a run's document
"""

from __future__ import annotations

import importlib

from plausible.schemas.errors import UsageError

from benchmarks.attribution.experiments.frame import Experiment

FAMILIES: tuple[str, ...] = (
    "autoencoders",
    "digit_limits",
    "jpeg",
    "jpeg_faces",
    "mnist_gans",
    "faces",
    "face_sources",
    "seed_recovery",
    "seed_forgeries",
    "manipulations",
    "floor",
    "cost",
)
"""Modules of this package, in the order in which their experiments are listed."""


def experiments() -> list[Experiment]:
    """All of them; `UsageError` if two have an id in common."""
    found: list[Experiment] = []
    for family in FAMILIES:
        found += importlib.import_module(f"{__name__}.{family}").EXPERIMENTS
    ids = [name for experiment in found for name in experiment.ids]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise UsageError(f"ids that two experiments have: {', '.join(twice)}")
    return found


def find(name: str) -> Experiment:
    """The experiment that has this id, upper or lower case."""
    for experiment in experiments():
        if name.lower() in (one.lower() for one in experiment.ids):
            return experiment
    raise UsageError(f"there is no experiment {name}: python -m benchmarks.attribution lists them")
