"""A folder whose files are trusted as far as their owner and mode tell: no links followed, no locks, no half files.

All is done relative to the opened folder, so a folder that is swapped for another meanwhile gains nothing. Files are
written under a name of their own and renamed, so readers see all of a file or nothing.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

PARTIAL = ".partial-"
"""How names of files that are being written start."""
PARTIAL_SECONDS = 3600
"""A file that is this old and still being written has lost its writer."""

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class Refused(Exception):
    """A folder or file that is not to be used: `reason` is one word, the text says more."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class FileInfo(NamedTuple):
    """A file in the folder: its name, bytes, and when it was last used, in seconds since 1970."""

    name: str
    bytes: int
    used: float


class Folder:
    """An opened folder; raises Refused when it belongs to another user or others may write to it."""

    def __init__(self, path: str, create: bool = True) -> None:
        self.path, self._fd = path, -1
        if os.open not in os.supports_dir_fd:
            raise Refused("platform", "this system can't open files relative to a folder")
        if create:
            try:
                os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
                os.mkdir(path, 0o700)
            except FileExistsError:
                pass
            except OSError as error:
                raise Refused("folder", f"{path}: {error.strerror}") from None
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NO_LINKS)
        except OSError as error:
            raise Refused(*_refusal(path, error)) from None
        try:
            _check(path, os.fstat(self._fd))
        except Refused:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the folder; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def read(self, name: str, most: int | None = None) -> bytes:
        """The file's bytes, the first `most` of them; Refused (`absent`, `link`, `owner`, `mode`, ...)."""
        fd = self._open(name)
        try:
            size = os.fstat(fd).st_size
            parts, left = [], size if most is None else min(size, most)
            while left > 0:
                part = os.read(fd, left)
                if not part:
                    break
                parts.append(part)
                left -= len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        except OSError as error:
            raise Refused("unreadable", f"{name}: {error.strerror}") from None
        finally:
            os.close(fd)

    def _open(self, name: str) -> int:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _NO_LINKS, dir_fd=self._fd)
        except OSError as error:
            raise Refused(*_refusal(name, error)) from None
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise Refused("kind", f"{name} is no regular file")
            _check(name, info)
        except Refused:
            os.close(fd)
            raise
        return fd

    def write(self, name: str, parts: Sequence[bytes | memoryview], replace: bool = False) -> bool:
        """Write a file whole, or not at all; False when one of that name is there already and `replace` is not set.

        OSError when there is no room or no right to.
        """
        if not replace and self.has(name):
            return False
        partial = f"{PARTIAL}{os.getpid()}-{secrets.token_hex(8)}"
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINKS, 0o600, dir_fd=self._fd)
        try:
            try:
                for part in parts:
                    _write_all(fd, part)
            finally:
                os.close(fd)
            os.rename(partial, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except BaseException:
            self.remove(partial)
            raise
        return True

    def append(self, name: str, data: bytes, most: int) -> None:
        """Add a line to a file, in one write; a file that has grown beyond `most` bytes starts anew, `<name>.old` kept.

        OSError when there is no room or no right to, or the file is not ours alone.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | _NO_LINKS
        fd = os.open(name, flags, 0o600, dir_fd=self._fd)
        try:
            info = os.fstat(fd)
            try:
                _check(name, info)
            except Refused as refused:
                raise OSError(errno.EPERM, str(refused)) from None
            os.write(fd, data)
        finally:
            os.close(fd)
        if info.st_size > most:
            os.rename(name, f"{name}.old", src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def has(self, name: str) -> bool:
        """Whether there is anything of that name."""
        try:
            os.lstat(name, dir_fd=self._fd)
        except OSError:
            return False
        return True

    def info(self, name: str) -> FileInfo:
        """A file's size and last use; Refused (`absent`, `unreadable`) when the folder has none of that name."""
        try:
            found = os.lstat(name, dir_fd=self._fd)
        except OSError as error:
            raise Refused(*_refusal(name, error)) from None
        return FileInfo(name, found.st_size, found.st_mtime)

    def touch(self, name: str) -> None:
        """Note that the file was used now."""
        with suppress(OSError):  # a read-only cache is used all the same
            os.utime(name, dir_fd=self._fd, follow_symlinks=False)

    def remove(self, name: str) -> bool:
        """Delete a file, or a link itself; False when that can't be done."""
        try:
            os.unlink(name, dir_fd=self._fd)
        except OSError:
            return False
        return True

    def files(self, suffix: str) -> Iterator[FileInfo]:
        """The folder's own regular files whose names end so, in no order."""
        with self._items() as found:
            for item in found:
                if item.name.endswith(suffix) and not item.name.startswith("."):
                    try:
                        info = item.stat(follow_symlinks=False)
                    except OSError:
                        continue  # another process removed it
                    yield FileInfo(item.name, info.st_size, info.st_mtime)

    @contextmanager
    def _items(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        # Descriptors that share the folder's would share its place in the listing.
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._fd)
        try:
            with os.scandir(fd) as found:
                yield found
        finally:
            os.close(fd)

    def remove_partial(self) -> int:
        """Delete what writers left behind that were killed; returns how many files."""
        late, count = time.time() - PARTIAL_SECONDS, 0
        with self._items() as found:
            for item in found:
                if item.name.startswith(PARTIAL):
                    try:
                        old = item.stat(follow_symlinks=False).st_mtime < late
                    except OSError:
                        continue
                    count += old and self.remove(item.name)
        return count


def _check(name: str, info: os.stat_result) -> None:
    if hasattr(os, "geteuid") and info.st_uid != os.geteuid():
        raise Refused("owner", f"{name} belongs to another user ({info.st_uid})")
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Refused("mode", f"{name} may be written by others (mode {stat.S_IMODE(info.st_mode):04o})")


def _refusal(name: str, error: OSError) -> tuple[str, str]:
    if error.errno == errno.ENOENT:
        return "absent", f"{name} is not there"
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return "link", f"{name} is a symbolic link"
    if error.errno == errno.ENOTDIR:
        return "folder", f"{name} is no folder, or a symbolic link to one"
    return "unreadable", f"{name}: {error.strerror}"


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
