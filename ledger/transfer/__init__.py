"""A whole log in one file: written while it is verified, believed only after it was verified again.

container   a strict tar: one spelling of every member, so the same log gives the same bytes
exporting   `export_log`: the checkpoint, every bundle, every kept checkpoint, each held against the tree as it goes out
indexed     the signed absence index, held against the entries on both ways
importing   `import_log`: an untrusted file becomes a public folder, all at once, or nothing happens

private     `export_private`, `import_private`: state and vault in front of it, for the operator's own backup

docs/spec/export.md is the format. What it carries is public; what is derived (hash tiles, lookup.db, absence.db) is
derived again.
"""

from __future__ import annotations

from .exporting import Exported, export_log
from .importing import Imported, import_log
from .private import export_private, import_private

__all__ = ["Exported", "Imported", "export_log", "export_private", "import_log", "import_private"]
