"""Hashes of byte strings to 64 bits that stay the same everywhere: FarmHash64, SipHash-2-4 and MurmurHash64A.

Written from the published descriptions of the algorithms.
"""

from __future__ import annotations

from struct import unpack_from

_MASK = (1 << 64) - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def _word(data: bytes, at: int) -> int:
    found: int = unpack_from("<Q", data, at)[0]
    return found


def _half(data: bytes, at: int) -> int:
    found: int = unpack_from("<I", data, at)[0]
    return found


def _right(value: int, by: int) -> int:
    """A rotation to the right."""
    value &= _MASK
    return (value >> by | value << (64 - by)) & _MASK


def _left(value: int, by: int) -> int:
    return _right(value, 64 - by)


def _mixed(value: int) -> int:
    value &= _MASK
    return value ^ value >> 47


# --- FarmHash64 ---


def _join(u: int, v: int, mul: int) -> int:
    a = _mixed((u ^ v) * mul)
    b = _mixed(((v & _MASK) ^ a) * mul)
    return b * mul & _MASK


def farmhash64(data: bytes) -> int:
    """The FarmHash64 fingerprint."""
    size = len(data)
    if size > 64:
        return _farm_long(data)
    if size > 32:
        return _farm_64(data)
    if size > 16:
        return _farm_32(data)
    return _farm_16(data)


def _farm_16(data: bytes) -> int:
    size = len(data)
    mul = _K2 + size * 2
    if size >= 8:
        a, b = _word(data, 0) + _K2, _word(data, size - 8)
        return _join((_right(b, 37) * mul + a) & _MASK, (_right(a, 25) + b) * mul & _MASK, mul)
    if size >= 4:
        return _join(size + (_half(data, 0) << 3), _half(data, size - 4), mul)
    if size == 0:
        return _K2
    y = data[0] + (data[size >> 1] << 8)
    z = size + (data[-1] << 2)
    return _mixed((y * _K2 ^ z * _K0) & _MASK) * _K2 & _MASK


def _farm_32(data: bytes) -> int:
    size = len(data)
    mul = _K2 + size * 2
    a, b = _word(data, 0) * _K1, _word(data, 8)
    c, d = _word(data, size - 8) * mul, _word(data, size - 16) * _K2
    return _join((_right(a + b, 43) + _right(c, 30) + d) & _MASK, (a + _right(b + _K2, 18) + c) & _MASK, mul)


def _farm_64(data: bytes) -> int:
    size = len(data)
    mul = _K2 + size * 2
    a, b = _word(data, 0) * _K2, _word(data, 8)
    c, d = _word(data, size - 8) * mul, _word(data, size - 16) * _K2
    y = _right(a + b, 43) + _right(c, 30) + d
    z = _join(y & _MASK, (a + _right(b + _K2, 18) + c) & _MASK, mul)
    e, f = _word(data, 16) * mul, _word(data, 24)
    g, h = (y + _word(data, size - 32)) * mul, (z + _word(data, size - 24)) * mul
    return _join((_right(e + f, 43) + _right(g, 30) + h) & _MASK, (e + _right(f + a, 18) + g) & _MASK, mul)


def _weak(data: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    w, x, y, z = unpack_from("<4Q", data, at)
    a += w
    b = _right(b + a + z, 21)
    c = a
    a += x + y
    return (a + z) & _MASK, (b + _right(a, 44) + c) & _MASK


def _farm_long(data: bytes) -> int:
    size = len(data)
    seed = 81
    x, y = (seed * _K2 + _word(data, 0)) & _MASK, (seed * _K1 + 113) & _MASK
    z = _mixed(y * _K2 + 113) * _K2 & _MASK
    v = w = (0, 0)
    for at in range(0, (size - 1) // 64 * 64, 64):
        x = _right(x + y + v[0] + _word(data, at + 8), 37) * _K1 & _MASK
        y = _right(y + v[1] + _word(data, at + 48), 42) * _K1 & _MASK
        x ^= w[1]
        y = (y + v[0] + _word(data, at + 40)) & _MASK
        z = _right(z + w[0], 33) * _K1 & _MASK
        v = _weak(data, at, v[1] * _K1, x + w[0])
        w = _weak(data, at + 32, z + w[1], y + _word(data, at + 16))
        z, x = x, z
    mul = _K1 + ((z & 0xFF) << 1)
    at = size - 64
    w0 = w[0] + ((size - 1) & 63)
    v0 = v[0] + w0
    w0 += v0
    x = _right(x + y + v0 + _word(data, at + 8), 37) * mul & _MASK
    y = _right(y + v[1] + _word(data, at + 48), 42) * mul & _MASK
    x ^= w[1] * 9 & _MASK
    y = (y + v0 * 9 + _word(data, at + 40)) & _MASK
    z = _right(z + w0, 33) * mul & _MASK
    v = _weak(data, at, v[1] * mul, x + w0)
    w = _weak(data, at + 32, z + w[1], y + _word(data, at + 16))
    z, x = x, z
    first = _join(v[0], w[0], mul) + _mixed(y) * _K0 + z
    return _join(first & _MASK, (_join(v[1], w[1], mul) + x) & _MASK, mul)


# --- SipHash-2-4 ---


def siphash(data: bytes, key: tuple[int, int]) -> int:
    """The SipHash-2-4 of the data under a key of two 64-bit words."""
    k0, k1 = key[0] & _MASK, key[1] & _MASK
    state = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    whole = len(data) // 8 * 8
    last = data[whole:].ljust(7, b"\0") + bytes([len(data) & 0xFF])
    for word in (*unpack_from(f"<{whole // 8}Q", data), _word(last, 0)):
        state[3] ^= word
        _sip_rounds(state, 2)
        state[0] ^= word
    state[2] ^= 0xFF
    _sip_rounds(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _sip_rounds(state: list[int], count: int) -> None:
    a, b, c, d = state
    for _ in range(count):
        a = (a + b) & _MASK
        b = _left(b, 13) ^ a
        a = _left(a, 32)
        c = (c + d) & _MASK
        d = _left(d, 16) ^ c
        a = (a + d) & _MASK
        d = _left(d, 21) ^ a
        c = (c + b) & _MASK
        b = _left(b, 17) ^ c
        c = _left(c, 32)
    state[:] = a, b, c, d


# --- MurmurHash64A ---

_MURMUR_SEED = 0xDECAFCAFFE
_MURMUR = 0xC6A4A7935BD1E995


def murmurhash64(data: bytes, seed: int = _MURMUR_SEED) -> int:
    """MurmurHash64A; the default seed is the one of TF's `StringToHashBucket`."""
    found = seed ^ len(data) * _MURMUR & _MASK
    whole = len(data) // 8 * 8
    for word in unpack_from(f"<{whole // 8}Q", data):
        found = (found ^ _mixed(word * _MURMUR) * _MURMUR & _MASK) * _MURMUR & _MASK
    if len(data) > whole:
        found = (found ^ int.from_bytes(data[whole:], "little")) * _MURMUR & _MASK
    return _mixed(_mixed(found) * _MURMUR)
