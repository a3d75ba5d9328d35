"""000's E4 and E5 (Figures 5 and 6) and the same question asked of JPEG coefficients, by files of two encoders.

E4 sweeps the quality on one pair of auto-encoders; its text and Figure 5 say a pair of E2's kind, Figure 6 (E5) E3's,
so both kinds are run. `JPEG` is the product's own claim: the coefficient inversion against the pixel recipe, in pairs
and with unseen sources among the probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plausible.attribution.distances.jpeg.file import read_jpeg
from plausible.attribution.generators import Generator
from plausible.attribution.inversion import JPEG_DISTANCE, MANY_VERSION, MLP_BUDGET, invert_jpegs, invert_many
from plausible.attribution.inversion.budget import FLOOR
from plausible.attribution.scoring.roc import Area, accuracy, auc
from plausible.attribution.scoring.scores import pair_score

from benchmarks.attribution import plots, recipe000
from benchmarks.attribution.encoders import ENCODERS, decoded
from benchmarks.attribution.experiments.frame import Experiment, Outcome, Plot, Settings, Table
from benchmarks.attribution.training import autoencoders, cached
from benchmarks.digits import digits

Pixels = NDArray[np.uint8]

QUALITIES = (90, 75, 50, 30, 10)
PNG = "PNG"
UNSEEN = 900_001
"""Seeds of the auto-encoder that is nobody's candidate."""
OPEN_TARGETS = {90: 0.99, 75: 0.99, 50: 0.99, 30: 0.95}
TELLING = 4
"""As for a certificate: a latent's numbers explain nothing if they are more than a quarter of what is explained."""
KINDS: tuple[autoencoders.Pair, ...] = ("order", "init")
PAPER_PAIR = {"order": "E2's kind: other order and other initial weights", "init": "E3's kind: other initial weights"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run."""

    probes: int
    steps: int
    training: int
    qualities: tuple[int, ...]
    kinds: tuple[autoencoders.Pair, ...]


def _size(settings: Settings) -> Size:
    if settings.quick:
        return Size(4, 60, 400, (90, 30), ("order",))
    return Size(100, recipe000.MNIST.steps, autoencoders.Recipe().steps, QUALITIES, KINDS)


@dataclass(frozen=True, slots=True)
class Probes:
    """8-bit pictures [n, 28, 28, 1] of each source: the pair's `a` and `b`, and what neither of them made."""

    generators: tuple[Generator, Generator]
    pictures: dict[str, Pixels]


def probes(kind: autoencoders.Pair, size: Size, settings: Settings) -> Probes:
    """The pair of a kind and its probes; every source gets held-out digits of its own."""
    recipe = replace(autoencoders.Recipe(), steps=size.training)
    found = digits()
    pair = cached.pair(kind, seed=settings.seed, recipe=recipe, say=settings.say)
    unseen = cached.autoencoder(found.train, recipe, order_seed=UNSEEN, init_seed=UNSEEN, say=settings.say)
    n = size.probes
    pictures: dict[str, Pixels] = {}
    for place, (name, one) in enumerate((("a", pair[0]), ("b", pair[1]), ("unseen", unseen))):
        codes = one.codes(found.held[place * n : (place + 1) * n])
        pictures[name] = one.generator(name).sample(codes).numpy()
    pictures["digits"] = found.held[3 * n : 4 * n, :, :, None]
    return Probes((pair[0].generator(f"{kind}-a"), pair[1].generator(f"{kind}-b")), pictures)


def measure(
    pictures: Pixels, generator: Generator, encoder: str, quality: int | None, size: Size, settings: Settings
) -> dict[str, Any]:
    """A row: what three methods leave of these pictures' files."""
    files = None if quality is None else [ENCODERS[encoder](one, quality) for one in pictures]
    seen = pictures if files is None else np.stack([decoded(data, 1) for data in files])
    recipe = replace(recipe000.MNIST, steps=size.steps)
    starts = recipe000.starts_of(generator, len(seen), recipe, seed=settings.seed)
    adam = recipe000.batched(seen, generator, recipe, starts).losses.tolist()
    many = invert_many(seen, [generator], MLP_BUDGET, seed=settings.seed)[0]
    found = None if files is None else invert_jpegs(files, generator, seed=settings.seed)
    return {
        "adam": adam,
        "pixels": many.residual.tolist(),
        "coefficients": None if found is None else [one.loss for one in found],
        "dead": None if found is None else [one.dead_zone for one in found],
        "violations": None if found is None else [one.violations for one in found],
        "n": None if found is None else [one.coefficients for one in found],
        "seconds": None if found is None else sum(one.seconds for one in found),
    }


@dataclass(frozen=True, slots=True)
class Condition:
    """One pair, encoder and quality, with its rows by source and place of the generator."""

    kind: str
    encoder: str
    quality: int | None
    rows: dict[str, dict[int, dict[str, Any]]]
    telling: dict[str, list[bool]]
    """Whether each file of a source holds `TELLING` coefficients other than 0 for every number of the latent."""

    def pair(self, method: str) -> tuple[list[float], list[float]]:
        """S (000 Eq. 4) of a's probes and of b's, positive for a."""
        a, b = (
            [
                pair_score(x, y)
                for x, y in zip(self.rows[name][0][method], self.rows[name][1][method], strict=True)
            ]
            for name in ("a", "b")
        )  # fmt: skip
        return a, b

    def open_set(self, method: str, source: str) -> Area:
        """Own probes of a against a source's, by what a leaves of them."""
        own, other = self.rows["a"][0][method], self.rows[source][0][method]
        return auc([-x for x in own], [-x for x in other])

    def open_set_of_telling(self, source: str) -> tuple[Area, int, int] | None:
        """As `open_set` by coefficients, of the files that say enough; (area, own, others)."""
        own, other = (
            [x for x, telling in zip(self.rows[name][0]["dead"], self.telling[name], strict=True) if telling]
            for name in ("a", source)
        )
        return (auc([-x for x in own], [-x for x in other]), len(own), len(other)) if own and other else None


def conditions(settings: Settings, size: Size) -> list[Condition]:
    """Every pair, encoder and quality; rows are kept as they come."""
    found: list[Condition] = []
    for kind in size.kinds:
        given = probes(kind, size, settings)
        # 000's sweep is OpenCV's encoder, that is libjpeg-turbo; the second encoder is our own question
        for encoder in ENCODERS if kind == "order" else ("libjpeg-turbo",):
            qualities = (*((None,) if encoder == "libjpeg-turbo" else ()), *size.qualities)
            found += [_condition(given, kind, encoder, quality, size, settings) for quality in qualities]
    return found


def _condition(
    given: Probes, kind: str, encoder: str, quality: int | None, size: Size, settings: Settings
) -> Condition:
    digests = ",".join(g.digest[7:19] for g in given.generators)
    strangers = ("unseen", "digits") if kind == "order" and quality is not None else ()
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for source in ("a", "b", *strangers):
        rows[source] = {}
        for place in (0, 1) if source in ("a", "b") else (0,):
            name = f"{kind} {encoder} {quality or PNG}: {source} on {'ab'[place]}"
            settings.say(name)
            rows[source][place] = settings.row(
                f"{name}; {digests}, {JPEG_DISTANCE}, {MANY_VERSION}, {size.probes} probes, {size.steps} steps",
                lambda s=source, p=place: measure(
                    given.pictures[s], given.generators[p], encoder, quality, size, settings
                ),
            )
    telling = {} if quality is None else {name: _telling(given, name, encoder, quality) for name in rows}
    return Condition(kind, encoder, quality, rows, telling)


def _telling(given: Probes, source: str, encoder: str, quality: int) -> list[bool]:
    dim = given.generators[0].latent.dim
    files = [read_jpeg(ENCODERS[encoder](one, quality)) for one in given.pictures[source]]
    return [file.informative >= TELLING * dim for file in files]


def run(settings: Settings) -> Outcome:
    """All rows, then what E4, E5 and JPEG show of them."""
    size = _size(settings)
    every = conditions(settings, size)
    sweep, figures = _sweep(every)
    claim, more, failures = _claim(every)
    figures |= more
    notes = [
        f"A file says enough if it holds {TELLING} coefficients other than 0 for every number of the latent",
        f"{size.probes} probes a source and quality; training {size.training} steps; one pair of each kind",
    ]
    if settings.quick:
        failures = []
    return Outcome(figures, [sweep, _growth(every), *claim], _plots(every, size), notes, failures)


def _name(condition: Condition) -> str:
    return PNG if condition.quality is None else str(condition.quality)


def _sweep(every: Sequence[Condition]) -> tuple[Table, dict[str, Any]]:
    rows: list[list[str | int | float]] = []
    figures: dict[str, Any] = {}
    for one in every:
        if one.encoder != "libjpeg-turbo":
            continue
        cells: list[str | int | float] = [PAPER_PAIR[one.kind], _name(one)]
        for method in ("adam", "pixels", "coefficients"):
            if method == "coefficients" and one.quality is None:
                cells += ["-", "-"]
                continue
            a, b = one.pair(method)
            area, right = auc(a, b), accuracy(a, b)
            cells += [f"{area.value:.4f} [{area.low:.4f}, {area.high:.4f}]", f"{right.value:.3f}"]
            figures[f"E4 {one.kind} {_name(one)} {method} AUC"] = area.value
        rows.append(cells)
    header = ["pair", "quality", "000's recipe: AUC", "right", "LM, pixels: AUC", "right", "coefficients: AUC", "right"]
    return Table("Pairwise attribution by JPEG quality (libjpeg-turbo)", header, rows, "E4"), figures


def _growth(every: Sequence[Condition]) -> Table:
    rows: list[list[str | int | float]] = []
    for one in every:
        if one.encoder != "libjpeg-turbo":
            continue
        own = one.rows["a"][0]
        cells: list[str | int | float] = [PAPER_PAIR[one.kind], _name(one)]
        for method in ("adam", "pixels"):
            values = np.asarray(own[method]) / FLOOR
            cells.append(f"{np.median(values):.3g} ({np.quantile(values, 0.9):.3g})")
        cells.append("-" if one.quality is None else f"{np.median(own['violations']):.0f} ({max(own['violations'])})")
        rows.append(cells)
    header = [
        "pair",
        "quality",
        "000's recipe, floors: median (90 %)",
        "LM, floors",
        "coefficients outside: median (max)",
    ]
    return Table("The own generator's residual by JPEG quality", header, rows, "E5")


def _claim(every: Sequence[Condition]) -> tuple[list[Table], dict[str, Any], list[str]]:
    pairs: list[list[str | int | float]] = []
    opens: list[list[str | int | float]] = []
    figures: dict[str, Any] = {}
    failures: list[str] = []
    for one in every:
        if one.kind != "order" or one.quality is None:
            continue
        areas = {method: auc(*one.pair(method)) for method in ("adam", "pixels", "coefficients")}
        pairs.append([one.encoder, one.quality, *(_text(area) for area in areas.values())])
        if areas["coefficients"].value < areas["adam"].value:
            failures.append(
                f"{one.encoder}, quality {one.quality}: pairwise AUC {areas['coefficients'].value:.4f} of the "
                f"coefficients, {areas['adam'].value:.4f} of the pixel recipe"
            )
        cells: list[str | int | float] = [one.encoder, one.quality]
        for source in ("unseen", "digits", "b"):
            area = one.open_set("dead", source)
            cells += [_text(one.open_set("adam", source)), _text(area)]
            telling = one.open_set_of_telling(source)
            cells.append("-" if telling is None else f"{_text(telling[0])}, {telling[1]} and {telling[2]}")
            if telling is not None:
                figures[f"JPEG {one.encoder} {one.quality} {source} open-set AUC of telling files"] = telling[0].value
            figures[f"JPEG {one.encoder} {one.quality} {source} open-set AUC"] = area.value
            target = OPEN_TARGETS.get(one.quality)
            if target is not None and area.value < target:
                failures.append(f"{one.encoder}, quality {one.quality}: open-set AUC {area.value:.4f} against {source}")
        opens.append(cells)
        figures[f"JPEG {one.encoder} {one.quality} pair AUC"] = areas["coefficients"].value
    first = Table(
        "Pairs: AUC of S",
        ["encoder", "quality", "000's recipe on pixels", "LM on pixels", "coefficients"],
        pairs,
        "JPEG",
    )
    header = ["encoder", "quality"]
    for source in ("an unseen generator", "real digits", "the pair's other"):
        header += [f"{source}: 000's recipe", "coefficients", "of files that say enough, own and others"]
    second = Table("Open set: AUC of one generator's own pictures against others", header, opens, "JPEG")
    return [first, second], figures, failures


def _text(area: Area) -> str:
    return f"{area.value:.4f} [{area.low:.4f}, {area.high:.4f}]"


def _plots(every: Sequence[Condition], size: Size) -> list[Plot]:
    found: list[Plot] = []
    for kind in size.kinds:
        mine = [one for one in every if one.kind == kind and one.encoder == "libjpeg-turbo"]
        for method, label in (("adam", "000's recipe"), ("coefficients", "coefficients")):
            curves = [(_name(one), *one.pair(method)) for one in mine if one.quality or method == "adam"]
            found.append(
                plots.roc_family(f"{kind}-{method}", f"JPEG qualities, pair '{kind}', {label}", curves, block="E4")
            )
        groups = {f"quality {_name(one)}": one.rows["a"][0]["adam"] for one in mine}
        found.append(plots.residual_histograms(f"{kind}-residuals", f"Own residual, pair '{kind}'", groups, block="E5"))
    return found


EXPERIMENTS = [
    Experiment(("E4", "E5", "JPEG"), "000 Figures 5, 6", "JPEG by quality: pixels and coefficients", "jpeg.md", run),
]
