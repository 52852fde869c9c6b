"""Messages of configurations, options, traces and events: names and bytes are TensorFlow's."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest
from google.protobuf import text_format

import stepjit.compat.v1 as tf
from stepjit.proto import MESSAGES, schema

WIRE = {
    "CallableOptions": "e7b8d723c0eb7d6d",
    "ClusterDef": "b7f1bc608860b716",
    "ConfigProto": "6d62e015b411dfe4",
    "CostGraphDef": "359578d3ceb7c9d5",
    "DebugOptions": "ae090301699f3d8c",
    "DebuggedSourceFiles": "28a0c601209a4958",
    "DeviceAttributes": "10acfd23a8fc6e36",
    "Event": "0aed49ed320f5946",
    "GPUOptions": "17cce586627b1833",
    "GraphOptions": "851c041082ca0206",
    "HistogramProto": "6059c2c5399b13b8",
    "RewriterConfig": "759da84f0cdc48fd",
    "RunMetadata": "8baba2d23469b443",
    "RunOptions": "d7978b0a4d98f5b6",
    "StepStats": "17914f04c85059fc",
    "Summary": "e209d9b29e98e0d0",
}
"""Digests of the bytes and of the text form of messages with every field set by `fill`, from TensorFlow 2.21."""

ELSEWHERE = {"GraphDef", "TensorProto", "AttrValue"}
"""Messages with fields that are kept but not known here."""


def fill(message: Any, depth: int = 0) -> Any:
    """Set every field to something that tells its number and name."""
    for field in message.DESCRIPTOR.fields:
        kind = field.message_type
        if kind is not None and (kind.name in ELSEWHERE or depth == 5):
            continue
        if kind is not None and kind.GetOptions().map_entry:
            key, value = kind.fields_by_name["key"], kind.fields_by_name["value"]
            if value.message_type is None:
                getattr(message, field.name)[scalar(key)] = scalar(value)
        elif hasattr(getattr(message, field.name), "extend"):
            for _ in range(2):
                if kind is None:
                    getattr(message, field.name).append(scalar(field))
                else:
                    fill(getattr(message, field.name).add(), depth + 1)
        elif kind is not None:
            fill(getattr(message, field.name), depth + 1)
        else:
            setattr(message, field.name, scalar(field))
    return message


def scalar(field: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[1].number  # later versions add some at the end
    if field.type == field.TYPE_STRING:
        return field.name
    if field.type == field.TYPE_BYTES:
        return field.name.encode()
    if field.type == field.TYPE_BOOL:
        return True
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return field.number + 0.5
    unsigned = (field.TYPE_UINT32, field.TYPE_UINT64, field.TYPE_FIXED32, field.TYPE_FIXED64)
    return field.number if field.type in unsigned else -field.number


def digest(message: Any) -> str:
    """Of the bytes and the names."""
    content = message.SerializeToString(deterministic=True) + text_format.MessageToString(message).encode()
    return hashlib.sha256(content).hexdigest()[:16]


@pytest.mark.parametrize("name", WIRE)
def test_messages_are_tensorflows(name: str) -> None:
    message = fill(MESSAGES[name]())
    assert digest(message) == WIRE[name]
    assert MESSAGES[name].FromString(message.SerializeToString()) == message


@pytest.mark.parametrize("name", WIRE)
def test_fields_of_later_versions_survive(name: str) -> None:
    unknown = b"\xfa\x3f\x03abc"
    message = fill(MESSAGES[name]())
    other = MESSAGES[name].FromString(message.SerializeToString() + unknown)
    assert other.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True) + unknown


@pytest.mark.parametrize(
    "name",
    ["ConfigProto", "Event", "GPUOptions", "GraphOptions", "HistogramProto", "LogMessage", "OptimizerOptions",
     "RunMetadata", "RunOptions", "SessionLog", "Summary", "SummaryMetadata"],
)  # fmt: skip
def test_names_for_users(name: str) -> None:
    assert getattr(tf, name) is MESSAGES[name]


def test_messages_for_clusters() -> None:
    cluster = tf.train.ClusterDef(job=[tf.train.JobDef(name="ps", tasks={0: "host:1"})])
    assert tf.ConfigProto(cluster_def=cluster).cluster_def.job[0].tasks[0] == "host:1"
    with pytest.raises(AttributeError, match="NoSuchDef"):
        tf.train.NoSuchDef


def test_numbers_of_enums() -> None:
    assert [tf.RunOptions.NO_TRACE, tf.RunOptions.SOFTWARE_TRACE, tf.RunOptions.HARDWARE_TRACE] == [0, 1, 2]
    assert tf.RunOptions.FULL_TRACE == 3
    assert (tf.OptimizerOptions.L0, tf.OptimizerOptions.L1) == (-1, 0)
    assert (tf.OptimizerOptions.OFF, tf.OptimizerOptions.ON_2) == (-1, 2)
    assert MESSAGES["RewriterConfig"].AGGRESSIVE == 3


def test_messages_behave_as_messages() -> None:
    config = tf.ConfigProto(allow_soft_placement=True, device_count={"CPU": 3})
    config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
    other = tf.ConfigProto()
    other.CopyFrom(config)
    assert other == config == copy.deepcopy(config) == pickle.loads(pickle.dumps(config))
    assert "allow_soft_placement: true" in str(config)
    assert text_format.Parse(str(config), tf.ConfigProto()) == config
    assert config.HasField("graph_options")
    assert not config.HasField("gpu_options")
    other.MergeFrom(tf.ConfigProto(gpu_options=tf.GPUOptions(allow_growth=True)))
    assert other.gpu_options.allow_growth
    assert other != config
    with pytest.raises(ValueError, match="no_such_field"):
        tf.ConfigProto(no_such_field=1)
    with pytest.raises(AttributeError):
        config.no_such_field = 1
    with pytest.raises(TypeError):
        config.allow_soft_placement = "yes"


def test_an_import_that_loads_no_protobuf() -> None:
    code = (
        "import sys, stepjit.compat.v1 as tf; assert 'google.protobuf' not in sys.modules;"
        "tf.Session(); assert 'google.protobuf' not in sys.modules;"
        "tf.ConfigProto; assert 'google.protobuf' in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_negative_numbers_in_a_schema() -> None:
    file = schema.read("e.proto", "enum E { ZERO = 0; BELOW = -3; }")
    assert file.enum_type[0].value[1].number == -3
