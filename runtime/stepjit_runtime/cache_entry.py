"""One entry of the disk cache as bytes: a header that anyone can read, and the sections that it lists.

    0    "stepjit" and the format's number, 8 bytes
    8    BLAKE2b-256 of everything that follows
    40   length of the header, u32, little endian
    44   the header: JSON, with {"sections": {name: [offset from the header's end, bytes]}, ...}
    ...  the sections

Nothing in an entry is executed to read it, and no section is looked at before the digest was found right.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

from stepjit_runtime.cache_folder import Refused

MAGIC = b"stepjit\x01"
_DIGEST_AT, _LENGTH_AT, _HEADER_AT = 8, 40, 44
HEADER_GUESS = 4096
"""Bytes from the start of an entry in which nearly every header ends."""


def pack(header: Mapping[str, Any], sections: Mapping[str, bytes]) -> list[bytes]:
    """The entry in pieces to be written one after another; `header` holds what JSON can."""
    table, offset = {}, 0
    for name, data in sections.items():
        table[name] = [offset, len(data)]
        offset += len(data)
    text = json.dumps({**header, "sections": table}, separators=(",", ":"), sort_keys=True).encode()
    start = struct.pack("<I", len(text)) + text
    digest = hashlib.blake2b(start, digest_size=32)
    for data in sections.values():
        digest.update(data)
    return [MAGIC + digest.digest() + start, *sections.values()]


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, memoryview]]:
    """Header and sections of a whole entry; Refused (`format`, `truncated`, `checksum`) when it is not as written."""
    end = _header_end(data)
    if end > len(data):
        raise Refused("truncated", f"the header ends at byte {end} of {len(data)}")
    digest = hashlib.blake2b(memoryview(data)[_LENGTH_AT:], digest_size=32).digest()
    if digest != data[_DIGEST_AT:_LENGTH_AT]:
        raise Refused("checksum", "the bytes are not those that were written")
    header = _header(data[_HEADER_AT:end])
    body, sections = memoryview(data)[end:], {}
    try:
        for name, (offset, size) in header["sections"].items():
            if not 0 <= offset <= offset + size <= len(body):
                raise Refused("truncated", f"section {name!r} ends beyond the file")
            sections[name] = body[offset : offset + size]
    except (TypeError, ValueError):
        raise Refused("format", "the table of sections makes no sense") from None
    return header, sections


def header_of(start: bytes) -> dict[str, Any] | int:
    """The header of an entry of which `start` is the beginning, unchecked; or how many bytes are needed to read it."""
    end = _header_end(start)
    return end if end > len(start) else _header(start[_HEADER_AT:end])


def _header_end(data: bytes) -> int:
    if len(data) < _HEADER_AT:
        raise Refused("truncated", f"{len(data)} bytes are no entry")
    if data[:_DIGEST_AT] != MAGIC:
        raise Refused("format", "this is no entry of this format")
    return _HEADER_AT + int(struct.unpack_from("<I", data, _LENGTH_AT)[0])


def _header(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("format", "the header is no JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("sections"), dict):
        raise Refused("format", "the header is none of an entry")
    return found
