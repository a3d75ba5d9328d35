"""Where the pages of the absence index lie: their numbers, what keeps them, and keeping them in memory.

A page's number is the bits that lead to it behind a leading 1, so the pages of one branch lie side by side. Each is
kept with the hash of its subtree: what a branch needs to know of its pages is read without reading them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ...schemas.errors import SetupError

STEP = 6
FAN = 1 << STEP
ROOT = 1


class Unfit(SetupError):  # noqa: N818  (named by what happened)
    """What is stored of an index cannot be used: damaged, or not of this log. Everything in it can be made again."""


Page = tuple[int, bytes, bytes | None]
"""A page as it is kept: its number, its subtree's hash, and the records of a bucket; None: a branch."""


class PageReader(Protocol):
    """Where pages and the indices of repeated keys are read."""

    def page(self, number: int) -> Page | None:
        """A page, or None."""
        ...

    def below(self, number: int) -> Iterable[tuple[int, bytes, int | None]]:
        """(number, hash, bytes of records, None for a branch) of the pages right below a branch."""
        ...

    def running(self, key: bytes) -> bytes | None:
        """The running hash of a key with several indices."""
        ...

    def indices(self, key: bytes) -> list[int]:
        """All indices of a key with several, ascending."""
        ...


class PageStore(PageReader, Protocol):
    """Where they are kept, too."""

    def put(self, pages: Iterable[Page]) -> None:
        """Keep pages."""
        ...

    def put_indices(self, key: bytes, indices: Iterable[int], running: bytes) -> None:
        """Add indices to a key, whose running hash is now this."""
        ...


class MemoryPages:
    """A `PageStore` in memory."""

    def __init__(self) -> None:
        self.pages: dict[int, Page] = {}
        self.postings: dict[bytes, list[int]] = {}
        self.runnings: dict[bytes, bytes] = {}

    def page(self, number: int) -> Page | None:
        """See `PageStore`."""
        return self.pages.get(number)

    def below(self, number: int) -> Iterable[tuple[int, bytes, int | None]]:
        """See `PageStore`."""
        for place in range(number << STEP, (number + 1) << STEP):
            page = self.pages.get(place)
            if page is not None:
                yield place, page[1], None if page[2] is None else len(page[2])

    def put(self, pages: Iterable[Page]) -> None:
        """See `PageStore`."""
        for page in pages:
            self.pages[page[0]] = page

    def running(self, key: bytes) -> bytes | None:
        """See `PageStore`."""
        return self.runnings.get(key)

    def indices(self, key: bytes) -> list[int]:
        """See `PageStore`."""
        return self.postings.get(key, [])

    def put_indices(self, key: bytes, indices: Iterable[int], running: bytes) -> None:
        """See `PageStore`."""
        self.postings.setdefault(key, []).extend(indices)
        self.runnings[key] = running


class Overlay:
    """A `PageStore` over another: what is put stays in memory and hides what lies below, until it is forgotten."""

    def __init__(self, base: PageReader) -> None:
        self._base = base
        self.changed = MemoryPages()
        """What was put."""

    def forget(self) -> None:
        """Drop what was put."""
        self.changed = MemoryPages()

    def page(self, number: int) -> Page | None:
        """See `PageStore`."""
        found = self.changed.pages.get(number)
        return self._base.page(number) if found is None else found

    def below(self, number: int) -> Iterable[tuple[int, bytes, int | None]]:
        """See `PageStore`."""
        known = {row[0]: row for row in self._base.below(number)}
        known.update((row[0], row) for row in self.changed.below(number))
        return known.values()

    def put(self, pages: Iterable[Page]) -> None:
        """See `PageStore`."""
        self.changed.put(pages)

    def running(self, key: bytes) -> bytes | None:
        """See `PageStore`."""
        found = self.changed.running(key)
        return self._base.running(key) if found is None else found

    def indices(self, key: bytes) -> list[int]:
        """See `PageStore`."""
        return [*self._base.indices(key), *self.changed.indices(key)]

    def put_indices(self, key: bytes, indices: Iterable[int], running: bytes) -> None:
        """See `PageStore`."""
        self.changed.put_indices(key, indices, running)
