"""Accepted entries in state.db: pieces of bundles, read and cut at any place."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.storage import pieces
from plausible.schemas.errors import SetupError


def row(position: int) -> tuple[bytes, bytes]:
    leaf = b"entry %d" % position * (position % 3)
    return leaf, hash_leaf(leaf)


def filled(batches: list[int]) -> tuple[sqlite3.Connection, int]:
    connection = sqlite3.connect(":memory:")
    connection.execute(pieces.PIECES_DDL)
    end = 0
    for count in batches:
        pieces.insert(connection, end, [row(position) for position in range(end, end + count)])
        end += count
    return connection, end


@given(st.lists(st.integers(0, 600), min_size=1, max_size=6), st.data())
def test_any_range_comes_back(batches: list[int], data: st.DataObject) -> None:
    connection, size = filled(batches)
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, size))
    assert pieces.read(connection, start, end) == [row(position) for position in range(start, end)]
    with pytest.raises(SetupError, match="does not hold"):
        pieces.read(connection, start, size + 1)
    assert all(
        position // 256 == (position + count - 1) // 256
        for position, count in connection.execute("SELECT position, count FROM piece")
    )


@given(st.lists(st.integers(0, 600), min_size=1, max_size=6), st.data())
def test_cutting_and_forgetting(batches: list[int], data: st.DataObject) -> None:
    connection, size = filled(batches)
    end = data.draw(st.integers(0, size))
    pieces.cut(connection, end)
    assert pieces.read(connection, 0, end) == [row(position) for position in range(end)]
    with pytest.raises(SetupError):
        pieces.read(connection, max(0, end - 1), end + 1)
    pieces.insert(connection, end, [row(end)])
    synced = data.draw(st.integers(0, end + 1))
    pieces.forget(connection, synced)
    first = synced // 256 * 256
    assert pieces.read(connection, first, end + 1) == [row(position) for position in range(first, end + 1)]
    if first:
        with pytest.raises(SetupError):
            pieces.read(connection, first - 1, end + 1)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE piece SET leaves = substr(leaves, 2)",
        "UPDATE piece SET leaves = CAST(leaves || 'y' AS BLOB)",
        "UPDATE piece SET hashes = substr(hashes, 2)",
        "UPDATE piece SET count = count + 1",
        "DELETE FROM piece WHERE position = 256",
    ],
)
def test_damage_is_said(change: str) -> None:
    connection, size = filled([400, 200])
    connection.execute(change)
    with pytest.raises(SetupError, match=r"state\.db"):
        pieces.read(connection, 0, size)
