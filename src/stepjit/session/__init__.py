"""Sessions: what may be fetched and fed, the steps that are compiled for it, and the state behind them."""

from __future__ import annotations

from stepjit.session.defaults import eval_using_default_session, get_default_session, run_using_default_session
from stepjit.session.interactive import InteractiveSession
from stepjit.session.session import BaseSession, CompileStats, Session

__all__ = [
    "BaseSession",
    "CompileStats",
    "InteractiveSession",
    "Session",
    "eval_using_default_session",
    "get_default_session",
    "run_using_default_session",
]
