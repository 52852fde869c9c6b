"""Cases of elementwise ops: functions of one, two and three inputs, their gradient ops, complex numbers."""

from __future__ import annotations

import numpy as np
from differences import Case, by, of
from samples import COLUMN, NONE, POS, ROW, UNIT, C, D, X, Y, normal, single

import stepjit.compat.v1 as tf

_UNARY = {
    "Abs": X, "Acos": UNIT, "Acosh": POS + 1.2, "Asin": UNIT, "Asinh": X, "Atan": X, "Atanh": UNIT,
    "BesselI0e": X, "BesselI1e": X, "Cos": X, "Cosh": X,
    "Digamma": POS, "Erf": X, "Erfc": X, "Erfinv": UNIT, "Exp": X, "Expm1": X, "Inv": POS, "Lgamma": POS, "Log": POS,
    "Log1p": POS, "Ndtri": (UNIT + 1) / 2, "Neg": X, "Reciprocal": POS, "Rsqrt": POS, "Sigmoid": X, "Sign": X,
    "Sin": X, "Sinh": X, "Sqrt": POS, "Square": X, "Tan": UNIT, "Tanh": X,
}  # fmt: skip
_ACTIVATIONS = {"Elu": X, "LeakyRelu": X, "Relu": X, "Relu6": X * 8, "Selu": X, "Softplus": X}
_STEPS = ("Ceil", "Floor", "Rint", "Round")
_BINARY = {
    "Add": (X, Y), "AddV2": (X, Y), "Atan2": (X, POS), "Div": (X, POS), "DivNoNan": (X, POS), "Maximum": (X, Y),
    "Minimum": (X, Y), "Mul": (X, Y), "MulNoNan": (X, Y), "RealDiv": (X, POS), "Pow": (POS, Y),
    "SquaredDifference": (X, Y), "Sub": (X, Y), "Xdivy": (X, POS), "Xlog1py": (X, POS), "Xlogy": (X, POS),
}  # fmt: skip
# y'(x) dy of functions that are told by their value y.
_FROM_VALUE = ("InvGrad", "ReciprocalGrad", "RsqrtGrad", "SigmoidGrad", "SqrtGrad", "TanhGrad")
_FROM_FEATURES = ("LeakyReluGrad", "Relu6Grad", "ReluGrad", "SoftplusGrad")
_FROM_OUTPUTS = ("EluGrad", "SeluGrad")

CASES: list[Case] = [
    *[of(kind, "x", x) for kind, x in _UNARY.items()],
    *[of(kind, "x", x[0], note="of unknown extents", unknown=True) for kind, x in _UNARY.items() if kind < "B"],
    *[of(kind, "x", NONE, note="of nothing") for kind in ("Exp", "Tanh", "Square", "Reciprocal", "Lgamma")],
    *[of(kind, "features", x) for kind, x in _ACTIVATIONS.items()],
    *[of(kind, "x", X, none=(0,)) for kind in _STEPS],
    *[of(kind, "x y", x, y) for kind, (x, y) in _BINARY.items()],
    *[of(kind, "x y", x, y[:1, :], note="with a row") for kind, (x, y) in _BINARY.items()],
    *[of(kind, "x y", x[:, :1], y[0], note="of a column and a vector") for kind, (x, y) in _BINARY.items()],
    *[of(kind, "x y", x[0, 0], y, note="of a scalar, of unknown extents", unknown=True)
      for kind, (x, y) in _BINARY.items() if kind in ("AddV2", "Pow", "Maximum")],
    *[of(kind, "x y", x[:, :1], y, note="stretched in unknown extents", unknown=True)
      for kind, (x, y) in _BINARY.items() if kind in ("Mul", "RealDiv", "SquaredDifference", "Xlogy")],
    *[of(kind, "x y", NONE, ROW, note="of nothing") for kind in ("AddV2", "Mul", "Maximum", "RealDiv")],
    *[of(kind, "y dy", UNIT + 1.2, X) for kind in _FROM_VALUE],
    *[of(kind, "gradients features", X, 6 * UNIT) for kind in _FROM_FEATURES],
    *[of(kind, "gradients outputs", X, Y) for kind in _FROM_OUTPUTS],
    of("Softsign", "features", X, second=False),
    of("LeakyRelu", "features", X, alpha=0.4, note="steeper"),
    of("FloorDiv", "x y", POS * 3, POS.T[:5, :3].reshape(3, 5) + 0.1, none=(0, 1)),
    of("TruncateDiv", "x y", POS * 3, POS + 0.1, none=(0, 1)),
    of("FloorMod", "x y", X * 9 + 0.01, POS),
    of("FloorMod", "x y", X * 9 + 0.01, POS[0], note="with a row"),
    of("NextAfter", "x1 x2", X, Y),
    of("NextAfter", "x1 x2", X, COLUMN, note="stretched"),
    of("Igamma", "a x", POS, POS.T.reshape(3, 5) + 0.3, second=False),
    of("Igamma", "a x", POS * 9, POS[0] * 9, note="of larger numbers", second=False),
    of("Igammac", "a x", POS, POS[0] + 1, second=False),
    of("Betainc", "a b x", POS, POS, (UNIT + 1) / 2, none=(0, 1)),
    of("Polygamma", "a x", np.full((3, 5), 2.0), POS, none=(0,)),
    of("Zeta", "x q", POS + 1.5, POS, none=(0,)),
    by("Pow", lambda x: tf.raw_ops.Pow(x=2.5, y=x) + tf.raw_ops.Pow(x=x, y=3.0), X, note="of constants"),
    by("AddN", lambda x, y: tf.raw_ops.AddN(inputs=[x, y, x * y]), X, Y),
    of("ClipByValue", "t", X, clip_value_min=-0.3, clip_value_max=0.4),
    of("ClipByValue", "t clip_value_min clip_value_max", X, Y[::-1] - 0.4, Y[::-1] + 0.3, note="by all"),
    by("Select", lambda x, y: tf.where(X > Y, x, y), X, Y),
    by("Select", lambda x, y: tf.where([True, False, True], x, y), X, Y, note="of rows"),
    of("SelectV2", "t e", X, Y, condition=X > Y),
    of("SelectV2", "t e", X[0], Y[:, :1], condition=X > Y, note="stretched"),
    of("SelectV2", "t e", X[0], Y[:, :1], condition=True, note="stretched in unknown extents", unknown=True),
    of("Identity", "input", X),
    of("Snapshot", "input", X),
    by("IdentityN", lambda x, y: tf.raw_ops.IdentityN(input=[x, y, tf.constant([1, 2])]), X, Y),
    of("CheckNumerics", "tensor", X, message="not a number"),
    by("Print", lambda x: tf.raw_ops.Print(input=x, data=[x], first_n=0), X),
    by("PlaceholderWithDefault", lambda x: tf.raw_ops.PlaceholderWithDefault(input=x, shape=[3, 5]), X),
    of("EnsureShape", "input", X, shape=[None, 5]),
    by("Cast", lambda x: tf.raw_ops.Cast(x=x, DstT=tf.complex128), X, note="to complex"),
    by("Cast", lambda x: tf.raw_ops.Cast(x=x, DstT=tf.float32) * 2.0, single(X), note="of single precision"),
    by("Cast", lambda z: tf.raw_ops.Cast(x=z, DstT=tf.float64), C, note="from complex"),
    *[of(kind, "x", C, note="of complex") for kind in
      ("Cos", "Cosh", "Exp", "Neg", "Sin", "Sinh", "Square", "Sigmoid", "Tanh", "Reciprocal", "Sqrt", "Log", "Rsqrt")],
    *[of(kind, "x y", C, D, note="of complex") for kind in ("AddV2", "Mul", "RealDiv", "Sub", "Pow", "DivNoNan")],
    *[of(kind, "x y", C, D[:1], note="of complex, with a row") for kind in ("AddV2", "Mul", "RealDiv")],
    by("Angle", lambda z: tf.raw_ops.Angle(input=z, Tout=tf.float64), C),
    by("ComplexAbs", lambda z: tf.raw_ops.ComplexAbs(x=z, Tout=tf.float64), C),
    by("Real", lambda z: tf.raw_ops.Real(input=z * z, Tout=tf.float64), C),
    by("Imag", lambda z: tf.raw_ops.Imag(input=z * z, Tout=tf.float64), C),
    of("Conj", "input", C),
    by("Complex", lambda x, y: tf.square(tf.raw_ops.Complex(real=x, imag=y, Tout=tf.complex128)), X, Y[:1]),
    of("Cross", "a b", normal(4, 3), normal(4, 3)),
]  # fmt: skip
