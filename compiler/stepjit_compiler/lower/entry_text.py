"""What entries name: structs' offsets, outside functions, and the small functions that are part of each module."""

from __future__ import annotations

from stepjit_runtime import abi, support
from stepjit_runtime.dtypes import DType

ARRAY = abi.ARRAY
DATA = support.DATA
DECLARATIONS = support.PYTHON | support.PROTOTYPES

FLOORDIV = """
define internal i64 @floordiv(i64 %a, i64 %b) alwaysinline {
  %zero = icmp eq i64 %b, 0
  %divisor = select i1 %zero, i64 1, i64 %b
  %quotient = sdiv i64 %a, %divisor
  %back = mul i64 %quotient, %divisor
  %rest = sub i64 %a, %back
  %uneven = icmp ne i64 %rest, 0
  %signs = xor i64 %rest, %divisor
  %differ = icmp slt i64 %signs, 0
  %lower = and i1 %uneven, %differ
  %one = zext i1 %lower to i64
  %floor = sub i64 %quotient, %one
  %result = select i1 %zero, i64 0, i64 %floor
  ret i64 %result
}

define internal i64 @floormod(i64 %a, i64 %b) alwaysinline {
  %zero = icmp eq i64 %b, 0
  %divisor = select i1 %zero, i64 1, i64 %b
  %rest = srem i64 %a, %divisor
  %uneven = icmp ne i64 %rest, 0
  %signs = xor i64 %rest, %divisor
  %differ = icmp slt i64 %signs, 0
  %wrong = and i1 %uneven, %differ
  %add = select i1 %wrong, i64 %divisor, i64 0
  %mod = add i64 %rest, %add
  %result = select i1 %zero, i64 0, i64 %mod
  ret i64 %result
}
"""


def unboxable(dtype: DType) -> bool:
    """Whether a Python number may be fed where an array without dimensions of that dtype is asked for."""
    return dtype in support.UNBOXABLE
