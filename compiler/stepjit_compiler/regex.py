"""RE2's regular expressions, as the string ops take them, by means of Python's `re`.

Texts are matched as UTF-8; bytes that are none stand for themselves. What `re` knows and RE2 does not (looking around,
references back, possessive repetition) is refused as RE2 refuses it; so are RE2's `\\C` and `(?U)`.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": "\\x00-\\x7f", "blank": "\\t ", "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~",
    "space": "\\t\\n\\v\\f\\r ", "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_CLASSES = {"d": "0-9", "s": "\\t\\n\\f\\r ", "w": "0-9A-Za-z_"}
_ESCAPES = {"a": "\\a", "f": "\\f", "n": "\\n", "r": "\\r", "t": "\\t", "v": "\\v"}


class RegexError(ValueError):
    """What is wrong with a pattern, in RE2's words."""


def decode(text: bytes) -> str:
    """A text as it is matched."""
    return text.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@functools.lru_cache(maxsize=256)
def compile_pattern(pattern: bytes) -> re.Pattern[str]:
    """The pattern for `re`; RegexError when RE2 would not take it."""
    text = decode(pattern)
    try:
        return re.compile(_Translator(text).run(), re.ASCII)
    except re.error as error:
        raise RegexError(_told(error, text)) from None
    except (RecursionError, OverflowError):
        raise RegexError("invalid repetition size") from None


def _told(error: re.error, text: str) -> str:
    """What `re` says of the translated pattern, in RE2's words; sets are all closed there."""
    message = str(error.msg)
    if "nothing to repeat" in message and error.pos is not None:
        return f"no argument for repetition operator: {str(error.pattern)[error.pos : error.pos + 1]}"
    if "multiple repeat" in message:
        return f"bad repetition operator: {text}"
    return f"{message}: {text}"


class _Translator:
    """Walks a pattern once and writes it as `re` takes it."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.out: list[str] = []
        self.multiline = False
        self.groups: list[tuple[bool, list[str]]] = [(False, [])]
        """By open group, the whole pattern first: `multiline` before it, and the flags set inside, as open groups."""

    def run(self) -> str:
        text = self.text
        while self.at < len(text):
            char = text[self.at]
            if char == "\\":
                self._escape()
            elif char == "[":
                self._set()
            elif char == "(":
                self._group()
            elif char == ")":
                self._end_group()
            elif char == "|":
                self.at += 1
                flags = self.groups[-1][1]
                self.out += [")" * len(flags), "|", *flags]
            elif char == "$":
                self.at += 1
                self.out.append("(?=\\n|\\Z)" if self.multiline else "(?:\\Z)")
            elif char == "^":
                self.at += 1
                self.out.append("(?:(?<=\\n)|\\A)" if self.multiline else "(?:\\A)")
            elif char in "*+?" or (char == "{" and re.match(r"\{\d+(,\d*)?\}", text[self.at :])):
                self._repeat()
            elif char == "{":
                self.at += 1
                self.out.append("\\{")
            else:
                self.at += 1
                self.out.append(char)
        if len(self.groups) > 1:
            raise RegexError(f"missing ): {text}")
        return "".join(self.out) + ")" * len(self.groups[0][1])

    def _repeat(self) -> None:
        found = re.match(r"(?:[*+?]|\{\d+(?:,\d*)?\})\??", self.text[self.at :])
        assert found is not None
        self.at += found.end()
        if self.text[self.at : self.at + 1] in ("*", "+", "?"):
            raise RegexError(f"bad repetition operator: {found[0]}{self.text[self.at]}")
        if any(int(number) > 1000 for number in re.findall(r"\d+", found[0])):
            raise RegexError(f"invalid repetition size: {found[0]}")
        self.out.append(found[0])

    def _group(self) -> None:
        rest = self.text[self.at :]
        self.groups.append((self.multiline, []))
        if not rest.startswith("(?"):
            self.at += 1
            self.out.append("(")
            return
        named = re.match(r"\(\?P?<([A-Za-z_0-9]+)>", rest)
        if named:
            self.at += named.end()
            self.out.append("(")  # rewrites know groups by number
            return
        flags = re.match(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])", rest)
        if not flags:
            raise RegexError(f"invalid perl operator: {rest[:3]}")
        self.at += flags.end()
        if "U" in flags[1] + (flags[2] or ""):
            raise RegexError("invalid perl operator: (?U")
        if "m" in flags[1]:
            self.multiline = True
        if "m" in (flags[2] or ""):
            self.multiline = False
        self._open(flags[1].replace("m", ""), (flags[2] or "").replace("m", ""), whole=flags[3] == ")")

    def _open(self, on: str, off: str, whole: bool) -> None:
        """A group with flags; `whole` for flags that hold up to the end of the group they stand in."""
        group = f"(?{on}{'-' + off if off else ''}:"
        if whole:
            # `re` takes flags for a group only: one from here to the end of each alternative.
            self.groups.pop()
            if not on and not off:
                return
            self.groups[-1][1].append(group)
        self.out.append(group)

    def _end_group(self) -> None:
        if len(self.groups) == 1:
            raise RegexError(f"unexpected ): {self.text}")
        self.at += 1
        self.multiline, flags = self.groups.pop()
        self.out.append(")" * len(flags) + ")")

    def _escape(self) -> None:
        rest = self.text[self.at + 1 :]
        if not rest:
            raise RegexError("trailing \\")
        char = rest[0]
        self.at += 2
        if char == "Q":
            literal, _, _ = rest[1:].partition("\\E")
            self.at += len(literal) + (2 if "\\E" in rest[1:] else 0)
            self.out.append(re.escape(literal))
        elif char == "z":
            self.out.append("(?:\\Z)")
        elif char in "AbB":
            self.out.append(f"(?:\\{char})")
        else:
            self.at -= 2
            content, negated = self._class()
            self.out.append(f"[{'^' if negated else ''}{content}]")

    def _class(self) -> tuple[str, bool]:
        """What an escape stands for, as the content of a set; and whether that is what it does not match."""
        rest = self.text[self.at + 1 :]
        if not rest:
            raise RegexError("trailing \\")
        char = rest[0]
        if char.lower() in _CLASSES:
            self.at += 2
            return _CLASSES[char.lower()], char.isupper()
        if char in "pP":
            return self._property(rest)
        hexadecimal = re.match(r"x(?:\{([0-9A-Fa-f]+)\}|([0-9A-Fa-f]{2}))", rest)
        if hexadecimal:
            self.at += 1 + hexadecimal.end()
            return _literal(chr(int(hexadecimal[1] or hexadecimal[2], 16))), False
        octal = re.match(r"0[0-7]{0,2}|[1-7][0-7]{1,2}", rest)
        if octal:
            self.at += 1 + octal.end()
            return _literal(chr(int(octal[0], 8))), False
        self.at += 2
        if char in _ESCAPES:
            return _ESCAPES[char], False
        if char.isascii() and char.isalnum():
            raise RegexError(f"invalid escape sequence: \\{char}")
        return _literal(char), False

    def _property(self, rest: str) -> tuple[str, bool]:
        named = re.match(r"[pP](?:\{(\^?)(\w+)\}|(\w))", rest)
        content = _category(named[2] or named[3]) if named else ""
        if not named or not content:
            raise RegexError(f"invalid character class range: \\{rest[:5]}")
        self.at += 1 + named.end()
        return content, (rest[0] == "P") != bool(named[1])

    def _set(self) -> None:
        self.at += 1
        start = self.at
        parts = ["["]
        if self.text[self.at : self.at + 1] == "^":
            self.at += 1
            parts.append("^")
        first = True
        while True:
            if self.at >= len(self.text):
                raise RegexError(f"missing ]: {self.text[start - 1 :]}")
            char = self.text[self.at]
            if char == "]" and not first:
                break
            first = False
            posix = re.match(r"\[:(\^?)(\w+):\]", self.text[self.at :])
            if posix:
                if posix[2] not in _POSIX:
                    raise RegexError(f"invalid character class range: {posix[0]}")
                self.at += posix.end()
                parts.append(_complement(_POSIX[posix[2]]) if posix[1] else _POSIX[posix[2]])
            elif char == "\\":
                content, negated = self._class()
                parts.append(_complement(content) if negated else content)
            else:
                self.at += 1
                parts.append("-" if char == "-" else _literal(char))
        self.at += 1
        self.out.append("".join(parts) + "]")


def _literal(char: str) -> str:
    """A character as a set holds it."""
    return "\\" + char if char in "\\]^-[&|~" else char


@functools.lru_cache(maxsize=64)
def _complement(content: str) -> str:
    """The content of a set that matches what a set of `content` does not."""
    inside = re.compile(f"[{content}]")
    return _ranges([code for code in range(sys.maxunicode + 1) if not inside.match(chr(code))])


@functools.lru_cache(maxsize=64)
def _category(name: str) -> str:
    """The characters of a general category, such as `L` or `Nd`; empty when there is no such category."""
    if name == "Any":
        return "\\x00-\\U0010ffff"
    return _ranges([code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith(name)])


def _ranges(codes: list[int]) -> str:
    parts = []
    start = previous = -2
    for code in [*codes, -2]:
        if code != previous + 1:
            if start >= 0:
                parts.append(f"\\U{start:08x}-\\U{previous:08x}")
            start = code
        previous = code
    return "".join(parts)


# --- Replacing ---


def replace(pattern: re.Pattern[str], text: str, rewrite: str, everywhere: bool) -> str:
    """The text with its matches, or the first one, rewritten: `\\1` is a group, `\\0` the match, `\\\\` a backslash."""
    pieces = _rewrite_parts(rewrite)
    if any(isinstance(piece, int) and piece > pattern.groups for piece in pieces):
        return text
    out: list[str] = []
    at, last_end = 0, -1
    while at <= len(text):
        match = pattern.search(text, at)
        if match is None:
            break
        if match.end() == match.start() == last_end:
            # No empty match right behind another match.
            out.append(text[at : at + 1])
            at += 1
            continue
        out.append(text[at : match.start()])
        out += [(match[piece] or "") if isinstance(piece, int) else piece for piece in pieces]
        at = last_end = match.end()
        if not everywhere:
            break
    return "".join(out) + text[at:]


def _rewrite_parts(rewrite: str) -> list[str | int]:
    parts: list[str | int] = []
    at = 0
    while at < len(rewrite):
        if rewrite[at] != "\\":
            parts.append(rewrite[at])
            at += 1
            continue
        following = rewrite[at + 1 : at + 2]
        if following.isdecimal():
            parts.append(int(following))
        elif following == "\\":
            parts.append("\\")
        else:
            break  # RE2 stops at a rewrite that makes no sense
        at += 2
    return parts
