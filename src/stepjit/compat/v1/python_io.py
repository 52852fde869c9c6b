"""tf.python_io."""

# ruff: noqa: F401
from __future__ import annotations

from stepjit.record_files import TFRecordCompressionType, TFRecordOptions, TFRecordWriter, tf_record_iterator
