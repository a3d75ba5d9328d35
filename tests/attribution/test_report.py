"""The report: one canonical document an auditor can sign, one page that runs nothing and fetches nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from plausible.attribution.report.document import NOT_SHOWN, open_report, render, sign_report
from plausible.attribution.report.pictures import ChartRow, chart, data_uri, residual_maps
from plausible.attribution.verifier import Options, Report, verify
from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.schemas.errors import EvidenceError
from plausible.schemas.report import ReportDocument
from plausible.schemas.verdict import Verdict

from tests.attribution.studio import BUDGET, Studio, blocks, fresh, make_studio, save

AUDITOR = SignerKey("auditor.example", ED25519, b"\x11" * 32)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return make_studio(tmp_path_factory.mktemp("report") / "studio.ledger", pictures=2)


@pytest.fixture(scope="module")
def report(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Report:
    image = save(tmp_path_factory.mktemp("image") / "<b>a&b.png", fresh(studio.generator, 999)[0])
    options = Options(budget=BUDGET, threads=1, auditor=AUDITOR, command="pd verify <script>alert(1)</script>")
    return verify(image, ledgers=[studio.path], policy=studio.policy, authors=studio.authors, options=options)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def page(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Page()
    parser.feed(html)
    return parser.tags


def test_the_document_has_one_byte_form_and_comes_back(report: Report) -> None:
    data = report.to_jcs()
    again = ReportDocument.parse(data)
    assert again == report.document
    assert again.to_jcs() == data
    assert again.verdict.word == "attributed"
    assert again.policy is not None
    assert again.authors is not None
    with pytest.raises(EvidenceError):
        ReportDocument.parse(data.replace(b'"attributed"', b'"innocent"'))


def test_an_auditor_signs_it(report: Report) -> None:
    envelope = report.signed()
    assert envelope is not None
    assert b"application/vnd.plausible.report+json" in envelope
    assert open_report(envelope, AUDITOR.verifier) == report.document
    other = SignerKey("other.example", ED25519, b"\x12" * 32)
    with pytest.raises(EvidenceError):
        open_report(envelope, other.verifier)
    with pytest.raises(EvidenceError):
        open_report(envelope.replace(b"a", b"b", 1), AUDITOR.verifier)
    with pytest.raises(EvidenceError, match="another auditor"):
        sign_report(report.document, other)


def test_the_page_runs_nothing_and_fetches_nothing(report: Report) -> None:
    tags = page(report.html())
    names = {tag for tag, _ in tags}
    assert not names & {"script", "iframe", "object", "embed", "link", "form", "base", "video", "audio"}
    for tag, attributes in tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "poster", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:image/png;base64,"), (tag, name, value)
    style = re.findall(r"url\(|@import|https?://", report.html())
    assert style == []
    assert any(a.get("http-equiv") == "Content-Security-Policy" for t, a in tags if t == "meta")


def test_what_others_wrote_is_escaped(report: Report) -> None:
    html = report.html()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "<b>a&b.png" not in html
    assert "&lt;b&gt;a&amp;b.png" in html


def test_the_page_says_what_was_checked_and_what_it_does_not_show(report: Report) -> None:
    html = report.html()
    for check in report.checks:
        assert check.name.replace("'", "&#39;") in html
    assert NOT_SHOWN["attributed"].split(":")[0] in html
    assert "Who stands behind an author key in law." in html
    assert report.document.verdict.line.split(":")[0] in html
    assert "rounding floor" in html
    assert html.count("<figure>") >= 4


def test_the_page_can_be_rendered_from_the_document_alone(report: Report, tmp_path: Path) -> None:
    html = render(ReportDocument.parse(report.to_jcs()))
    assert "<figure>" not in html
    report.save_html(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text("utf-8") == report.html()
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_every_verdict_says_what_it_does_not_show() -> None:
    assert set(NOT_SHOWN) == {v.value for v in Verdict}


def test_reports_of_other_outcomes_render(studio: Studio, tmp_path: Path) -> None:
    for image in (save(tmp_path / "a.png", blocks(1)), save(tmp_path / "b.png", np.zeros((8, 8, 3), np.uint8))):
        assert "<!doctype html>" in verify(image, models=[studio.folder], options=Options(budget=BUDGET)).html()
    assert "cannot be read" in verify(tmp_path / "absent.png").html()


def test_residual_maps_state_their_scale() -> None:
    a = np.full((6, 6, 3), 100, np.uint8)
    signed, amplified, scale = residual_maps(a, a)
    assert scale == 1
    assert (signed == 255).all()
    assert (amplified == 0).all()
    b = a.copy()
    b[:3] -= 3
    signed, amplified, scale = residual_maps(a, b)
    assert scale == 4
    assert tuple(signed[0, 0]) == (255, 63, 63)  # the probe is brighter by 3 of 4 levels: red
    assert amplified[0, 0, 0] == 191
    assert tuple(residual_maps(b, a)[0][0, 0]) == (63, 63, 255)
    assert data_uri(a).startswith("data:image/png;base64,")


def test_the_chart_escapes_names_and_bears_extreme_values() -> None:
    svg = chart([ChartRow("<i>x</i>", 0.0, None, []), ChartRow("y", 3.0, 1e-9, [("jpeg", 2.0)])])
    assert "<i>x" not in svg
    assert svg.count("<circle") == 2
    assert "nan" not in svg
