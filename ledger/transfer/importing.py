"""Reading `plausible.export/1` from somebody who may lie: a public folder appears whole and verified, or not at all.

The checkpoint comes first and must meet the policy; from then on its size says which file must come next and its root
what is in it, so nothing false is even stored beyond one bundle, and nothing can be larger than what the log signed.
Everything is written into a folder beside the target, flushed, and renamed. What fails or is interrupted leaves nothing
(a kill leaves that folder, named `.tmp-…-TARGET`, until the next import into the same target); importing again begins
again.

What is made is a copy of the log to read, serve and check. It holds no key and no state: nothing signs with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...schemas.errors import EvidenceError, UsageError
from ..absence.note import INDEX_NOTE
from ..merkle.public import CHECKPOINT, CHECKPOINTS, PUBLIC_FOLDER, PublicFolder
from ..merkle.tiles import WIDTH, Tile, decode_bundle, encode_bundle, encode_tile, item_count
from ..notes.note import MAX_NOTE_BYTES, Note, VerifierKey
from ..notes.policy import AcceptedCheckpoint, Policy
from ..notes.wire import parse_decimal
from ..storage.disk import staged_folder
from .container import Members
from .descent import Roots, Verified, descend
from .exporting import MANIFEST, check_head, manifest, manifest_problem
from .indexed import IndexCheck

_FLUSH_FILES = 2048
_MAX_MANIFEST = 1 << 16
_SCRATCH = ".index-scratch.db"


@dataclass(frozen=True, slots=True)
class Imported:
    """What is now in the folder: the accepted checkpoint, how many kept ones, how many were left out, bytes read.

    `index` is the size of the index note, whose root was recomputed; None without one. Left out are kept checkpoints
    without a signature by the policy's key of the log: they date nothing here.
    """

    accepted: AcceptedCheckpoint
    checkpoints: int
    left_out: int
    bytes: int
    index: int | None = None


def import_log(
    source: BinaryIO, target: Path, policy: Policy, *, progress: Callable[[int, int], None] | None = None
) -> Imported:
    """Make TARGET/public from an export, verified under `policy`; TARGET is absent or an empty folder.

    Raises `UsageError` if it is not, `PolicyError` if the checkpoint does not meet the policy, `EvidenceError` for
    everything false, malformed, cut off or too large, `SetupError` for a disk that does not take it. In each case
    TARGET is as it was.
    """
    with placing(target) as staging:
        return import_into(Members(source), staging, policy, progress)


@contextlib.contextmanager
def placing(target: Path, *, mode: int = 0o777) -> Generator[Path]:
    """A folder that takes the target's place when the block ends well; `UsageError` if something is there."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is not empty: choose a new directory")
    with staged_folder(target, f"importing into {target}", mode=mode) as staging:
        yield staging


def import_into(
    members: Members, staging: Path, policy: Policy, progress: Callable[[int, int], None] | None
) -> Imported:
    """Make STAGING/public from the members that follow, to the end of the file; see `import_log` for what it raises."""
    return _Import(members, staging, policy, progress).run()


class _Import:
    def __init__(
        self, members: Members, staging: Path, policy: Policy, progress: Callable[[int, int], None] | None
    ) -> None:
        self._members = members
        self._scratch = staging / _SCRATCH
        self._policy = policy
        self._progress = progress
        self._folder = PublicFolder(staging / PUBLIC_FOLDER, strict=False)
        self._roots = Roots()
        self._written = 0
        self._last = -1
        self._last_kept = -1
        self._left_out = 0
        # the unfinished tiles and bundle: the partial files of older heads are cut out of them, each once
        self._edge: dict[int | None, Verified] = {}
        self._cut_out: set[tuple[int | None, int]] = set()

    def run(self) -> Imported:
        with contextlib.ExitStack() as stack:
            return self._run(stack)

    def _run(self, stack: contextlib.ExitStack) -> Imported:
        first = self._members.take(MANIFEST, _MAX_MANIFEST)
        note = self._members.take(CHECKPOINT, MAX_NOTE_BYTES)
        accepted = self._policy.check(note)
        size = accepted.size
        if first != manifest(accepted.checkpoint):
            raise EvidenceError(manifest_problem(first))
        index: IndexCheck | None = None
        if self._members.name == INDEX_NOTE:
            served = self._members.take(INDEX_NOTE, MAX_NOTE_BYTES)
            index = IndexCheck(served, accepted.checkpoint, self._scratch)
            stack.callback(index.close)
            self._write(INDEX_NOTE, served)
        keys = [log.key for log in self._policy.logs if log.key.name == accepted.origin]
        count = 0

        def heads(upto: int) -> None:
            nonlocal count
            while (head := self._head_size()) is not None and head <= upto:
                self._last = head
                name = f"{CHECKPOINTS}/{head}"
                data = self._members.take(name, MAX_NOTE_BYTES)
                found = check_head(data, accepted.origin, head, self._roots)
                if not _signed(found, keys):
                    self._left_out += 1
                    continue
                self._write(name, data)
                count += 1
                self._keep_edge(head)

        heads(0)
        for found in descend(size, accepted.root, lambda tile: self._members.take(tile.path, tile.max_bytes)):
            self._write(found.tile.path, found.data)
            if found.tile.width < WIDTH:
                self._edge[found.tile.level] = found
            if found.tile.is_bundle:
                self._roots.pass_by(found.hashes)
                heads(self._roots.size)
                if index is not None:
                    index.pass_by(found.data, found.tile.width, found.hashes)
                if self._progress is not None:
                    self._progress(self._roots.size, size)
        self._members.finish()
        if index is not None:
            index.finish()
        if self._last_kept != size:  # as the writer would have: the first cosigned note of a size dates it
            self._write(f"{CHECKPOINTS}/{size}", note)
        self._write(CHECKPOINT, note)
        self._folder.sync()
        return Imported(
            accepted, count, self._left_out, self._members.bytes, None if index is None else index.head.size
        )

    def _head_size(self) -> int | None:
        """The size of the kept checkpoint that comes next, if one does; they ascend."""
        name = self._members.name
        if not name.startswith(f"{CHECKPOINTS}/"):
            return None
        size = parse_decimal(name.removeprefix(f"{CHECKPOINTS}/"), "the size of a kept checkpoint")
        if size <= self._last:
            raise EvidenceError(f"{name} stands behind the kept checkpoint of size {self._last}")
        return size

    def _keep_edge(self, head: int) -> None:
        """Write the partial files that readers at a kept head ask for, where no full one will stand for them."""
        self._last_kept = head
        level = 0
        while (count := item_count(level, head)) > 0:
            index, width = divmod(count, WIDTH)
            self._cut(level, index, width)
            if level == 0:
                self._cut(None, index, width)
            level += 1

    def _cut(self, level: int | None, index: int, width: int) -> None:
        whole = self._edge.get(level)
        if whole is None or whole.tile.index != index or not 0 < width < whole.tile.width:
            return
        if (level, width) not in self._cut_out:
            self._cut_out.add((level, width))
            if level is None:
                data = encode_bundle(decode_bundle(whole.data, whole.tile.width)[:width])
            else:
                data = encode_tile(whole.hashes[:width])
            self._write(Tile(level, index, width).path, data)

    def _write(self, path: str, data: bytes) -> None:
        self._folder.write_tiles([(path, data)])
        self._written += 1
        if self._written % _FLUSH_FILES == 0:
            self._folder.sync()


def _signed(note: Note, keys: Sequence[VerifierKey]) -> bool:
    try:
        note.verify(keys)
    except EvidenceError:
        return False
    return True


__all__ = ["Imported", "import_into", "import_log", "placing"]
