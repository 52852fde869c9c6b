"""tf.logging: Python's logger named `tensorflow`."""

from __future__ import annotations

import logging as _logging
from typing import Any

DEBUG, INFO, WARN, ERROR, FATAL = (
    _logging.DEBUG, _logging.INFO, _logging.WARNING, _logging.ERROR, _logging.CRITICAL,
)  # fmt: skip

_logger = _logging.getLogger("tensorflow")

debug, info, error = _logger.debug, _logger.info, _logger.error
warn = warning = _logger.warning
fatal = _logger.critical


def log(level: int, msg: str, *args: Any) -> None:
    """Log at one of the levels."""
    _logger.log(level, msg, *args)


def get_verbosity() -> int:
    """The level from which on messages are shown."""
    return _logger.getEffectiveLevel()


def set_verbosity(v: int) -> None:
    """Show messages of this level and above."""
    _logger.setLevel(v)


def flush() -> None:
    """Write out what the handlers hold back."""
    for handler in _logger.handlers:
        handler.flush()
