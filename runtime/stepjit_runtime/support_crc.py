"""The native checksum of record files, as IR: CRC-32C, eight bytes per round."""

from __future__ import annotations

PROTOTYPES = {"sj_crc32c": "i32 @sj_crc32c(ptr, ptr, i64, i32)"}


def _lookups() -> str:
    """The eight bytes of %word, each looked up in the table for its distance from the end."""
    lines = []
    for k in range(8):
        lines.append(f"  %b{k}.shifted = lshr i64 %word, {8 * k}")
        lines.append(f"  %b{k}.byte = and i64 %b{k}.shifted, 255")
        lines.append(f"  %b{k}.at = getelementptr [8 x [256 x i32]], ptr %tables, i64 0, i64 {7 - k}, i64 %b{k}.byte")
        lines.append(f"  %b{k} = load i32, ptr %b{k}.at")
    lines.append("  %x0 = xor i32 %b0, %b1")
    lines += [f"  %x{k} = xor i32 %x{k - 1}, %b{k + 1}" for k in range(1, 7)]
    return "\n".join(lines)


def text() -> str:
    """`sj_crc32c(tables, data, n, crc)`: `crc`, inverted as it runs, moved on by n bytes; little-endian machines."""
    return f"""
define i32 @sj_crc32c(ptr %tables, ptr %data, i64 %n, i32 %crc) {{
entry:
  %whole = and i64 %n, -8
  br label %rounds
rounds:
  %i = phi i64 [ 0, %entry ], [ %i.next, %round ]
  %c = phi i32 [ %crc, %entry ], [ %x6, %round ]
  %more = icmp ult i64 %i, %whole
  br i1 %more, label %round, label %rest
round:
  %p = getelementptr i8, ptr %data, i64 %i
  %read = load i64, ptr %p, align 1
  %c.wide = zext i32 %c to i64
  %word = xor i64 %read, %c.wide
{_lookups()}
  %i.next = add i64 %i, 8
  br label %rounds
rest:
  %j = phi i64 [ %whole, %rounds ], [ %j.next, %byte ]
  %d = phi i32 [ %c, %rounds ], [ %d.next, %byte ]
  %left = icmp ult i64 %j, %n
  br i1 %left, label %byte, label %done
byte:
  %q = getelementptr i8, ptr %data, i64 %j
  %one = load i8, ptr %q
  %one.wide = zext i8 %one to i32
  %mixed = xor i32 %d, %one.wide
  %low = and i32 %mixed, 255
  %low.wide = zext i32 %low to i64
  %entry.at = getelementptr i32, ptr %tables, i64 %low.wide
  %looked = load i32, ptr %entry.at
  %rest.bits = lshr i32 %d, 8
  %d.next = xor i32 %rest.bits, %looked
  %j.next = add i64 %j, 1
  br label %rest
done:
  ret i32 %d
}}
"""
