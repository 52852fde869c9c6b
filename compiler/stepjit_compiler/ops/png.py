"""Images as PNG files, in memory."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type."""
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, rows and columns apart of the passes of an interlaced image."""


class _BadImage(Exception):
    """The bytes are no PNG that can be read."""


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(_SIGNATURE):
        raise _BadImage
    at = len(_SIGNATURE)
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        if len(body) != size:
            raise _BadImage
        yield kind, body
        at += size + 12


def read_png(data: bytes) -> np.ndarray:
    """[height, width, samples] of u8 or u16, colours looked up; raises _BadImage."""
    header, palette, alpha, parts = b"", b"", b"", []
    for kind, body in _chunks(data):
        header = body if kind == b"IHDR" else header
        palette = body if kind == b"PLTE" else palette
        alpha = body if kind == b"tRNS" else alpha
        if kind == b"IDAT":
            parts.append(body)
    if len(header) != 13 or not parts:
        raise _BadImage
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if colour not in _SAMPLES or depth not in (1, 2, 4, 8, 16) or not width or not height:
        raise _BadImage
    try:
        raw = np.frombuffer(zlib.decompress(b"".join(parts)), np.uint8)
    except zlib.error:
        raise _BadImage from None
    samples = _SAMPLES[colour]
    found = np.zeros((height, width, samples), np.uint16 if depth == 16 else np.uint8)
    at = 0
    for y, x, down, across in _PASSES if interlaced else ((0, 0, 1, 1),):
        rows, columns = -(-(height - y) // down), -(-(width - x) // across)
        if rows > 0 and columns > 0:
            found[y::down, x::across], at = _pass(raw, at, rows, columns, samples, depth)
    if colour == 3:
        return _looked_up(found, palette, alpha)
    return found * np.uint8(255 // ((1 << depth) - 1)) if depth < 8 else found


def _looked_up(places: np.ndarray, palette: bytes, alpha: bytes) -> np.ndarray:
    table = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    if places.size and int(places.max()) >= len(table):
        raise _BadImage
    if alpha:
        opaque = np.full((len(table), 1), 255, np.uint8)
        opaque[: len(alpha), 0] = np.frombuffer(alpha, np.uint8)
        table = np.concatenate([table, opaque], 1)
    return table[places[..., 0]]


def _pass(raw: np.ndarray, at: int, rows: int, columns: int, samples: int, depth: int) -> tuple[np.ndarray, int]:
    """The pixels of one pass, and where the next one begins."""
    size = -(-columns * samples * depth // 8)
    if len(raw) < at + rows * (size + 1):
        raise _BadImage
    lines = raw[at : at + rows * (size + 1)].reshape(rows, size + 1)
    plain = _unfiltered(lines[:, 0], lines[:, 1:], max(samples * depth // 8, 1))
    if depth == 16:
        numbers = plain.copy().view(">u2").astype(np.uint16)
    elif depth == 8:
        numbers = plain
    else:
        bits = np.unpackbits(plain, axis=1)[:, : columns * samples * depth].reshape(rows, -1, depth)
        numbers = (bits << np.arange(depth - 1, -1, -1, dtype=np.uint8)).sum(-1).astype(np.uint8)
    return numbers.reshape(rows, columns, samples), at + rows * (size + 1)


def _unfiltered(kinds: np.ndarray, lines: np.ndarray, step: int) -> np.ndarray:
    """The bytes of every line, which are told as differences from bytes to the left and above."""
    found = np.zeros_like(lines)
    above = np.zeros(lines.shape[1], np.uint8)
    for row, (kind, line) in enumerate(zip(kinds, lines, strict=True)):
        if kind == 0:
            found[row] = line
        elif kind == 1:
            for first in range(step):
                found[row, first::step] = np.cumsum(line[first::step], dtype=np.uint8)
        elif kind == 2:
            found[row] = line + above
        elif kind in (3, 4):
            found[row] = _predicted(int(kind), line, above, step)
        else:
            raise _BadImage
        above = found[row]
    return found


def _predicted(kind: int, line: np.ndarray, above: np.ndarray, step: int) -> list[int]:
    over, found = above.tolist(), [0] * len(line)
    for k, byte in enumerate(line.tolist()):
        left = found[k - step] if k >= step else 0
        if kind == 3:
            guess = (left + over[k]) // 2
        else:
            corner = over[k - step] if k >= step else 0
            base = left + over[k] - corner
            guess = min((left, over[k], corner), key=lambda each: abs(base - each))
        found[k] = (byte + guess) & 255
    return found


def write_png(image: np.ndarray, level: int) -> bytes:
    """The PNG file of an image [height, width, 1 to 4 samples] of u8 or u16."""
    height, width, samples = image.shape
    wide = image.dtype.itemsize == 2
    lines = image.astype(">u2" if wide else np.uint8).reshape(height, -1).view(np.uint8)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), lines], 1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 16 if wide else 8, {1: 0, 2: 4, 3: 2, 4: 6}[samples], 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, level))
    return _SIGNATURE + body + chunk(b"IEND", b"")


# --- DecodePng, DecodeImage ---
def _decoded_shape(x: Inference) -> list[ShapeLike]:
    x.with_rank(0, 0)
    return [(None, None, x.attrs["channels"] or None)]


def _decode(call: Call, contents: np.ndarray) -> np.ndarray:
    if contents.ndim:
        call.fail(f"contents must be scalar but got shape{show(contents.shape)}")
    data = bytes(contents[()])
    channels = call.attrs["channels"]
    if channels not in (0, 1, 3, 4):
        call.fail(f"channels must be 0, 1, 3 or 4, got {channels}")
    try:
        image = read_png(data)
    except _BadImage:
        start = data[:16].decode("latin-1")
        call.fail(f"Invalid PNG data, size {len(data)}: got unknown format starting with '{start}'")
    image = _with_channels(image, channels)
    return _in_dtype(image, call.dtypes[0].np)


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    have = image.shape[2]
    if channels in (0, have):
        return image
    most = np.iinfo(image.dtype).max
    alpha = image[..., -1:] if have in (2, 4) else np.full_like(image[..., :1], most)
    colours = image[..., : have - (have in (2, 4))]
    if channels == 1:
        if colours.shape[2] == 3:
            weighted = colours.astype(np.int64) @ np.array([9797, 19234, 3737])
            colours = (weighted >> 15)[..., None].astype(image.dtype)
        return colours
    colours = np.repeat(colours, 3, 2) if colours.shape[2] == 1 else colours
    return np.concatenate([colours, alpha], 2) if channels == 4 else colours


def _in_dtype(image: np.ndarray, dtype: Any) -> np.ndarray:
    wanted = np.dtype(dtype)
    if wanted == image.dtype:
        return np.ascontiguousarray(image)
    if wanted.kind == "f":
        return (image / np.float32(np.iinfo(image.dtype).max)).astype(wanted)
    return (image >> 8).astype(np.uint8) if wanted.itemsize == 1 else image.astype(np.uint16) * np.uint16(257)


define("DecodePng", "contents: string -> image: dtype", "channels: int = 0, dtype: type in uint8|uint16 = uint8",
       infer=_decoded_shape, reference=_decode)  # fmt: skip
define("DecodeImage", "contents: string -> image: dtype",
       "channels: int = 0, dtype: type in uint8|uint16|float32 = uint8, expand_animations: bool = True",
       infer=lambda x: _decoded_shape(x) if not x.attrs["expand_animations"] else [None],
       reference=_decode)  # fmt: skip


# --- EncodePng ---
def _encoded_shape(x: Inference) -> list[ShapeLike]:
    x.with_rank(0, 3)
    return [()]


def _encode(call: Call, image: np.ndarray) -> np.ndarray:
    if image.ndim != 3:
        call.fail(f"image must be 3-dimensional{show(image.shape)}")
    if image.shape[2] not in (1, 2, 3, 4):
        call.fail(f"image must have 1, 2, 3, or 4 channels: got {image.shape[2]}")
    if not image.size:
        call.fail("image must not be empty")
    if not -1 <= call.attrs["compression"] <= 9:
        call.fail(f"compression should be in [-1,9], got {call.attrs['compression']}")
    found = np.empty((), object)
    found[()] = write_png(image, call.attrs["compression"])
    return found


define("EncodePng", "image: T -> contents: string", "compression: int = -1, T: type in uint8|uint16 = uint8",
       infer=_encoded_shape, reference=_encode)  # fmt: skip
