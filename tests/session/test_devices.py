"""Devices of sessions, and which ops may run on them."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

import stepjit.compat.v1 as tf
from stepjit.python.client import device_lib

CPU = "/job:localhost/replica:0/task:0/device:CPU:"
INVALID = tf.errors.InvalidArgumentError
REFUSED = "Cannot assign a device for operation"


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as g:
        yield g


def config(cpus: int = 1, **fields: Any) -> Any:
    return tf.ConfigProto(device_count={"CPU": cpus}, **fields)


# --- list_devices ---


@pytest.mark.parametrize("count", [1, 3])
def test_devices_of_a_session(count: int) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with tf.Session(config=config(count)) as session:
        devices = session.list_devices()
        assert [device.name for device in devices] == [f"{CPU}{number}" for number in range(count)]
        for device in devices:
            assert device.device_type == "CPU"
            assert device.memory_limit_bytes == memory > 0
            assert isinstance(device.incarnation, int)
            assert 0 < device.incarnation < 2**63
            for part in (device.name, "CPU", str(memory), str(device.incarnation)):
                assert part in repr(device)
        assert [device.incarnation for device in session.list_devices()] == [each.incarnation for each in devices]


def test_incarnations_differ_between_sessions() -> None:
    found = {tf.Session().list_devices()[0].incarnation for _ in range(5)}
    assert len(found) == 5


def test_local_devices() -> None:
    found = device_lib.list_local_devices(config(2))
    assert [device.name for device in found] == ["/device:CPU:0", "/device:CPU:1"]
    assert {(device.device_type, device.memory_limit > 0) for device in found} == {("CPU", True)}
    assert len(device_lib.list_local_devices()) == 1


def test_devices_of_a_closed_session() -> None:
    session = tf.Session()
    session.close()
    with pytest.raises(RuntimeError, match="closed Session"):
        session.list_devices()


# --- placement ---


def placed(device: Any, **fields: Any) -> Any:
    with tf.device(device):
        t = tf.add(tf.placeholder_with_default(1.0, []), 2.0, name="placed")
    with tf.Session(config=config(**fields)) as session:
        return session.run(t)


HERE = ["", None, "/cpu:0", "/CPU:0", "/cpu:*", "/device:CPU:0", "/device:CPU:*", "/job:localhost",
        "/replica:0", "/task:0/cpu:0", f"{CPU}0", tf.DeviceSpec(job="localhost", device_type="cpu", device_index=0),
        lambda op: "/cpu:0"]  # fmt: skip
ELSEWHERE = ["/cpu:1", "/gpu:0", "/device:GPU:*", "/device:TPU:0", "/device:XYZ:0", "/job:ps", "/job:ps/task:1/cpu:0",
             "/replica:1", "/task:2", lambda op: "/device:CPU:9"]  # fmt: skip


@pytest.mark.parametrize("device", HERE)
def test_devices_that_are_here(device: Any) -> None:
    assert placed(device) == 3


@pytest.mark.parametrize("device", ELSEWHERE)
def test_devices_that_are_not_here(device: Any) -> None:
    with pytest.raises(INVALID, match=REFUSED) as error:
        placed(device)
    assert error.value.op.type in ("Const", "PlaceholderWithDefault")
    assert f"'{error.value.op.name}' made at test_devices.py:" in error.value.message
    assert "was explicitly assigned to" in error.value.message
    assert f"available devices are [ {CPU}0 ]" in error.value.message


@pytest.mark.parametrize("device", ELSEWHERE)
def test_soft_placement(device: Any) -> None:
    assert placed(device, allow_soft_placement=True) == 3


def test_further_cpus() -> None:
    assert placed("/cpu:2", cpus=3) == 3
    with pytest.raises(INVALID, match=re.escape(f"[ {CPU}0, {CPU}1, {CPU}2 ]")):
        placed("/cpu:3", cpus=3)


@pytest.mark.parametrize("device", ["nonsense", "/foo:bar:x", "/cpu:0/cpu:1x", "/device:CPU:x", "/job"])
def test_malformed_devices(device: str) -> None:
    with pytest.raises(ValueError, match="Unknown attribute"), tf.device(device):
        tf.constant(1)


def test_malformed_devices_from_functions() -> None:
    with tf.device(lambda op: "nonsense"):
        t = tf.constant(1)
    with pytest.raises(INVALID, match="Malformed device specification 'nonsense'"):
        tf.Session().run(t)


def test_all_of_the_graph_needs_devices() -> None:
    a = tf.constant(1.0, name="a")
    with tf.device("/gpu:0"):
        bad = tf.identity(a, name="bad")
    with tf.Session() as session:
        for _ in range(2):
            with pytest.raises(INVALID, match=f"{REFUSED} bad"):
                session.run(a)
        assert session.run(bad, {bad: 3}) == 3


def test_only_the_step_needs_devices_when_placement_is_pruned() -> None:
    a = tf.constant(1.0, name="a")
    with tf.device("/gpu:0"):
        bad = tf.identity(a, name="bad")
    pruned = tf.Session(config=tf.ConfigProto(graph_options=tf.GraphOptions(place_pruned_graph=True)))
    interactive = tf.InteractiveSession()
    for session in (pruned, interactive):
        assert session.run(a) == 1
        assert session.run(bad + 1, {bad: 3}) == 4
        with pytest.raises(INVALID, match=f"{REFUSED} bad"):
            session.run(bad)
        session.close()


def test_what_is_compiled_goes_on_when_the_graph_grows() -> None:
    a = tf.constant(1.0, name="a") + 1
    with tf.Session() as session:
        run = session.make_callable(a)
        with tf.device("/job:ps"):
            bad = tf.identity(a, name="bad")
        assert run() == session.run(a) == 2
        with pytest.raises(INVALID, match=f"{REFUSED} bad"):
            session.run(bad)


def test_ops_in_branches_and_loops() -> None:
    def elsewhere(x: Any) -> Any:
        with tf.device("/gpu:0"):
            return tf.add(x, 1.0, name="inside")

    def build() -> list[Any]:
        x = tf.placeholder_with_default(1.0, [])
        return [
            tf.cond(x > 0, lambda: tf.cond(x > 0, lambda: elsewhere(x), lambda: x), lambda: x),
            tf.while_loop(lambda y: y < 2, elsewhere, [x]),
        ]

    for which in (0, 1):
        with tf.Graph().as_default():
            t = build()[which]
            with pytest.raises(INVALID, match=f"{REFUSED} .*inside"):
                tf.Session().run(t)
            assert tf.Session(config=tf.ConfigProto(allow_soft_placement=True)).run(t) == 2


def test_sessions_place_by_themselves() -> None:
    with tf.device("/cpu:1"):
        t = tf.constant(1.0)
    assert tf.Session(config=config(2)).run(t) == 1
    with pytest.raises(INVALID, match=REFUSED):
        tf.Session().run(t)
    assert tf.Session(config=tf.ConfigProto(allow_soft_placement=True)).run(t) == 1


def test_variables_on_devices_that_are_not_here() -> None:
    with tf.device("/job:ps/task:0"):
        v = tf.Variable(1.0)
    with pytest.raises(INVALID, match=REFUSED):
        tf.Session().run(v.initializer)
    with tf.Session(config=tf.ConfigProto(allow_soft_placement=True)) as session:
        session.run(v.initializer)
        assert session.run(v) == 1


# --- logs and traces ---


def test_where_ops_went_is_logged_once(capfd: pytest.CaptureFixture[str]) -> None:
    a = tf.constant(1.0, name="a")
    with tf.device("/cpu:1"):
        b = tf.identity(a, name="b")
    with tf.Session(config=config(2, log_device_placement=True)) as session:
        assert capfd.readouterr().err == ""
        session.run(b)
        assert capfd.readouterr().err.splitlines() == [f"a: (Const): {CPU}0", f"b: (Identity): {CPU}1"]
        session.run(b)
        session.run(a)
        assert capfd.readouterr().err == ""
        session.run(tf.negative(b, name="c"))
        assert capfd.readouterr().err.splitlines() == [f"c: (Neg): {CPU}0"]


def test_nothing_is_logged_unasked(capfd: pytest.CaptureFixture[str]) -> None:
    tf.Session().run(tf.constant(1.0))
    assert capfd.readouterr().err == ""


def test_traces_go_by_device() -> None:
    with tf.device("/cpu:0"):
        a = tf.multiply(tf.placeholder(tf.float32, [], name="p"), 2.0, name="a")
    with tf.device("/device:GPU:3"):
        b = tf.add(a, 1.0, name="b")
    with tf.device("/cpu:1"):
        c = tf.add(b, 1.0, name="c")
    with tf.Session(config=config(2, allow_soft_placement=True)) as session:
        metadata = tf.RunMetadata()
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE, output_partition_graphs=True)
        assert session.run(c, {"p:0": 3}, options=options, run_metadata=metadata) == 8
    places = {node.node_name: each.device for each in metadata.step_stats.dev_stats for node in each.node_stats}
    assert (places["a"], places["b"], places["c"]) == (f"{CPU}0", f"{CPU}0", f"{CPU}1")
    assert len(metadata.partition_graphs) == 2
