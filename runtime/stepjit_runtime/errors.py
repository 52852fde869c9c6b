"""TensorFlow's error classes, one per status code, and the failure that an op raises before it is dressed."""

from __future__ import annotations

from typing import Any

OK = 0
CANCELLED = 1
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
ALREADY_EXISTS = 6
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
ABORTED = 10
OUT_OF_RANGE = 11
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
DATA_LOSS = 15
UNAUTHENTICATED = 16


class OpFailure(Exception):
    """What an op's code raises: a status code and the kernel's text, before the op's name and line are known."""

    def __init__(self, message: str, code: int = INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.message, self.code = message, code


class OpError(Exception):
    """A step failed: `op` is the graph's Operation or None, `node_def` its NodeDef, `error_code` TF's status code."""

    def __init__(self, node_def: Any, op: Any, message: str, error_code: int, *args: Any) -> None:
        super().__init__(message)
        self._node_def, self._op, self._message, self._error_code = node_def, op, message, error_code

    @property
    def message(self) -> str:
        return self._message

    @property
    def op(self) -> Any:
        return self._op

    @property
    def error_code(self) -> int:
        return self._error_code

    @property
    def node_def(self) -> Any:
        # Most errors are never asked for it.
        if self._node_def is None and self._op is not None:
            self._node_def = self._op.node_def
        return self._node_def

    def __str__(self) -> str:
        return self._message

    def __reduce__(self) -> Any:
        # An Operation belongs to its graph and process; the message already names it.
        if type(self) is OpError:
            return OpError, (None, None, self._message, self._error_code)
        return type(self), (None, None, self._message)


class _CodedError(OpError):
    """An OpError whose class tells its code."""

    _code = UNKNOWN

    def __init__(self, node_def: Any, op: Any, message: str, *args: Any) -> None:
        super().__init__(node_def, op, message, self._code)


_CLASSES: dict[int, type[_CodedError]] = {}


def _error(name: str, code: int, doc: str) -> type[_CodedError]:
    _CLASSES[code] = type(name, (_CodedError,), {"_code": code, "__doc__": doc, "__module__": __name__})
    return _CLASSES[code]


CancelledError = _error("CancelledError", CANCELLED, "A step or a queue operation was cancelled, as by closing.")
UnknownError = _error("UnknownError", UNKNOWN, "A failure with no better class, as in Python code of the graph.")
InvalidArgumentError = _error("InvalidArgumentError", INVALID_ARGUMENT, "An op got a value or shape it can't take.")
DeadlineExceededError = _error("DeadlineExceededError", DEADLINE_EXCEEDED, "The step's time limit ran out.")
NotFoundError = _error("NotFoundError", NOT_FOUND, "A file, variable or key was not found.")
AlreadyExistsError = _error("AlreadyExistsError", ALREADY_EXISTS, "What was to be made is there already.")
PermissionDeniedError = _error("PermissionDeniedError", PERMISSION_DENIED, "The caller may not do this.")
ResourceExhaustedError = _error("ResourceExhaustedError", RESOURCE_EXHAUSTED, "Memory, disk space or a quota ran out.")
FailedPreconditionError = _error(
    "FailedPreconditionError", FAILED_PRECONDITION, "State is missing: most often a variable was not initialised."
)
AbortedError = _error("AbortedError", ABORTED, "The operation was aborted.")
OutOfRangeError = _error("OutOfRangeError", OUT_OF_RANGE, "Past the valid range: end of a queue, file or dataset.")
UnimplementedError = _error("UnimplementedError", UNIMPLEMENTED, "The op does not do this for these arguments.")
InternalError = _error("InternalError", INTERNAL, "An invariant of the system does not hold.")
UnavailableError = _error("UnavailableError", UNAVAILABLE, "The service can't be reached.")
DataLossError = _error("DataLossError", DATA_LOSS, "Data is lost or damaged beyond repair.")
UnauthenticatedError = _error("UnauthenticatedError", UNAUTHENTICATED, "The caller did not say who it is.")


class GraphArgumentError(InvalidArgumentError, ValueError):  # type: ignore[misc, valid-type]
    """An op of the graph can't take what it gets, whatever is fed, and so is not made.

    TensorFlow reports a part of this when the graph is built, as a ValueError, the rest only in the step.
    """


class InaccessibleTensorError(ValueError):
    """The tensor lives where this graph can't reach it."""


def exception_type_from_error_code(code: int) -> type[_CodedError]:
    """The class for one of TF's status codes; KeyError for a number that is none."""
    return _CLASSES[code]


class raise_exception_on_not_ok_status:  # noqa: N801, TF's name
    """A block whose failures are errors of this module already; kept for programs that were written with it."""

    def __enter__(self) -> raise_exception_on_not_ok_status:
        return self

    def __exit__(self, *error: Any) -> None:
        return None


def error_code_from_exception_type(cls: type[Any]) -> int:
    """TF's status code for one of the classes above; KeyError for a class that is none."""
    return {kind: code for code, kind in _CLASSES.items()}[cls]
