"""The error tree: one base, and below it *who is at fault*.

    PlausibleError
    ├── UsageError      the caller asked for something impossible or ambiguous
    ├── EvidenceError   bytes or claims that are malformed or false
    ├── PolicyError     well formed, but the verifier's policy is not met
    ├── PeerError       another machine did not answer, or not as the protocol says
    └── SetupError      this machine lacks something: weights, a device, an extra, disk, a lock

Every parser and verifier of the project raises these and nothing else: malformed input never leaks `ValueError`,
`KeyError`, `binascii.Error` or `UnicodeError`. A message is one sentence that says what is wrong and what to do.
"""

from __future__ import annotations


class PlausibleError(Exception):
    """Base of everything this project raises on purpose."""


class UsageError(PlausibleError):
    """The caller asked for something impossible or ambiguous."""


class EvidenceError(PlausibleError):
    """Bytes or claims that are malformed or false."""


class PolicyError(PlausibleError):
    """Well formed, but the verifier's policy is not met."""


class PeerError(PlausibleError):
    """Another machine did not answer, or not as the protocol says."""


class SetupError(PlausibleError):
    """This machine lacks something: weights, a device, an extra, disk space, a lock."""
