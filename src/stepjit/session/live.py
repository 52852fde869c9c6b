"""The sessions of this process, for `Session.reset`."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stepjit.session.config import as_target, check_target, read_config

if TYPE_CHECKING:
    from stepjit.session.session import BaseSession

_sessions: weakref.WeakSet[BaseSession] = weakref.WeakSet()


def enlist(session: BaseSession) -> None:
    """Let `reset` reach the session."""
    _sessions.add(session)


def reset(target: Any, containers: Sequence[Any] | None, config: Any) -> None:
    """End the state of all sessions, whatever the containers: each session has containers of its own, and is closed.

    TypeError for arguments of wrong types, NotFoundError for a target that is not this process.
    """
    check_target(as_target(target))
    read_config(config)
    if containers is not None and (isinstance(containers, (str, bytes)) or not _all_text(containers)):
        raise TypeError(f"Argument `containers` must be a list of strings, but got {containers!r}")
    for session in list(_sessions):
        session._resources.close()


def _all_text(containers: Any) -> bool:
    try:
        return all(isinstance(each, (str, bytes)) for each in containers)
    except TypeError:
        return False
