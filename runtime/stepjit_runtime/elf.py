"""Loads relocatable ELF objects for x86-64 into memory: what the compiler makes on Linux.

LLVM's JIT would do, but loading it takes longer than all the rest of starting from a cached program, and it keeps some
memory of each object for good. This loader knows the relocations of position-independent code of the small model, and
says so (`Unsupported`) when it meets another. Formats and relocations: System V ABI, AMD64 supplement, version 1.0.

    text | stubs      read, execute     a stub jumps to an outside function through its cell
    constants | cells read              a cell holds an outside address
    data              read, write

Everything in an object is checked before it is used as an offset: damaged code is refused, not run.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple


class Unsupported(Exception):
    """Sound code, as far as it was looked at, but not of the kind that this loader knows."""


class Damaged(Exception):
    """This is no object that a compiler wrote."""


_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")

_RELOCATABLE, _X86_64 = 1, 62
_SYMTAB, _RELA, _NOBITS = 2, 4, 8
_WRITE, _ALLOC, _EXECUTE = 1, 2, 4
_UNDEFINED, _FIRST_RESERVED, _ABSOLUTE = 0, 0xFF00, 0xFFF1
_GLOBAL_BINDINGS = (1, 2)

_R64, _PC32, _PLT32, _GOTPCREL, _PC64, _GOTPCRELX, _REX_GOTPCRELX = 1, 2, 4, 9, 24, 41, 42
_THROUGH_CELL = (_GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX)
_WIDTH = {_R64: 8, _PC64: 8, _PC32: 4, _PLT32: 4, _GOTPCREL: 4, _GOTPCRELX: 4, _REX_GOTPCRELX: 4}

_STUB_BYTES, _CELL_BYTES = 8, 8
_MOST_BYTES = 1 << 26
"""Of a section: all of an image must be in reach of 32-bit distances."""
_LEFT_OUT = (b".eh_frame",)
"""Unwinding tables: no frame of native code is ever unwound."""


class _Section(NamedTuple):
    name: bytes
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


class _Symbol(NamedTuple):
    name: bytes
    binding: int
    section: int
    value: int


class Image:
    """Code in memory; freed with the last reference to it. `symbols` are the addresses of what it defines."""

    __slots__ = ("__weakref__", "size", "symbols")

    def __init__(self, address: int, size: int, symbols: Mapping[str, int]) -> None:
        self.size, self.symbols = size, symbols
        # The interpreter's last moments: other threads may still be inside.
        weakref.finalize(self, _unmap, address, size).atexit = False


def is_known() -> bool:
    """Whether this machine runs what the loader loads."""
    return sys.platform == "linux" and sys.maxsize > 2**32 and _machine() == "x86_64"


def load(code: bytes, address_of: Callable[[str], int]) -> Image:
    """Map an object and bind its outside names by `address_of`; Unsupported or Damaged when that can't be done."""
    try:
        return _Loader(code, address_of).load()
    except (struct.error, IndexError, OverflowError, ValueError) as error:
        raise Damaged(f"the object ends early or points outside of itself ({error})") from None


@dataclass
class _Loader:
    code: bytes
    address_of: Callable[[str], int]
    sections: list[_Section] = field(default_factory=list)
    symbols: list[_Symbol] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    """By section: where it stands in the image."""
    stubs: dict[int, int] = field(default_factory=dict)
    """By symbol: where its stub stands."""
    cells: dict[int, int] = field(default_factory=dict)

    def load(self) -> Image:
        self._read()
        relocations = list(self._relocations())
        text_end, constants_end, size = self._lay_out(relocations)
        image = bytearray(size)
        for number, place in self.places.items():
            section = self.sections[number]
            if section.kind != _NOBITS:
                image[place : place + section.size] = self._data(section)
        base = _map(size)
        try:
            self._bind(image, base)
            for target, offset, kind, symbol, addend in relocations:
                self._relocate(image, base, self.places[target] + offset, kind, symbol, addend)
            ctypes.memmove(base, (ctypes.c_char * size).from_buffer(image), size)
            _protect(base, text_end, mmap.PROT_READ | mmap.PROT_EXEC)
            _protect(base + text_end, constants_end - text_end, mmap.PROT_READ)
        except BaseException:
            _unmap(base, size)
            raise
        found = {
            symbol.name.decode(): base + self.places[symbol.section] + symbol.value
            for symbol in self.symbols
            if symbol.binding in _GLOBAL_BINDINGS and symbol.section in self.places
        }
        return Image(base, size, found)

    # --- reading ---

    def _read(self) -> None:
        magic, bits, order, _, kind, machine, _, _, _, table, _, _, _, _, size, count, names = _HEADER.unpack_from(
            self.code
        )
        if magic != b"\x7fELF" or bits != 2 or order != 1 or kind != _RELOCATABLE:
            raise Damaged("this is no relocatable 64-bit object")
        if machine != _X86_64 or size != _SECTION.size:
            raise Unsupported(f"machine {machine}")
        raw = [_SECTION.unpack_from(self.code, table + number * size) for number in range(count)]
        strings = self._slice(raw[names][4], raw[names][5])
        for name, kind, flags, _, offset, length, link, info, align, _ in raw:
            section = _Section(_text(strings, name), kind, flags, offset, length, link, info, max(1, align))
            if kind != _NOBITS:
                self._slice(offset, length)
            if section.align > mmap.PAGESIZE or section.align & (section.align - 1) or length > _MOST_BYTES:
                raise Damaged(f"section {section.name!r} makes no sense")
            self.sections.append(section)
        for section in self.sections:
            if section.kind == _SYMTAB:
                names_of = self._data(self.sections[section.link])
                for name, info, _, number, value, _ in _SYMBOL.iter_unpack(self._data(section)):
                    self._add_symbol(_Symbol(_text(names_of, name), info >> 4, number, value))

    def _add_symbol(self, symbol: _Symbol) -> None:
        if symbol.section >= _FIRST_RESERVED and symbol.section != _ABSOLUTE:
            raise Unsupported(f"symbol {symbol.name!r} is in section {symbol.section:#x}")
        if symbol.section < _FIRST_RESERVED and symbol.value > self.sections[symbol.section].size:
            raise Damaged(f"symbol {symbol.name!r} lies outside of its section")
        self.symbols.append(symbol)

    def _slice(self, offset: int, size: int) -> bytes:
        if offset + size > len(self.code):
            raise Damaged("a section lies outside of the object")
        return self.code[offset : offset + size]

    def _data(self, section: _Section) -> bytes:
        return self._slice(section.offset, section.size)

    def _is_loaded(self, section: _Section) -> bool:
        return bool(section.flags & _ALLOC) and section.size > 0 and section.name not in _LEFT_OUT

    def _relocations(self) -> Any:
        """(section, offset in it, kind, symbol, addend) for all that is loaded."""
        for section in self.sections:
            if section.kind != _RELA or not self._is_loaded(self.sections[section.info]):
                continue
            target = self.sections[section.info]
            for offset, kind, symbol, addend in _RELOCATION.iter_unpack(self._data(section)):
                if kind not in _WIDTH:
                    raise Unsupported(f"relocation {kind}")
                if offset + _WIDTH[kind] > target.size or target.kind == _NOBITS:
                    raise Damaged("a relocation lies outside of its section")
                self.symbols[symbol]  # an index from outside
                yield section.info, offset, kind, symbol, addend

    # --- placing ---

    def _lay_out(self, relocations: list[Any]) -> tuple[int, int, int]:
        """Place sections, stubs and cells; where text and constants end, and all does, in whole pages."""
        for _, _, kind, symbol, _ in relocations:
            if kind in _THROUGH_CELL:
                self.cells.setdefault(symbol, 0)
            elif self.symbols[symbol].section == _UNDEFINED:
                self.cells.setdefault(symbol, 0)
                self.stubs.setdefault(symbol, 0)
        end = self._place(0, lambda flags: bool(flags & _EXECUTE))
        end = text_end = _pages(self._reserve(self.stubs, end, _STUB_BYTES))
        end = self._place(end, lambda flags: not flags & (_EXECUTE | _WRITE))
        end = constants_end = _pages(self._reserve(self.cells, end, _CELL_BYTES))
        return text_end, constants_end, max(mmap.PAGESIZE, _pages(self._place(end, lambda flags: flags & _WRITE)))

    def _place(self, end: int, wanted: Callable[[int], Any]) -> int:
        for number, section in enumerate(self.sections):
            if self._is_loaded(section) and wanted(section.flags):
                end = -(-end // section.align) * section.align
                self.places[number] = end
                end += section.size
        return end

    @staticmethod
    def _reserve(wanted: dict[int, int], end: int, size: int) -> int:
        end = -(-end // size) * size
        for symbol in wanted:
            wanted[symbol] = end
            end += size
        return end

    # --- binding ---

    def _bind(self, image: bytearray, base: int) -> None:
        for symbol, cell in self.cells.items():
            struct.pack_into("<Q", image, cell, self._address(symbol, base))
        for symbol, stub in self.stubs.items():
            # jmp *[rip + distance]; int3; int3
            struct.pack_into("<2sih", image, stub, b"\xff\x25", self.cells[symbol] - (stub + 6), -0x3334)

    def _address(self, number: int, base: int) -> int:
        symbol = self.symbols[number]
        if symbol.section == _UNDEFINED:
            return self.address_of(symbol.name.decode())
        if symbol.section == _ABSOLUTE:
            return symbol.value
        if symbol.section not in self.places:
            raise Unsupported(f"symbol {symbol.name!r} is in a section that is not loaded")
        return base + self.places[symbol.section] + symbol.value

    def _relocate(self, image: bytearray, base: int, at: int, kind: int, symbol: int, addend: int) -> None:
        if kind in _THROUGH_CELL:
            value = base + self.cells[symbol]
        elif kind in (_PC32, _PLT32) and symbol in self.stubs:
            value = base + self.stubs[symbol]
        else:
            value = self._address(symbol, base)
        value += addend
        if kind == _R64:
            struct.pack_into("<Q", image, at, value & (2**64 - 1))
            return
        distance = value - (base + at)
        if kind == _PC64:
            struct.pack_into("<q", image, at, distance)
            return
        if not -(2**31) <= distance < 2**31:
            raise Damaged("a relocation reaches too far")
        struct.pack_into("<i", image, at, distance)


def _text(strings: bytes, start: int) -> bytes:
    return strings[start : strings.index(b"\0", start)] if 0 <= start < len(strings) else b""


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


# --- Memory -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


def _map(size: int) -> int:
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address: int = _libc().mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, kind, -1, 0)
    if address == ctypes.c_void_p(-1).value:
        raise MemoryError(f"no room for {size} bytes of code")
    return address


def _protect(address: int, size: int, how: int) -> None:
    if size and _libc().mprotect(address, size, how):
        raise Unsupported("the system does not let this process make memory executable")


def _unmap(address: int, size: int) -> None:
    _libc().munmap(address, size)


@lru_cache(maxsize=1)
def _machine() -> str:
    import os

    return os.uname().machine
