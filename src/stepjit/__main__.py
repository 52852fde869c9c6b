"""`python -m stepjit` is the `stepjit` command."""

from __future__ import annotations

import sys

from stepjit.cli import main

sys.exit(main())
