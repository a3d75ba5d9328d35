"""The benchmark's own code at tiny sizes: every layer does the work it claims (times are not looked at)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from plausible.ledger.absence.keys import PIXELS, index_key
from plausible.ledger.absence.trie import IndexMap, MemoryPages

from benchmarks.ledger.speed.plan import GROUPS, TINY, held, run
from benchmarks.ledger.speed.subjects import Indexed
from benchmarks.ledger.speed.table import BEGIN, END, markdown, text, write_between


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(TINY, tmp_path_factory.mktemp("bench"), progress=lambda _: None)


def test_every_layer_is_measured_beside_its_control(result: dict[str, Any]) -> None:
    # `run` has also compared the roots of all layers
    rows = result["rows"]
    assert {row["group"] for row in rows} == set(GROUPS)
    appended = [row for row in rows if row["group"] == "append" and row["batch"] == TINY.batch]
    assert {row["layer"] for row in appended} == {"sqlite", "bare", "published", "indexed"}
    assert all("sqlite" in row["ratios"] for row in appended if row["layer"] != "sqlite")
    assert all(row["n"] >= 1 and row["low"] <= row["median"] <= row["high"] for row in rows)
    assert {row["batch"] for row in rows if row["layer"] == "ledger"} == {1, TINY.batch}
    parts = result["profile"]["parts"]
    assert min(seconds for name, seconds in parts.items() if not name.startswith("other")) >= 0
    assert sum(parts.values()) == pytest.approx(result["profile"]["wall"])
    for made in ("commitment over ten salted fields", "vault.db commit", "entry signed (DSSE, Ed25519)"):
        assert parts[made] > 0


def test_lines_without_a_measurement_are_not_met(result: dict[str, Any]) -> None:
    lines = {line["what"]: line for line in result["lines"]}
    assert lines["single durable append, against pymerkle"]["met"] is None
    assert lines["reopen, ms"]["value"] is not None
    assert all(line["met"] is None for line in held([], None))


def test_the_table_goes_between_its_markers(result: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    table = markdown(json.loads(json.dumps(result)))
    write_between(page, table)
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\n{table}\n{END}\nafter\n"
    assert "`python -m benchmarks.ledger.speed --only signed`" in table
    assert "reopen to a root" in text(result)
    page.write_text("no markers", encoding="utf-8")
    with pytest.raises(SystemExit):
        write_between(page, table)


def test_the_indexed_layer_has_the_map_of_its_keys(tmp_path: Path) -> None:
    subject = Indexed(tmp_path)
    entries = [number.to_bytes(8, "big") * 5 for number in range(40)]
    subject.append(entries[:25])
    subject.append(entries[25:])
    whole = IndexMap(MemoryPages())
    whole.add([(index_key(PIXELS, entry[:32]), place) for place, entry in enumerate(entries)])
    assert subject.index_root == whole.root()
    subject.shut()
