"""Options of variables: which kind is the default, and those of replicas, of which there is one here."""

from __future__ import annotations

import enum


class VariableSynchronization(enum.Enum):
    """How a variable of several replicas is kept in step; there is one replica here."""

    AUTO = 0
    NONE = 1
    ON_WRITE = 2
    ON_READ = 3


class VariableAggregation(enum.Enum):
    """How the updates of several replicas are joined; there is one replica here."""

    NONE = 0
    SUM = 1
    MEAN = 2
    ONLY_FIRST_REPLICA = 3


_defaults = {"use_resource": False}


def enable_resource_variables() -> None:
    """Make resource variables the default."""
    _defaults["use_resource"] = True


def disable_resource_variables() -> None:
    """Make reference variables the default again."""
    _defaults["use_resource"] = False


def resource_variables_enabled() -> bool:
    """Whether variables are resource variables by default."""
    return _defaults["use_resource"]
