"""Sessions: what may be fetched and fed, the steps that are compiled for it, and the state behind them."""

from __future__ import annotations

from stepjit.session.session import (
    BaseSession,
    CompileStats,
    InteractiveSession,
    Session,
    eval_using_default_session,
    get_default_session,
    run_using_default_session,
)

__all__ = [
    "BaseSession",
    "CompileStats",
    "InteractiveSession",
    "Session",
    "eval_using_default_session",
    "get_default_session",
    "run_using_default_session",
]
