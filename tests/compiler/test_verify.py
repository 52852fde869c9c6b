"""verify: each invariant, broken."""

from __future__ import annotations

import pytest

from stepjit_compiler.step_text import parse
from stepjit_compiler.verify import VerifyError, verify

GOOD = """feed 0 : f32[s0_0,4]
feed 1 : f32[s1_0,4]
slot 0 : variable f32[4]
check eq s0_0 s1_0 b'differ'
%0 = _Feed {index=0} : f32[s0_0,4]
%1 = _Feed {index=1} : f32[s0_0,4]
%2 = AddV2 %0, %1 {T=f32} : f32[s0_0,4]
%3 = Exp %2 {T=f32} : f32[s0_0,4]
%4 = _Read {slot=0} : f32[4]
%5 = Mul %3, %4 {T=f32} : f32[s0_0,4]
%6 = _Dims {dims=(s0_0,4)} : i32[2]
%7 = Neg %4 {T=f32} : f32[4]
fetch %5, %6
write 0 = %7
"""

BROKEN = [
    ("Exp %2", "Exp %5", 3, "does not come before it"),
    ("Exp %2", "Exp %2:1", 3, "no such output"),
    ("%3 = Exp %2 {T=f32} : f32[s0_0,4]", "%3 = Exp %2 {T=f32} : f32[3,4]", 3, r"but by its rule f32\[s0_0,4\]"),
    ("%3 = Exp %2 {T=f32} : f32[s0_0,4]", "%3 = Exp %2 {T=f32} : f64[s0_0,4]", 3, "by its rule"),
    ("Exp %2", "Frobnicate %2", 3, "no op type 'Frobnicate'"),
    ("%3 = Exp %2 {T=f32} : f32[s0_0,4]", "%3 = Exp %2 {T=f32} : f32[s0_0,4] host", 3, "marked `host`"),
    ("{index=1}", "{index=2}", 1, "there is no index 2"),
    ("{slot=0} : f32[4]", "{slot=0} : f32[5]", 4, r"slot 0 is f32\[4\]"),
    ("dims=(s0_0,4)", "dims=(s7_0,4)", 6, "symbol s7_0"),
    ("dims=(s0_0,4)", "dims=(s0_0,4,1)", 6, "3 extents are no"),
    ("fetch %5, %6", "fetch %5, %6, %9", -1, "does not exist"),
    ("fetch %5, %6", "fetch %5", 6, "nothing needs it"),
    ("write 0 = %7", "write 0 = %7\nwrite 0 = %4", -1, "written twice"),
    ("write 0 = %7", "write 1 = %7", -1, "slot 1, which does not exist"),
    ("write 0 = %7", "write 0 = %7\ntarget %11", -1, "target %11"),
    ("slot 0 : variable f32[4]", "slot 0 : variable i32[4]", 4, "is f32"),
    ("check eq s0_0 s1_0", "check eq s0_0 s3_0", -1, "symbol s3_0"),
    ("check eq s0_0 s1_0 b'differ'\n", "", 1, "feed 1|index 1"),
]


def test_good_step_passes() -> None:
    verify(parse(GOOD))


@pytest.mark.parametrize(("old", "new", "node", "message"), BROKEN, ids=[f"{new[:30]}" for _, new, _, _ in BROKEN])
def test_broken_step_is_refused(old: str, new: str, node: int, message: str) -> None:
    assert old in GOOD
    with pytest.raises(VerifyError, match=message) as caught:
        verify(parse(GOOD.replace(old, new, 1)))
    assert caught.value.node == node


def test_error_shows_the_node_among_its_neighbours() -> None:
    with pytest.raises(VerifyError) as caught:
        verify(parse(GOOD.replace("Exp %2", "Frobnicate %2")))
    lines = str(caught.value).splitlines()
    assert "> %3 = Frobnicate %2 {T=f32} : f32[s0_0,4]" in lines
    assert "  %2 = AddV2 %0, %1 {T=f32} : f32[s0_0,4]" in lines


def test_missing_condition_is_found() -> None:
    text = """feed 0 : f32[s0_0]
feed 1 : f32[s1_0]
%0 = _Feed {index=0} : f32[s0_0]
%1 = _Feed {index=1} : f32[s1_0]
%2 = AddV2 %0, %1 {T=f32} : f32[s0_0]
fetch %2
"""
    with pytest.raises(VerifyError, match=r"nothing checks that eq\(s0_0, s1_0\)"):
        verify(parse(text))
