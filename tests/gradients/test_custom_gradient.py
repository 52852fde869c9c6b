"""Functions with a gradient of their own: arguments, results, variables, and where they may stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import stepjit.compat.v1 as tf


@pytest.fixture(autouse=True)
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


@tf.custom_gradient
def trebled(x: Any) -> Any:
    """Twice x, with a gradient of 3."""
    return x * 2.0, lambda dy: dy * 3.0


def test_results_and_arguments(session: Any) -> None:
    @tf.custom_gradient
    def mixed(x: Any, pair: Any) -> Any:
        return {"sum": x + pair[0], "product": [x * pair[1]]}, lambda s, p: (s * 10.0, [s * 20.0, p * 30.0])

    x, a, b = (tf.constant(each) for each in (2.0, 3.0, 4.0))
    result = mixed(x, [a, b])
    assert session.run(result) == {"sum": 5.0, "product": [8.0]}
    assert session.run(tf.gradients([result["sum"], result["product"]], [x, a, b])) == [10.0, 20.0, 30.0]
    assert (trebled.__name__, trebled.__doc__) == ("trebled", "Twice x, with a gradient of 3.")


def test_numbers_that_do_not_fit() -> None:
    @tf.custom_gradient
    def f(a: Any, b: Any) -> Any:
        return a * b, lambda dy: dy

    x = tf.placeholder(tf.float32, [])
    with pytest.raises(ValueError, match=r"Num gradients 2 generated for op .* do not match num inputs 3"):
        tf.gradients(f(x, x), x)
    with pytest.raises(ValueError, match="keywords arguments only when eager"):
        trebled(x=x)


def test_none_passes_nothing_on(session: Any) -> None:
    @tf.custom_gradient
    def f(x: Any, y: Any) -> Any:
        return x * y, lambda dy: (dy, None)

    x, y = tf.constant(2.0), tf.constant(3.0)
    assert tf.gradients(f(x, y), y) == [None]
    assert session.run(tf.gradients(f(x, y), x)) == [1.0]


def test_one_inside_the_gradient_of_another(session: Any) -> None:
    @tf.custom_gradient
    def cube(x: Any) -> Any:
        @tf.custom_gradient
        def slope(x: Any) -> Any:
            return x * x * 3.0, lambda dy: dy * 7.0

        return x**3.0, lambda dy: dy * slope(x)

    x = tf.constant(2.0)
    (first,) = tf.gradients(cube(x), x)
    assert session.run([first, *tf.gradients(first, x)]) == [12.0, 7.0]


def test_in_loops_and_branches(session: Any) -> None:
    x = tf.constant(1.0)
    looped = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, trebled(a)), [0, x])[1]
    chosen = tf.cond(tf.placeholder_with_default(True, []), lambda: trebled(x), lambda: x)
    assert session.run([looped, tf.gradients(looped, x), chosen, tf.gradients(chosen, x)]) == [8.0, [27.0], 2.0, [3.0]]


def test_methods(session: Any) -> None:
    class Scaled:
        factor = 5.0

        @tf.custom_gradient
        def apply(self, x: Any) -> Any:
            return x * 2.0, lambda dy: dy * self.factor

    x = tf.constant(1.0)
    assert session.run(tf.gradients(Scaled().apply(x), x)) == [5.0]


@pytest.mark.parametrize("made_before", [True, False])
def test_variables(session: Any, made_before: bool) -> None:
    def weight() -> Any:
        return tf.get_variable("w", initializer=3.0)

    with tf.variable_scope("scope", use_resource=True, reuse=tf.AUTO_REUSE):
        if made_before:
            weight()

        @tf.custom_gradient
        def f(x: Any) -> Any:
            def gradient(dy: Any, variables: Any = None) -> Any:
                return dy * 10.0, [dy * 100.0 for _ in variables]

            return x * weight(), gradient

        x = tf.constant(2.0)
        y = f(x)
        grads = tf.gradients(y, [x, weight()])
    session.run(tf.global_variables_initializer())
    assert session.run([y, *grads]) == [6.0, 10.0, 100.0]


def test_variables_that_are_not_taken() -> None:
    @tf.custom_gradient
    def f(x: Any) -> Any:
        return x * tf.get_variable("w", initializer=3.0), lambda dy: dy

    with tf.variable_scope("a", use_resource=True), pytest.raises(TypeError, match="keyword argument 'variables'"):
        f(tf.constant(1.0))
    with tf.variable_scope("b", use_resource=False), pytest.raises(TypeError, match="must be `ResourceVariable`s"):
        f(tf.constant(1.0))


def test_passing_through(session: Any) -> None:
    x = tf.constant([1.5, 2.5])
    y = tf.grad_pass_through(tf.floor)(x)
    found = session.run([y, *tf.gradients(y * y, x)])
    assert [each.tolist() for each in found] == [[1.0, 2.0], [2.0, 4.0]]
