"""The pictures of a report: PNG data URIs, residual maps with their scale, and the residual chart as inline SVG.

Maps show probe minus reconstruction in levels of 255. Signed: white where equal, red where the probe is brighter, blue
where it is darker, saturated at the stated number of levels. Amplified: the largest channel's absolute difference times
the stated gain, black where equal.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from PIL import Image

from ..copies.similarity import Pixels
from ..stages.findings import ROUNDING_FLOOR

# Larger pictures are reduced before they go into a page; the JSON carries digests of what was really compared.
LARGEST_SIDE = 768
_SCALES = (1, 2, 4, 8, 16, 32, 64, 128, 255)


@dataclass(frozen=True, slots=True)
class Figure:
    """One picture of the page with its caption."""

    title: str
    text: str
    pixels: Pixels = field(repr=False)

    @property
    def src(self) -> str:
        """The picture as a data URI."""
        return data_uri(self.pixels)


def data_uri(pixels: Pixels) -> str:
    """uint8[H, W, 3 or 4] as `data:image/png;base64,...`, reduced to LARGEST_SIDE."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if max(picture.size) > LARGEST_SIDE:
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def residual_maps(probe: Pixels, reconstruction: Pixels) -> tuple[Pixels, Pixels, int]:
    """(signed map, amplified map, levels at which they saturate) of two pictures of one size, uint8[H, W, 3]."""
    difference = probe[..., :3].astype(np.int32) - reconstruction[..., :3].astype(np.int32)
    magnitude = np.abs(difference).max(axis=-1)
    reach = float(np.quantile(magnitude, 0.995)) if magnitude.size else 0.0
    scale = next((s for s in _SCALES if s >= reach), 255)
    signed = np.clip(difference.mean(axis=-1) / scale, -1, 1)
    fade = (255 * (1 - np.abs(signed))).astype(np.uint8)
    full = np.full_like(fade, 255)
    colour = np.where(
        (signed > 0)[..., None], np.stack([full, fade, fade], axis=-1), np.stack([fade, fade, full], axis=-1)
    )
    amplified = np.clip(magnitude * (255 / scale), 0, 255).astype(np.uint8)
    return colour, np.repeat(amplified[..., None], 3, axis=-1), scale


def comparison(probe: Pixels, other: Pixels, size: str, title: str, text: str) -> list[Figure]:
    """The probe beside a reconstruction (or replay, or original), and their two residual maps: a row of four."""
    signed, amplified, scale = residual_maps(probe, other)
    levels = f"{scale} level" + ("" if scale == 1 else "s")
    gain = 255 / scale
    return [
        Figure("The image", size, probe),
        Figure(title, text, other),
        Figure("Signed residual", f"red: image brighter, blue: darker; full colour at ±{levels} of 255", signed),
        Figure("Amplified residual", f"absolute difference × {gain:.3g}, white at {levels}", amplified),
    ]


@dataclass(frozen=True, slots=True)
class ChartRow:
    """One generator on the chart: residual, attribution limit and denial limits by class, MSE on [0, 1]."""

    name: str
    residual: float
    attribution: float | None
    denial: Sequence[tuple[str, float]]
    margin: float = 2.0


def chart(rows: Sequence[ChartRow]) -> str:
    """The residuals against their limits on a logarithmic axis, as one SVG element."""
    width, left, right, top, row_height = 900, 150, 24, 34, 46
    low, high = -7.0, 0.0
    height = top + row_height * len(rows) + 30

    def x(value: float) -> float:
        place = (math.log10(max(value, 10**low)) - low) / (high - low)
        return left + min(max(place, 0.0), 1.0) * (width - left - right)

    out = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Residuals against limits" '
        'font-family="inherit" font-size="12">'
    ]
    bottom = top + row_height * len(rows)
    for power in range(int(low), int(high) + 1):
        place = x(10.0**power)
        out.append(f'<line x1="{place:.1f}" y1="{top}" x2="{place:.1f}" y2="{bottom}" stroke="#d8dee4"/>')
        out.append(
            f'<text x="{place:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#57606a">{_power(power)}</text>'
        )
    floor = x(ROUNDING_FLOOR)
    line = f'<line x1="{floor:.1f}" y1="{top - 8}" x2="{floor:.1f}" y2="{bottom}"'
    out.append(f'{line} stroke="#57606a" stroke-dasharray="3 3"/>')
    out.append(_label(floor, top - 13, "rounding floor"))
    for number, row in enumerate(rows):
        out += _row(row, top + row_height * number + row_height / 2, x, left, width - right)
    out.append("</svg>")
    return "\n".join(out)


def _row(row: ChartRow, y: float, x: Callable[[float], float], left: float, end: float) -> list[str]:
    name = row.name if len(row.name) <= 20 else row.name[:19] + "…"
    out = [f'<text x="{left - 12}" y="{y + 4:.1f}" text-anchor="end" fill="#1b1f24">{escape(name)}</text>']
    if row.denial:
        widest = max(limit for _, limit in row.denial)
        start = min(x(row.attribution), x(widest)) if row.attribution is not None else left
        out.append(_bar(start, x(widest), y, "#d4a72c", f"nothing decisive: own changed pictures up to {widest:.2e}"))
        out.append(_bar(x(widest), x(row.margin * widest), y, "#eed888", f"margin up to {row.margin * widest:.2e}"))
        out.append(_bar(x(row.margin * widest), end, y, "#d0d7de", "beyond every limit"))
        for label, limit in row.denial:
            out.append(
                f'<line x1="{x(limit):.1f}" y1="{y - 12:.1f}" x2="{x(limit):.1f}" y2="{y - 4:.1f}" stroke="#57606a">'
                f"<title>{escape(label)}: denial limit {limit:.2e}</title></line>"
            )
    else:
        out.append(_bar(left, end, y, "#eaeef2", "no limits: not calibrated"))
    if row.attribution is not None:
        out.append(_bar(left, x(row.attribution), y, "#1a7f37", f"attribution limit {row.attribution:.2e}"))
    place = x(row.residual)
    anchor, shift = ("end", -10) if place > end - 90 else ("start", 10)
    out.append(f'<circle cx="{place:.1f}" cy="{y:.1f}" r="6.5" fill="#1b1f24" stroke="#fff" stroke-width="2"/>')
    out.append(
        f'<text x="{place + shift:.1f}" y="{y + 19:.1f}" text-anchor="{anchor}" font-weight="600" fill="#1b1f24">'
        f"{row.residual:.2e}</text>"
    )
    return out


def _bar(start: float, end: float, y: float, colour: str, title: str) -> str:
    width = max(0.0, end - start)
    return (
        f'<rect x="{start:.1f}" y="{y - 4:.1f}" width="{width:.1f}" height="8" fill="{colour}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _label(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="middle" fill="#57606a">{text}</text>'


def _power(power: int) -> str:
    return "1" if power == 0 else "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
