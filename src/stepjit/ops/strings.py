"""Functions on texts, in TF1's signatures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import NotDifferentiable
from stepjit.framework.scopes import name_scope
from stepjit.framework.sparse_tensor import SparseTensor
from stepjit.framework.tensor import Tensor
from stepjit.ops import array
from stepjit.ops.sparse import renamed
from stepjit_runtime import dtypes

# --- joined and split ---


def string_join(inputs: Sequence[Any], separator: str = "", name: str | None = None) -> Tensor:
    """The texts of several tensors joined elementwise; scalars go with every element."""
    return apply_op("StringJoin", inputs=list(inputs), separator=separator, name=name)


def reduce_join(
    inputs: Any,
    axis: Any = None,
    keep_dims: Any = None,
    separator: str = "",
    name: str | None = None,
    reduction_indices: Any = None,
    keepdims: Any = None,
) -> Tensor:
    """The texts joined over axes, the first one running fastest; over all in row-major order by default."""
    keep = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
    axis = renamed("axis", axis, "reduction_indices", reduction_indices)
    with name_scope(name, "ReduceJoin", [inputs]):
        values = convert_to_tensor(inputs, dtypes.string)
        if axis is None:
            if values.dims is not None:
                axis = constant(list(range(len(values.dims) - 1, -1, -1)), dtypes.int32)
            else:
                axis = apply_op("Range", start=array.rank(values) - 1, limit=-1, delta=-1)
        return apply_op(
            "ReduceJoin", inputs=values, reduction_indices=axis, keep_dims=keep, separator=separator,
        )  # fmt: skip


def unsorted_segment_join(
    inputs: Any, segment_ids: Any, num_segments: Any, separator: str = "", name: str | None = None
) -> Tensor:
    """The texts of the same segment id joined; the empty text for a segment without any."""
    return apply_op(
        "UnsortedSegmentJoin", inputs=inputs, segment_ids=segment_ids, num_segments=num_segments, separator=separator,
        name=name,
    )  # fmt: skip


def string_split(
    source: Any,
    sep: Any = None,
    skip_empty: bool = True,
    delimiter: Any = None,
    result_type: str = "SparseTensor",
    name: str | None = None,
) -> SparseTensor:
    """The parts of each text of a vector between any of the characters in `sep` (default: space; empty: everywhere).

    ValueError unless `source` is a vector and `result_type` is "SparseTensor".
    """
    sep = renamed("sep", sep, "delimiter", delimiter)
    with name_scope(name, "", [source]) if name else name_scope(None, "StringSplit", [source]):
        _check_result(result_type)
        values = convert_to_tensor(source, dtypes.string, "source")
        delimiters = convert_to_tensor(" " if sep is None else sep, dtypes.string)
        return _sparse(apply_op("StringSplit", input=values, delimiter=delimiters, skip_empty=skip_empty))


def split(
    input: Any = None,
    sep: Any = None,
    maxsplit: int = -1,
    result_type: str = "SparseTensor",
    source: Any = None,
    name: str | None = None,
) -> SparseTensor:
    """The parts of each text between occurrences of the text `sep` (default: any white space).

    ValueError unless `input` is a scalar or a vector and `result_type` is "SparseTensor".
    """
    given = renamed("input", input, "source", source)
    with name_scope(name, "StringSplit", [given]):
        _check_result(result_type)
        values = convert_to_tensor(given, dtypes.string, "input")
        if values.dims == ():
            values = array.expand_dims(values, 0)
        separator = convert_to_tensor("" if sep is None else sep, dtypes.string)
        return _sparse(apply_op("StringSplitV2", input=values, sep=separator, maxsplit=maxsplit))


def _check_result(kind: str) -> None:
    if kind != "SparseTensor":
        raise ValueError(f"result_type must be 'SparseTensor', there are no others here: {kind!r}")


def _sparse(parts: Sequence[Tensor]) -> SparseTensor:
    indices, values, shape = parts
    indices.set_shape([None, 2])
    values.set_shape([None])
    shape.set_shape([2])
    return SparseTensor(indices, values, shape)


# --- parts and forms ---


def substr(input: Any, pos: Any, len: Any, name: str | None = None, unit: str = "BYTE") -> Tensor:
    """`len` bytes (or characters, with unit "UTF8_CHAR") from `pos` on; a negative `pos` counts from the end."""
    return apply_op("Substr", input=input, pos=pos, len=len, unit=unit, name=name)


def length(input: Any, name: str | None = None, unit: str = "BYTE") -> Tensor:
    """The number of bytes, or of characters with unit "UTF8_CHAR"."""
    return apply_op("StringLength", input=input, unit=unit, name=name)


def string_strip(input: Any, name: str | None = None) -> Tensor:
    """The texts without white space at either end."""
    return apply_op("StringStrip", input=input, name=name)


def upper(input: Any, encoding: str = "", name: str | None = None) -> Tensor:
    """In capitals: ASCII letters only, or all with encoding "utf-8"."""
    return apply_op("StringUpper", input=input, encoding=encoding, name=name)


def lower(input: Any, encoding: str = "", name: str | None = None) -> Tensor:
    """In small letters: ASCII letters only, or all with encoding "utf-8"."""
    return apply_op("StringLower", input=input, encoding=encoding, name=name)


def regex_replace(
    input: Any, pattern: Any, rewrite: Any, replace_global: bool = True, name: str | None = None
) -> Tensor:
    """The texts with what matches an RE2 pattern replaced; `\\\\1` in `rewrite` is a group, `\\\\0` the whole match."""
    texts = (str, bytes)
    if isinstance(pattern, texts) and isinstance(rewrite, texts):
        return apply_op(
            "StaticRegexReplace", input=input, pattern=pattern, rewrite=rewrite, replace_global=replace_global,
            name=name,
        )  # fmt: skip
    return apply_op(
        "RegexReplace", input=input, pattern=pattern, rewrite=rewrite, replace_global=replace_global, name=name
    )


def regex_full_match(input: Any, pattern: Any, name: str | None = None) -> Tensor:
    """Whether an RE2 pattern matches the whole text."""
    if isinstance(pattern, (str, bytes)):
        return apply_op("StaticRegexFullMatch", input=input, pattern=pattern, name=name)
    return apply_op("RegexFullMatch", input=input, pattern=pattern, name=name)


def unicode_transcode(
    input: Any,
    input_encoding: str,
    output_encoding: str,
    errors: str = "replace",
    replacement_char: int = 65533,
    replace_control_characters: bool = False,
    name: str | None = None,
) -> Tensor:
    """The texts in another encoding; what is malformed is replaced, left out or (strict) an error."""
    return apply_op(
        "UnicodeTranscode", input=input, input_encoding=input_encoding, output_encoding=output_encoding,
        errors=errors, replacement_char=replacement_char, replace_control_characters=replace_control_characters,
        name=name,
    )  # fmt: skip


def encode_base64(input: Any, pad: bool = False, name: str | None = None) -> Tensor:
    """The texts in web-safe base64."""
    return apply_op("EncodeBase64", input=input, pad=pad, name=name)


def decode_base64(input: Any, name: str | None = None) -> Tensor:
    """The texts that web-safe base64, padded or not, stands for."""
    return apply_op("DecodeBase64", input=input, name=name)


# --- numbers ---


def as_string(
    input: Any,
    precision: int = -1,
    scientific: bool = False,
    shortest: bool = False,
    width: int = -1,
    fill: str = "",
    name: str | None = None,
) -> Tensor:
    """Numbers as texts, in the manner of C's printf."""
    return apply_op(
        "AsString", input=input, precision=precision, scientific=scientific, shortest=shortest, width=width, fill=fill,
        name=name,
    )  # fmt: skip


def string_to_number(
    string_tensor: Any = None, out_type: Any = dtypes.float32, name: str | None = None, input: Any = None
) -> Tensor:
    """The numbers that texts stand for."""
    given = renamed("input", string_tensor, "string_tensor", input)
    return apply_op("StringToNumber", string_tensor=given, out_type=out_type, name=name)


def string_to_hash_bucket(
    string_tensor: Any = None, num_buckets: Any = None, name: str | None = None, input: Any = None
) -> Tensor:
    """A number below `num_buckets` by a hash of the text; the fast and strong ones spread better."""
    given = renamed("input", string_tensor, "string_tensor", input)
    return apply_op("StringToHashBucket", string_tensor=given, num_buckets=num_buckets, name=name)


def string_to_hash_bucket_fast(input: Any, num_buckets: int, name: str | None = None) -> Tensor:
    """A number below `num_buckets` by the text's FarmHash64."""
    return apply_op("StringToHashBucketFast", input=input, num_buckets=num_buckets, name=name)


def string_to_hash_bucket_strong(
    input: Any, num_buckets: int, key: Sequence[int], name: str | None = None
) -> Tensor:
    """A number below `num_buckets` by the text's SipHash under a key of two integers."""
    return apply_op("StringToHashBucketStrong", input=input, num_buckets=num_buckets, key=key, name=name)


def format(
    template: str, inputs: Any, placeholder: str = "{}", summarize: int = 3, name: str | None = None
) -> Tensor:
    """The template with each placeholder replaced by a printed tensor, of which `summarize` items at either end show.

    ValueError when the numbers of placeholders and tensors differ.
    """
    tensors = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    wanted = template.count(placeholder)
    if wanted != len(tensors):
        raise ValueError(
            f"The template expects {wanted} tensors, but the inputs only has {len(tensors)}. Please ensure the number "
            "of placeholders in template matches inputs length."
        )
    return apply_op(
        "StringFormat", inputs=tensors, template=template, placeholder=placeholder, summarize=summarize, name=name
    )


# --- records ---


def decode_raw(
    input_bytes: Any = None,
    out_type: Any = None,
    little_endian: bool = True,
    name: str | None = None,
    bytes: Any = None,
) -> Tensor:
    """The bytes of texts of one length as numbers, along a new last axis."""
    given = renamed("input_bytes", input_bytes, "bytes", bytes)
    if out_type is None:
        raise ValueError("out_type must be specified.")
    return apply_op("DecodeRaw", bytes=given, out_type=out_type, little_endian=little_endian, name=name)


def decode_compressed(bytes: Any, compression_type: str = "", name: str | None = None) -> Tensor:
    """The bytes that "ZLIB" or "GZIP" compression made smaller; as they are for ""."""
    return apply_op("DecodeCompressed", bytes=bytes, compression_type=compression_type, name=name)


def decode_csv(
    records: Any,
    record_defaults: Sequence[Any],
    field_delim: str = ",",
    use_quote_delim: bool = True,
    name: str | None = None,
    na_value: str = "",
    select_cols: Sequence[int] | None = None,
) -> list[Tensor]:
    """The columns of comma-separated records, one tensor per default, which gives its dtype.

    A default without an element makes its column required. ValueError for wrong `select_cols`.
    """
    if select_cols is not None and any(a >= b for a, b in itertools.pairwise(select_cols)):
        raise ValueError("select_cols is not strictly increasing.")
    if select_cols is not None and select_cols[0] < 0:
        raise ValueError("select_cols contains negative values.")
    if select_cols is not None and len(select_cols) != len(record_defaults):
        raise ValueError("Length of select_cols and record_defaults do not match.")
    found: list[Tensor] = apply_op(
        "DecodeCSV", records=records, record_defaults=list(record_defaults), field_delim=field_delim,
        use_quote_delim=use_quote_delim, na_value=na_value, select_cols=list(select_cols or ()), name=name,
    )  # fmt: skip
    return found


for _kind in (
    "StringJoin", "ReduceJoin", "UnsortedSegmentJoin", "StringSplit", "StringSplitV2", "Substr", "StringLength",
    "StringStrip", "StringUpper", "StringLower", "RegexReplace", "StaticRegexReplace", "RegexFullMatch",
    "StaticRegexFullMatch", "UnicodeTranscode", "EncodeBase64", "DecodeBase64", "AsString", "StringToNumber",
    "StringToHashBucket", "StringToHashBucketFast", "StringToHashBucketStrong", "StringFormat", "DecodeRaw",
    "DecodePaddedRaw", "DecodeCompressed", "DecodeCSV",
):  # fmt: skip
    NotDifferentiable(_kind)
