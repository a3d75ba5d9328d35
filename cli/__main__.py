"""`python -m plausible.cli` is `pd`."""

from __future__ import annotations

import sys

from .main import main

sys.exit(main())
