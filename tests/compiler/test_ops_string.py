"""Ops on texts: values as TensorFlow gives them, and what they refuse."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from test_ops_array import ref

from stepjit_compiler import regex
from stepjit_compiler.string_hash import farmhash64, murmurhash64, siphash
from stepjit_runtime.dtypes import as_dtype
from stepjit_runtime.errors import DATA_LOSS, OUT_OF_RANGE, OpFailure


def texts(*values: Any) -> np.ndarray:
    return np.array([v.encode() if isinstance(v, str) else v for v in values] + [None], object)[:-1]


def grid(rows: list[list[str]]) -> np.ndarray:
    return np.array([[each.encode() for each in row] for row in rows], object)


def one(value: str | bytes) -> np.ndarray:
    found = np.empty((), object)
    found[()] = value.encode() if isinstance(value, str) else value
    return found


# --- hashes: values that TensorFlow gives ---

LONG = bytes(range(256)) * 2
DATA = [b"", b"a", b"hello", b"0123456789abcdef", LONG[:17], LONG[:40], LONG[:64], LONG[:65], LONG[:200], LONG]
FARM = [
    0x9ae16a3b2f90404f, 0xb3454265b6df75e3, 0xb48be5a931380ce8, 0x54b961e5dc834067, 0xbbb6a6f8f20d1f1c,
    0x8f45b937b49468c, 0xf58504bb53decc4b, 0xc6a3282c3e793dbe, 0x74c7fcc26d66fb3, 0xd5b849bbe69cbbe2,
]  # fmt: skip
MURMUR = [
    0x81769421199f9e3b, 0x29962dc026eac9fc, 0x527bb8b9ebaa7d4a, 0x94b0130e3fc87f66, 0x92e9b195ebe2af17,
    0x5d8a61605e36e071, 0x9e6d2c70e366a8d4, 0x230e031623b0f914, 0xfa160527ec6e762a, 0xe0dbac9694c80327,
]  # fmt: skip
SIP = [
    0xdb7be0439b83842c, 0x64b9e7901d63b855, 0xa605bdacdd63286d, 0x12e44ca374e29b7f, 0x153de8e571b13dda,
    0xd6728b09cba0bc83, 0xf68692af445acb7e, 0x2b79e4b8c2d96b2, 0xb7dd66e0522f294f, 0xae94d29f9900b5bb,
]  # fmt: skip


def test_hashes() -> None:
    key = (1, 2**62 + 7)
    assert [farmhash64(each) for each in DATA] == FARM
    assert [murmurhash64(each) for each in DATA] == MURMUR
    assert [siphash(each, key) for each in DATA] == SIP
    whole = np.array([*DATA, None], object)[:-1]
    for name, values, attrs in (
        ("StringToHashBucketFast", FARM, {}),
        ("StringToHashBucket", MURMUR, {}),
        ("StringToHashBucketStrong", SIP, {"key": key}),
    ):
        found = ref(name, whole, num_buckets=1000, **attrs)
        assert found.tolist() == [each % 1000 for each in values]
    with pytest.raises(OpFailure, match="Key must have 2 elements"):
        ref("StringToHashBucketStrong", whole, num_buckets=10, key=(1,))


def test_siphash_of_its_paper() -> None:
    key = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
    assert siphash(bytes(range(15)), key) == 0xA129CA6149BE45E5


# --- joined, split, cut ---


def test_join() -> None:
    joined = ref("StringJoin", texts("a", "b"), one("-"), texts("c", "d"), separator=b"+")
    assert joined.tolist() == [b"a+-+c", b"b+-+d"]
    assert ref("StringJoin", one("a"), one("b"), separator=b"")[()] == b"ab"
    with pytest.raises(OpFailure, match=r"Input shapes do not match: \[1\] vs. \[2\]"):
        ref("StringJoin", texts("a"), texts("a", "b"), separator=b"")


@pytest.mark.parametrize(
    ("axes", "keep", "want"),
    [
        ([0], False, [b"a-c", b"b-d"]), ([-1], False, [b"a-b", b"c-d"]), ([0, 1], False, b"a-c-b-d"),
        ([1, 0], False, b"a-b-c-d"), ([1, 0], True, [[b"a-b-c-d"]]), ([1], True, [[b"a-b"], [b"c-d"]]),
        ([], False, [[b"a", b"b"], [b"c", b"d"]]),
    ],
)  # fmt: skip
def test_reduce_join(axes: list[int], keep: bool, want: Any) -> None:
    found = ref("ReduceJoin", grid([["a", "b"], ["c", "d"]]), np.array(axes, np.int32), keep_dims=keep, separator=b"-")
    assert found.tolist() == want


def test_reduce_join_refuses() -> None:
    for axes, text in (([2], "Invalid reduction dimension 2 for input with 2"), ([0, -2], "Duplicate reduction")):
        with pytest.raises(OpFailure, match=text):
            ref("ReduceJoin", grid([["a"]]), np.array(axes, np.int32))
    with pytest.raises(OpFailure) as found:
        ref("ReduceJoin", texts("a"), np.array([3], np.int32))
    assert found.value.code == OUT_OF_RANGE
    assert ref("ReduceJoin", np.empty((0, 2), object), np.array([0], np.int32)).tolist() == [b"", b""]


def test_segment_join() -> None:
    ids, three = np.array([2, 0, 2, -1]), np.array(3)
    found = ref("UnsortedSegmentJoin", texts("a", "b", "c", "x"), ids, three, separator=b"-")
    assert found.tolist() == [b"b", b"", b"a-c"]
    with pytest.raises(OpFailure, match="less than num_segments"):
        ref("UnsortedSegmentJoin", texts("a"), np.array([3]), three)


def rows(parts: Any) -> list[list[bytes]]:
    indices, values, shape = parts
    found: list[list[bytes]] = [[] for _ in range(shape[0])]
    for (row, column), value in zip(indices.tolist(), values, strict=True):
        assert column == len(found[row])
        found[row].append(value)
    assert shape[1] == max(map(len, found), default=0)
    return found


@pytest.mark.parametrize(
    ("name", "sep", "attrs", "want"),
    [
        ("StringSplit", ", ", {}, [[b"a", b"b"], [], [b"c", b"d"]]),
        ("StringSplit", ", ", {"skip_empty": False}, [[b"", b"a", b"", b"b"], [], [b"c", b"d"]]),
        ("StringSplit", "", {}, [[b" ", b"a", b" ", b" ", b"b"], [], [b"c", b",", b"d"]]),
        ("StringSplitV2", "", {}, [[b"a", b"b"], [], [b"c,d"]]),
        ("StringSplitV2", " ", {}, [[b"", b"a", b"", b"b"], [], [b"c,d"]]),
        ("StringSplitV2", " ", {"maxsplit": 2}, [[b"", b"a", b" b"], [], [b"c,d"]]),
    ],
)
def test_split(name: str, sep: str, attrs: dict[str, Any], want: Any) -> None:
    assert rows(ref(name, texts(" a  b", "", "c,d"), one(sep), **attrs)) == want


def test_split_of_nothing() -> None:
    indices, values, shape = ref("StringSplit", np.empty(0, object), one(" "))
    assert (indices.shape, values.shape, shape.tolist()) == ((0, 2), (0,), [0, 0])


def test_substr() -> None:
    words = texts("hello", "world")
    cases: list[tuple[Any, Any, list[bytes]]] = [
        (1, 3, [b"ell", b"orl"]), ([0, 2], [2, 9], [b"he", b"rld"]), (-2, 9, [b"lo", b"ld"]), (5, 1, [b"", b""]),
        (1, -1, [b"ello", b"orld"]),
    ]  # fmt: skip
    for pos, length, want in cases:
        assert ref("Substr", words, np.array(pos), np.array(length)).tolist() == want
    letters = ref("Substr", texts("h\u00e9llo"), np.array(-4), np.array(2), unit=b"UTF8_CHAR")
    assert letters.tolist() == ["\u00e9l".encode()]
    with pytest.raises(OpFailure, match="pos -6 out of range for string b'hello' at index 0"):
        ref("Substr", words, np.array(-6), np.array(1))
    with pytest.raises(OpFailure, match="should have the same shape"):
        ref("Substr", words, np.array([0, 1]), np.array([1]))
    with pytest.raises(OpFailure, match="Incompatible shapes"):
        ref("Substr", words, np.array([0, 1, 2]), np.array([1, 1, 1]))


def test_forms() -> None:
    accents = texts("aB1\u00e9\u00df")
    assert ref("StringUpper", accents).tolist() == ["AB1\u00e9\u00df".encode()]
    assert ref("StringUpper", accents, encoding=b"utf-8").tolist() == ["AB1\u00c9SS".encode()]
    assert ref("StringLower", texts("A\u00c9"), encoding=b"utf-8").tolist() == ["a\u00e9".encode()]
    assert ref("StringStrip", texts("\t a\x0b\n", " ")).tolist() == [b"a", b""]
    assert ref("StringLength", texts("a\0b", "\u00e9\U0001f600")).tolist() == [3, 6]
    assert ref("StringLength", texts("\u00e9\U0001f600"), unit=b"UTF8_CHAR").tolist() == [2]
    with pytest.raises(OpFailure, match="only utf-8"):
        ref("StringUpper", accents, encoding=b"latin")


def test_base64() -> None:
    raw = texts("", "a", "ab", b"\xff\xfe\xfd")
    assert ref("EncodeBase64", raw).tolist() == [b"", b"YQ", b"YWI", b"__79"]
    assert ref("EncodeBase64", raw, pad=True).tolist() == [b"", b"YQ==", b"YWI=", b"__79"]
    assert ref("DecodeBase64", texts("", "YQ", "YWI=", "__79", "YR==")).tolist() == [b"", b"a", b"ab", b"\xff\xfe\xfd", b"a"]
    for bad, text in (("Y", "1 modulo 4"), ("a$b", "Invalid character"), ("a+b/", "Invalid"), ("YQ=", "Invalid")):
        with pytest.raises(OpFailure, match=text):
            ref("DecodeBase64", texts(bad))


def test_transcode() -> None:
    options = {"input_encoding": b"UTF-8", "output_encoding": b"UTF-16-BE"}
    assert ref("UnicodeTranscode", texts("h\u00e9"), **options).tolist() == [b"\0h\0\xe9"]
    same = {"input_encoding": b"UTF-8", "output_encoding": b"UTF-8"}
    assert ref("UnicodeTranscode", texts(b"h\xffx"), **same).tolist() == [b"h\xef\xbf\xbdx"]
    assert ref("UnicodeTranscode", texts(b"h\xffx"), **same, errors=b"ignore").tolist() == [b"hx"]
    assert ref("UnicodeTranscode", texts(b"a\x01"), **same, replace_control_characters=True).tolist() == [b"a\xef\xbf\xbd"]
    with pytest.raises(OpFailure, match="Invalid formatting"):
        ref("UnicodeTranscode", texts(b"\xff"), **same, errors=b"strict")
    with pytest.raises(OpFailure, match="Could not create converter"):
        ref("UnicodeTranscode", texts("a"), input_encoding=b"none", output_encoding=b"UTF-8")


# --- regular expressions ---


@pytest.mark.parametrize(
    ("text", "pattern", "rewrite", "want"),
    [
        ("abc", "b*", "-", "-a-c-"), ("abc", "", "-", "-a-b-c-"), ("a1b22", "[0-9]+", "#", "a#b#"),
        ("hello", "l", r"<\0>", "he<l><l>o"), ("ab", "(a)(b)", r"\2\1", "ba"), ("ab", "(a)", r"\3", "ab"),
        ("a\nb", "^b", "x", "a\nb"), ("a\nb", "(?m)^b", "x", "a\nx"), ("a\n", "a$", "x", "a\n"),
        ("a\nb", "(?m)a$", "x", "x\nb"), ("ABC", "(?i)b", "x", "AxC"), ("a\u00e9b", ".", "x", "xxx"),
        ("aa", "a{2}", "x", "x"), ("a{,2}", "a{,2}", "x", "x"), ("ab1", "[[:alpha:]]", "x", "xx1"),
        ("ab1", "[[:^alpha:]]", "x", "abx"), ("a b", r"\s", "x", "axb"), ("a\u00e91", r"\W", "x", "ax1"),
        ("ab", "(?P<n>a)", r"<\1>", "<a>b"), ("a.b", r"\Q.\E", "x", "axb"), ("a1\u00e9", r"\w", "x", "xx\u00e9"),
        ("ab\n", r"b\z", "x", "ab\n"), ("\u00e9a1", r"\pL", "x", "xx1"), ("\u00e9a1", r"\P{L}", "x", "\u00e9ax"),
        ("\u03b1b", r"[\p{Ll}]", "x", "xx"), ("aab", "a+?", "x", "xxb"), ("a]b", "[]]", "x", "axb"),
        ("a-b", "[a-]", "x", "xxb"), ("ab", "[^a]", "x", "ax"), ("a\nb", "(?s)a.b", "x", "x"),
        ("a\nb", "a.b", "x", "a\nb"), ("A", r"\x41", "x", "x"), ("A", r"\x{41}", "x", "x"), ("A", r"\101", "x", "x"),
        ("xAYxb", "x(?i)ay|xB", "z", "zz"), ("xAYxb", "(x(?i)ay)|xB", "z", "zxb"), ("aab", r"(?:\b)+a", "x", "xab"),
        ("xA", "(?P<n>x)(?P<n>A)", r"\2\1", "Ax"), ("a\nB", "(?is)a.b", "x", "x"), ("xay", "x(?i:A)y", "z", "z"), ("ab", "b", "\\", "a"), ("a\\", r"\\", r"\\\\", r"a\\"),
    ],
)  # fmt: skip
def test_replace(text: str, pattern: str, rewrite: str, want: str) -> None:
    found = ref("RegexReplace", texts(text), one(pattern), one(rewrite))
    assert found.tolist() == [want.encode()]
    static = ref("StaticRegexReplace", texts(text), pattern=pattern.encode(), rewrite=rewrite.encode())
    assert static.tolist() == found.tolist()


def test_replace_once_and_match() -> None:
    assert ref("RegexReplace", texts("aaa"), one("a"), one("b"), replace_global=False).tolist() == [b"baa"]
    words = texts("ab1", "ab", "ab\n", b"\xff")
    assert ref("RegexFullMatch", words, one("[a-z]+")).tolist() == [False, True, False, False]
    assert ref("StaticRegexFullMatch", texts("ab", "abc"), pattern=b"a|ab").tolist() == [True, False]
    assert ref("RegexReplace", texts(b"\xffa"), one("a"), one("b")).tolist() == [b"\xffb"]


@pytest.mark.parametrize(
    "pattern",
    ["(", ")", "[a", "a(?=b)", "(?<!a)b", "(a)\\1", "a\\", "*a", "a**", "a{1001}", "[[:nope:]]", "\\p{Nope}", "\\Z", "(?P=n)", "a++", "\\C"],
)
def test_patterns_that_re2_refuses(pattern: str) -> None:
    with pytest.raises(OpFailure, match=re.escape(f"Invalid pattern: {pattern}, error: ")):
        ref("RegexReplace", texts("a"), one(pattern), one("x"))
    with pytest.raises(regex.RegexError):
        regex.compile_pattern(pattern.encode())


# --- numbers ---


@pytest.mark.parametrize(
    ("text", "dtype", "want"),
    [
        ("1", "float32", 1), (" -2.5\n", "float32", -2.5), ("1e3", "float64", 1000), ("1.", "float32", 1),
        (".5", "float32", 0.5), ("+4", "float32", 4), ("INF", "float32", np.inf), ("-Infinity", "float64", -np.inf),
        ("NaN", "float32", np.nan), ("1e400", "float64", np.inf), ("0x10", "float32", 16), ("12", "int32", 12),
        (" +3 ", "int64", 3), ("0012", "int32", 12), ("-2147483648", "int32", -(2**31)), ("18446744073709551615", "uint64", 2**64 - 1),
    ],
)  # fmt: skip
def test_number_from_text(text: str, dtype: str, want: float) -> None:
    found = ref("StringToNumber", texts(text), out_type=as_dtype(dtype))
    np.testing.assert_array_equal(found, np.array([want], dtype))


@pytest.mark.parametrize(
    ("text", "dtype"),
    [("", "float32"), ("abc", "float32"), ("1_0", "float32"), ("1e", "float32"), ("\u0661", "float32"), ("1.0", "int32"),
     ("99999999999", "int32"), ("0x10", "int32"), ("1 2", "int32"), ("-1", "uint32"), ("", "int64")],
)  # fmt: skip
def test_no_number(text: str, dtype: str) -> None:
    with pytest.raises(OpFailure, match=f"StringToNumberOp could not correctly convert string: {re.escape(text)}"):
        ref("StringToNumber", texts(text), out_type=as_dtype(dtype))


@pytest.mark.parametrize(
    ("value", "attrs", "want"),
    [
        (np.float32(1.5), {}, b"1.500000"), (np.float32(-0.0), {}, b"-0.000000"), (np.float32(np.nan), {}, b"nan"),
        (np.float16(1.5), {}, b"1.500000"), (0.5, {"shortest": True}, b"0.5"), (1e20, {"shortest": True}, b"1e+20"),
        (1.5, {"scientific": True, "precision": 2, "width": 12}, b"    1.50e+00"), (1.5, {"precision": 0}, b"2"),
        (1.5, {"width": 12, "fill": b"0"}, b"00001.500000"), (1.5, {"width": 12, "fill": b"-"}, b"1.500000    "),
        (1.5, {"width": 12, "fill": b"+"}, b"   +1.500000"), (np.int8(-3), {}, b"-3"), (np.uint64(2**63), {}, b"9223372036854775808"),
        (7, {"width": 3, "fill": b"0"}, b"007"), (True, {"width": 6}, b"true"), (np.complex64(1 + 2j), {}, b"(1.000000,2.000000)"),
    ],
)  # fmt: skip
def test_number_to_text(value: Any, attrs: dict[str, Any], want: bytes) -> None:
    assert ref("AsString", np.array([value]), **attrs).tolist() == [want]


@pytest.mark.parametrize(
    ("value", "attrs", "text"),
    [
        (1.5, {"scientific": True, "shortest": True}, "Cannot select both"), (1, {"precision": 2}, "precision not supported"),
        (1, {"fill": b"ab"}, "one or fewer"), (1, {"fill": b"x"}, "Fill argument not supported"),
        (1, {"scientific": True}, "scientific and shortest format not supported"),
    ],
)  # fmt: skip
def test_formats_that_do_not_go_together(value: Any, attrs: dict[str, Any], text: str) -> None:
    with pytest.raises(OpFailure, match=text):
        ref("AsString", np.array([value]), **attrs)


def printed(template: str, *inputs: Any, **attrs: Any) -> str:
    kinds = tuple(as_dtype(np.asarray(each).dtype) for each in inputs)
    found = ref("StringFormat", *inputs, template=template.encode(), T=kinds, **attrs)
    text: str = found[()].decode()
    return text


def test_tensors_in_templates() -> None:
    assert printed("%s and %s", np.array([1, 2]), texts("x")) == '[1 2] and ["x"]'
    assert printed("{}", np.arange(10), placeholder=b"{}") == "[0 1 2 ... 7 8 9]"
    assert printed("%s", np.arange(10), summarize=-1) == "[0 1 2 3 4 5 6 7 8 9]"
    assert printed("%s", np.arange(8).reshape(2, 2, 2)) == "[[[0 1]\n  [2 3]]\n\n [[4 5]\n  [6 7]]]"
    assert printed("%s", np.array([1.5, 1e10, 1e-8], np.float32)) == "[1.5 1e+10 1e-08]"
    assert printed("%s", np.array(1 / 3)) == "0.33333333333333331"
    assert printed("%s %s", np.array(True), np.zeros(0)) == "1 []"
    with pytest.raises(OpFailure, match=r"must match: 2 vs\. 1"):
        printed("%s %s", np.array(1))


# --- bytes and records ---


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64", "bool"])
@pytest.mark.parametrize("little", [True, False])
def test_raw_numbers(dtype: str, little: bool) -> None:
    array = np.array([[1, 2, 3], [0, 5, 6]]).astype(dtype)
    stored = array if little else array.byteswap() if dtype != "complex64" else array.view(np.float32).byteswap()
    raw = texts(*(row.tobytes() for row in stored))
    np.testing.assert_array_equal(ref("DecodeRaw", raw, out_type=as_dtype(dtype), little_endian=little), array)


def test_raw_numbers_refuse() -> None:
    short = as_dtype("int16")
    assert ref("DecodeRaw", np.empty(0, object), out_type=short).shape == (0, 0)
    with pytest.raises(OpFailure, match="length 3 that is not a multiple of 2, the size of int16"):
        ref("DecodeRaw", one("abc"), out_type=short)
    with pytest.raises(OpFailure, match="element 1 has size 4 != 2"):
        ref("DecodeRaw", texts("abcd", "ef"), out_type=short)
    padded = ref("DecodePaddedRaw", texts("a", "bcd"), np.array(2, np.int32), out_type=as_dtype("uint8"))
    assert padded.tolist() == [[97, 0], [98, 99]]


def test_decompression() -> None:
    import gzip
    import zlib

    for kind, packed in ((b"", b"ab"), (b"ZLIB", zlib.compress(b"ab")), (b"GZIP", gzip.compress(b"ab"))):
        assert ref("DecodeCompressed", texts(packed), compression_type=kind).tolist() == [b"ab"]
    with pytest.raises(OpFailure) as found:
        ref("DecodeCompressed", texts("ab"), compression_type=b"ZLIB")
    assert found.value.code == DATA_LOSS


def csv(record: str, *defaults: Any, **attrs: Any) -> list[Any]:
    arrays = [texts(d) if isinstance(d, str) else np.array([d] if d is not None else [], np.int32) for d in defaults]
    kinds = tuple(as_dtype(each.dtype) for each in arrays)
    found = ref("DecodeCSV", texts(record), *arrays, OUT_TYPE=kinds, **attrs)
    return [each[0] for each in found]


@pytest.mark.parametrize(
    ("record", "defaults", "attrs", "want"),
    [
        ("1,x", (0, "d"), {}, [1, b"x"]), (",", (7, "d"), {}, [7, b"d"]), ('"a""b",c', ("", ""), {}, [b'a"b', b"c"]),
        ('"a,b",1', ("", 0), {}, [b"a,b", 1]), ('a"b', ("",), {"use_quote_delim": False}, [b'a"b']),
        ("a\t1", ("", 0), {"field_delim": b"\t"}, [b"a", 1]), ("1,NA", (0, 9), {"na_value": b"NA"}, [1, 9]),
        ("1,2,3", (0, 0), {"select_cols": (0, 2)}, [1, 3]), ('"a\nb"', ("",), {}, [b"a\nb"]), (" 1 , 2", (0, 0), {}, [1, 2]),
        ('a,"",b', ("", "d", ""), {}, [b"a", b"d", b"b"]),
    ],
)  # fmt: skip
def test_records(record: str, defaults: Any, attrs: dict[str, Any], want: Any) -> None:
    assert csv(record, *defaults, **attrs) == want


@pytest.mark.parametrize(
    ("record", "defaults", "attrs", "text"),
    [
        ("1", (0, 0), {}, "Expect 2 fields but have 1 in record 0"), ("", (0,), {}, "Expect 1 fields but have 0"),
        ("x", (0,), {}, "Field 0 in record 0 is not a valid int32: x"), (",1", (None, 0), {}, "Field 0 is required but missing in record 0"),
        ('"a,b"c', ("",), {}, "escaped by another quote"), ('a"b', ("",), {}, "cannot have quotes/CRLFs inside"),
        ('"abc', ("",), {}, "has to end with quote"), ("1\r", (0,), {}, "quotes/CRLFs"), ("1", (0,), {"field_delim": b",,"}, "only 1 char"),
    ],
)  # fmt: skip
def test_bad_records(record: str, defaults: Any, attrs: dict[str, Any], text: str) -> None:
    with pytest.raises(OpFailure, match=text):
        csv(record, *defaults, **attrs)
