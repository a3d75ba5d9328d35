"""Is everything that a log stores what was signed? Each file is re-derived and compared; nothing is changed.

findings   what was found, what was looked at, what was not, and the exit code that follows
heads      checkpoint, checkpoint.pending, checkpoints/SIZE: signatures, cosignatures, one history
walk       every tile and bundle, from the signed root downwards; names the file that is wrong, not its neighbours
entries    every entry's form and signature; every author chain; draws; a scratch copy of the lookup index
cross      the root once more, by merkly
databases  SQLite files: structure, indexes, one moment
private    log.toml, policy, authors, keys, witnesses, journal, manifests
state      state.db against the entries
vault      vault.db against the entries and their commitments
lookup     lookup.db against the entries
absence    the index root in index/latest, and absence.db, against the entries
check      the order of all this: `check_ledger`, `check_log`

A finding is *false* (what is there contradicts what was signed, or itself), *untrusted* (well formed, the policy is not
met) or *not read* (missing, unreachable, or by a key nobody gave): docs/verdicts.md's distinction, ADR 0007.
"""

from __future__ import annotations

from .check import check_ledger, check_log
from .findings import Finding, Kind, Report

__all__ = ["Finding", "Kind", "Report", "check_ledger", "check_log"]
