"""The graphs that `gradients` builds: structure, names, rules; nothing is run."""

from __future__ import annotations

import pytest

import stepjit.compat.v1 as tf


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def kinds(graph, scope="gradients/"):
    return [op.type for op in graph.get_operations() if op.name.startswith(scope)]


def test_unconnected_gives_none_or_zeros():
    x, y = tf.constant(1.0), tf.constant([1.0, 2.0])
    assert tf.gradients(x * 2.0, y) == [None]
    (zero,) = tf.gradients(x * 2.0, y, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    assert zero.op.type == "ZerosLike"
    assert zero.shape == (2,)


def test_names_of_starting_gradients(graph):
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    tf.gradients([tf.square(x), x * 3.0], x)
    names = [op.name for op in graph.get_operations()]
    assert "gradients/grad_ys_0" in names
    assert "gradients/grad_ys_1/Const" in names
    assert "gradients/Square_grad/Mul_1" in names


def test_equal_static_shapes_need_no_reduction(graph):
    a, b = tf.placeholder(tf.float32, [2, 3]), tf.placeholder(tf.float32, [2, 3])
    tf.gradients(a * b + a, [a, b])
    assert not {"Sum", "BroadcastGradientArgs"} & set(kinds(graph))


def test_static_broadcasting_reduces_over_known_axes(graph):
    a, b = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.float32, [3])
    da, db = tf.gradients(a + b, [a, b])
    assert "BroadcastGradientArgs" not in kinds(graph)
    assert da.op.name == "gradients/grad_ys_0"
    assert db.op.name == "gradients/add_grad/Reshape"
    assert db.shape == (3,)


def test_unknown_extents_reduce_by_broadcast_gradient_args(graph):
    a, b = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [None])
    tf.gradients(a - b, [a, b])
    assert kinds(graph).count("BroadcastGradientArgs") == 1


def test_by_a_constant_exponent():
    y = tf.constant([1.0, 2.0])
    assert tf.gradients(tf.pow(2.0, y), y) != [None]


def test_same_operand_twice_is_summed_once(graph):
    x = tf.placeholder(tf.float32, [None])
    (g,) = tf.gradients(x * x, x)
    assert g.op.type == "AddN"
    assert g.op.name == "gradients/AddN"
    assert "Sum" not in kinds(graph)


def test_aggregation_methods(graph):
    x = tf.placeholder(tf.float32, [2])
    y = tf.add_n([x * 1.0, x * 2.0, x * 3.0])
    assert tf.gradients(y, x)[0].op.type == "AddN"
    (tree,) = tf.gradients(y, x, aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE)
    assert (tree.op.type, tree.op.name) == ("AddN", "gradients_1/Placeholder_gradient_sum/AddN_1")
    with pytest.raises(ValueError, match="aggregation_method"):
        tf.gradients(y, x, aggregation_method=7)


def test_stop_gradients_and_stop_gradient():
    x = tf.placeholder(tf.float32, [])
    y = x * 2.0
    assert tf.gradients(tf.stop_gradient(y), x) == [None]
    gx, gy = tf.gradients(x + y, [x, y], stop_gradients=[x, y])
    assert gx is gy


def test_gate_gradients_joins_the_inputs(graph):
    a, b = tf.placeholder(tf.float32, [2]), tf.placeholder(tf.float32, [2])
    da, _ = tf.gradients(a * b, [a, b], gate_gradients=True)
    assert da.op.name == "gradients/mul_grad/tuple/control_dependency"
    gate = graph.get_operation_by_name("gradients/mul_grad/tuple/group_deps")
    assert [op.name for op in gate.control_inputs] == ["gradients/mul_grad/Mul", "gradients/mul_grad/Mul_1"]


def test_colocation_follows_the_forward_op(graph):
    with tf.device("/cpu:1"):
        x = tf.placeholder(tf.float32, [2])
        y = tf.exp(x)
    (g,) = tf.gradients(y, x, colocate_gradients_with_ops=True)
    assert g.op.device == "/device:CPU:1"
    assert b"loc:@Exp" in g.op.attrs["_class"]


def test_gradient_override_map(graph):
    @tf.RegisterGradient("TimesHundred")
    def _times_hundred(op, grad):
        return grad * 100.0

    x = tf.placeholder(tf.float32, [])
    with graph.gradient_override_map({"Square": "TimesHundred"}):
        y = tf.square(x)
    (g,) = tf.gradients(y, x)
    assert g.op.type == "Mul"
    assert g.op.inputs[1].op.attrs["value"] == 100.0
    with pytest.raises(KeyError):
        tf.RegisterGradient("TimesHundred")(_times_hundred)
    with pytest.raises(TypeError):
        tf.RegisterGradient(3)


def test_missing_gradient_is_a_lookup_error():
    x = tf.placeholder(tf.float32, [2])
    y = tf.raw_ops.TruncateMod(x=x, y=x)
    with pytest.raises(LookupError, match="No gradient defined for operation 'TruncateMod'"):
        tf.gradients(y, x)


def test_integer_paths_carry_nothing():
    x = tf.constant([1.5, 2.5])
    assert tf.gradients(tf.floor(x), x) == [None]
    assert tf.gradients(tf.cast(tf.cast(x, tf.int32), tf.float32), x) == [None]
    assert tf.gradients(tf.argmax(x), x) == [None]


def test_integer_ys_start_and_end_where_they_are():
    x, i = tf.constant([1.5, 2.5]), tf.constant([1, 2])
    assert tf.gradients([tf.cast(x, tf.int32), x > 1.0], x) == [None]
    (ones,) = tf.gradients(i, i)
    assert ones.dtype == tf.int32
    assert tf.gradients(i, x) == tf.gradients(x, i) == [None]
    with pytest.raises(TypeError, match="numeric"):
        tf.gradients(tf.constant("a"), x)


def test_complex_ys_need_grad_ys():
    x = tf.constant([1.0, 2.0])
    z = tf.complex(x, x)
    with pytest.raises(TypeError, match=r"complex tensors .* must set grad_ys"):
        tf.gradients(z, x)
    assert tf.gradients(z, x, grad_ys=tf.ones_like(z))[0].dtype == tf.float32


def test_grad_ys_are_checked():
    x = tf.constant([1.0, 2.0])
    with pytest.raises(ValueError, match="Length mismatch"):
        tf.gradients(x, x, grad_ys=[x, x])
    with pytest.raises(ValueError, match="Incompatible shapes"):
        tf.gradients(x * x, x, grad_ys=tf.constant([1.0, 2.0, 3.0]))
    with pytest.raises(TypeError, match="must be real or integer"):
        tf.gradients(x * x, x, grad_ys=tf.complex(x, x))
    with pytest.raises(TypeError, match="must be complex"):
        tf.gradients(tf.complex(x, x), x, grad_ys=x)


def test_grad_ys_go_through_a_name(graph):
    x = tf.placeholder(tf.float32, [2])
    rows = tf.IndexedSlices(tf.constant([3.0]), tf.constant([1]), tf.constant([2]))
    tf.gradients(x * x, x, grad_ys=[2.0])
    (found,) = tf.gradients(tf.identity(x), x, grad_ys=[rows])
    assert graph.get_operation_by_name("gradients/grad_ys_0").type == "Identity"
    assert found.values.op.name == "gradients_1/grad_ys_0_values"


def test_xs_are_a_flat_list():
    x = tf.constant(1.0)
    with pytest.raises(TypeError):
        tf.gradients(x * x, [[x]])
    with pytest.raises(ValueError):
        tf.gradients(x * x, None)
    assert tf.gradients(x * x, []) == []
    with pytest.raises(ValueError, match="Unknown value for unconnected_gradients: 'ZERO'"):
        tf.gradients(x, x, unconnected_gradients="ZERO")


def test_zeros_of_a_handle_are_of_its_value():
    x = tf.constant(1.0)
    v = tf.Variable([[1.0, 2.0]], use_resource=True)
    (zeros,) = tf.gradients(x * x, v, unconnected_gradients="zero")
    assert (zeros.dtype, zeros.shape) == (tf.float32, (1, 2))


def test_parts_of_variables_are_differentiated_by_one_by_one():
    with tf.variable_scope("p", partitioner=tf.fixed_size_partitioner(2)):
        parts = tf.get_variable("v", [4, 2])
    y = tf.reduce_sum(tf.convert_to_tensor(parts))
    assert [grad.shape for grad in tf.gradients(y, list(parts))] == [(2, 2)] * 2
    with pytest.raises(NotImplementedError, match="parts"):
        tf.gradients(y, parts)


def test_gather_gives_indexed_slices_and_several_are_joined():
    v = tf.Variable(tf.zeros([5, 2]), name="v")
    (g,) = tf.gradients(tf.reduce_sum(tf.gather(v, [1, 2])) + tf.reduce_sum(tf.gather(v, [3])), v)
    assert isinstance(g, tf.IndexedSlices)
    assert g.values.op.type == "ConcatV2"
    assert g.values.shape == (3, 2)
    assert g.indices.shape == (3,)
    dense = tf.convert_to_tensor(g)
    assert dense.op.type == "UnsortedSegmentSum"


def test_slices_stay_slices():
    x = tf.placeholder(tf.float64, [5, 2])
    for keep in (tf.identity, tf.negative, lambda v: tf.cast(v, tf.float32)):
        assert isinstance(tf.gradients(tf.reduce_sum(tf.gather(keep(x), [1])), x)[0], tf.IndexedSlices)
    assert isinstance(tf.gradients(tf.reduce_sum(tf.gather(tf.tanh(x), [1])), x)[0], tf.Tensor)


def test_large_slices_made_dense_are_a_warning():
    x = tf.placeholder(tf.float32, [20000, 6000])
    with pytest.warns(UserWarning, match="to a dense Tensor with 120000000 elements"):
        tf.gradients(tf.reduce_sum(tf.gather(tf.exp(x), [1])), x)


def test_sums_stand_beside_what_they_add_up(graph):
    with tf.device("/cpu:0"):
        x = tf.placeholder(tf.float32, [2])
        y = x * 2.0
    with tf.device("/cpu:1"):
        z, u = x * 3.0, x * 4.0
    (total,) = tf.gradients([y, z, u], x, colocate_gradients_with_ops=True)
    sums = [op for op in graph.get_operations() if op.type == "AddN"]
    assert [len(op.inputs) for op in sums] == [2, 2]
    assert {op.device for op in sums[:1]} == {"/device:CPU:1"}
    assert total.op is sums[-1]


def test_slices_and_tensors_add_up_dense():
    v = tf.Variable(tf.zeros([5, 2]))
    (g,) = tf.gradients(tf.reduce_sum(tf.gather(v, [1])) + tf.reduce_sum(v), v)
    assert g.op.type == "AddN"


def test_resource_variables_are_read_and_gathered():
    v = tf.Variable(tf.zeros([5, 2]), use_resource=True)
    (dense,) = tf.gradients(tf.reduce_sum(v * 2.0), v)
    (sparse,) = tf.gradients(tf.reduce_sum(tf.gather(v, [1])), v)
    assert dense.shape == (5, 2)
    assert isinstance(sparse, tf.IndexedSlices)


def test_long_chains_are_walked_iteratively():
    x = tf.placeholder(tf.float32, [2])
    y = x
    for _ in range(5000):
        y = tf.tanh(y)
    (g,) = tf.gradients(y, x)
    assert g.op.type == "TanhGrad"


def test_shape_of_a_gradient_is_checked():
    @tf.RegisterGradient("WrongShape")
    def _wrong(op, grad):
        return tf.zeros([7])

    x = tf.placeholder(tf.float32, [2])
    with tf.get_default_graph().gradient_override_map({"Exp": "WrongShape"}):
        y = tf.exp(x)
    with pytest.raises(ValueError, match="Incompatible shapes between op input and calculated input gradient"):
        tf.gradients(y, x)
