"""Files for ops: reading, writing and finding them, with the failures that TensorFlow reports."""

from __future__ import annotations

import errno
import fnmatch
import os
from collections.abc import Iterable

from stepjit_runtime import errors
from stepjit_runtime.errors import OpFailure

_CODES = {
    errno.ENOENT: errors.NOT_FOUND,
    errno.ENOTDIR: errors.FAILED_PRECONDITION,
    errno.EISDIR: errors.FAILED_PRECONDITION,
    errno.EACCES: errors.PERMISSION_DENIED,
    errno.EPERM: errors.PERMISSION_DENIED,
    errno.EROFS: errors.PERMISSION_DENIED,
    errno.EEXIST: errors.ALREADY_EXISTS,
    errno.ENOSPC: errors.RESOURCE_EXHAUSTED,
    errno.EMFILE: errors.RESOURCE_EXHAUSTED,
}


def failure_of(error: OSError, path: str) -> OpFailure:
    """What the operating system refused, as an op's failure."""
    text = error.strerror or str(error)
    return OpFailure(f"{path}; {text}", _CODES.get(error.errno or 0, errors.UNKNOWN))


def read_file(path: str) -> bytes:
    """All of a file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise failure_of(error, path) from None


def write_file(path: str, contents: bytes) -> None:
    """Write a file anew; folders on the way to it are made."""
    try:
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        with open(path, "wb") as file:
            file.write(contents)
    except OSError as error:
        raise failure_of(error, path) from None


def matching_files(patterns: Iterable[str]) -> list[str]:
    """The names that match one of the patterns (`*`, `?`, `[...]` within a part of a path), sorted."""
    return sorted({name for pattern in patterns for name in _matching(pattern)})


def _matching(pattern: str) -> list[str]:
    absolute = pattern.startswith("/")
    found = ["/" if absolute else ""]
    for part in pattern.strip("/").split("/"):
        if any(char in part for char in "*?["):
            found = [
                os.path.join(folder, name)
                for folder in found
                for name in _listed(folder)
                if fnmatch.fnmatchcase(name, part)
            ]
        else:
            found = [os.path.join(folder, part) for folder in found]
    return [name for name in found if os.path.lexists(name)]


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")
    except OSError:
        return []  # no folder, or one that is not to be looked into: nothing matches in it
