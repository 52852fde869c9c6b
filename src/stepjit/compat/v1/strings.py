"""tf.strings."""

# ruff: noqa: F401, I001

from __future__ import annotations

from stepjit.ops.strings import (
    as_string, format, length, lower, reduce_join, regex_full_match, regex_replace, split, string_join as join,
    string_strip as strip, string_to_hash_bucket as to_hash_bucket, string_to_hash_bucket_fast as to_hash_bucket_fast,
    string_to_hash_bucket_strong as to_hash_bucket_strong, string_to_number as to_number, substr, unicode_transcode,
    unsorted_segment_join, upper,
)  # fmt: skip
