"""Recording into a log elsewhere: a ledger here, its entries there too.

    from plausible.node.sender import open_ledger
    ledger = open_ledger("https://log.example/shared", "studio.ledger")
    generate = ledger.wrap(generate, model="faces")       # never waits for the network, unless await_state asks for it

settings  which log a ledger sends to, and whom to believe about it     client   POST, with its answers
sender    the thread: sends, retries, verifies that what was sent is under an accepted head
"""

from __future__ import annotations

from .sender import open_ledger

__all__ = ["open_ledger"]
