"""tf.image: figures, files, gradients, mistakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

RNG = np.random.default_rng(4)
X = RNG.random((2, 5, 6, 3)).astype(np.float32)
U = RNG.integers(0, 256, (4, 6, 3)).astype(np.uint8)


def run(build: Callable[..., Any], *arrays: Any) -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        feeds = [tf.placeholder(np.asarray(array).dtype, np.shape(array)) for array in arrays]
        return session.run(build(*feeds), dict(zip(feeds, arrays)))


def line(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 1, -1, 1)


def test_resizing_figures() -> None:
    row = line(0, 10, 20, 30)
    plain = run(lambda x: tf.image.resize_bilinear(x, [1, 8]), row).ravel()
    np.testing.assert_allclose(plain, [0, 5, 10, 15, 20, 25, 30, 30])
    corners = run(lambda x: tf.image.resize_bilinear(x, [1, 7], align_corners=True), row).ravel()
    np.testing.assert_allclose(corners, [0, 5, 10, 15, 20, 25, 30])
    centres = run(lambda x: tf.image.resize_bilinear(x, [1, 2], half_pixel_centers=True), row).ravel()
    np.testing.assert_allclose(centres, [5, 25])
    nearest = run(lambda x: tf.image.resize_nearest_neighbor(x, [2, 6]), row)
    np.testing.assert_array_equal(nearest[0, :, :, 0], [[0, 0, 10, 20, 20, 30]] * 2)


@pytest.mark.parametrize("size", [(10, 3), (1, 1), (5, 6)])
def test_gradients_of_resizing_are_its_adjoints(size: tuple[int, int]) -> None:
    """Resizing is linear."""
    for resize in (tf.image.resize_bilinear, tf.image.resize_nearest_neighbor):
        weights = RNG.random((2, *size, 3)).astype(np.float32)

        def build(x: Any, w: Any, resize: Any = resize) -> Any:
            y = resize(x, size)
            return [y, tf.gradients(y, x, w)[0]]

        y, back = run(build, X, weights)
        np.testing.assert_allclose((back * X).sum(), (weights * y).sum(), rtol=1e-4)


def test_crops_and_boxes() -> None:
    whole = run(lambda x: tf.image.crop_and_resize(x, [[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]], [1, 0], [5, 6]), X)
    np.testing.assert_allclose(whole, [X[1], X[0, ::-1, ::-1]], atol=1e-6)
    outside = run(lambda x: tf.image.crop_and_resize(x, [[-1.0, 0.0, 0.0, 1.0]], [0], [3, 6], extrapolation_value=7), X)
    np.testing.assert_allclose(outside[0], [np.full((6, 3), 7), np.full((6, 3), 7), X[0, 0]], atol=1e-6)
    boxes = np.float32([[0, 0, 1, 1], [0, 0, 1, 0.9], [1, 1, 0, 0], [2, 2, 3, 3]])
    scores = np.float32([0.8, 0.9, 0.7, 0.1])
    assert run(lambda b, s: tf.image.non_max_suppression(b, s, 4), boxes, scores).tolist() == [1, 3]
    assert run(lambda b, s: tf.image.non_max_suppression(b, s, 1), boxes, scores).tolist() == [1]
    assert run(lambda b, s: tf.image.non_max_suppression(b, s, 4, 0.5, 0.5), boxes, scores).tolist() == [1]


@pytest.mark.parametrize("quarters", range(-1, 5))
def test_turning(quarters: int) -> None:
    np.testing.assert_array_equal(run(lambda x: tf.image.rot90(x, quarters), U), np.rot90(U, quarters))
    turned = run(lambda x: tf.image.rot90(x, quarters), X)
    np.testing.assert_array_equal(turned, np.rot90(X, quarters, (1, 2)))


def test_cutting() -> None:
    np.testing.assert_array_equal(run(lambda x: tf.image.central_crop(x, 0.5), U), U[1:3, 1:5])
    middle = run(lambda x: tf.image.resize_image_with_crop_or_pad(x, 2, 9), U)
    np.testing.assert_array_equal(middle, np.pad(U[1:3], ((0, 0), (1, 2), (0, 0))))
    np.testing.assert_array_equal(run(lambda x: tf.image.crop_to_bounding_box(x, 1, 2, 3, 2), X), X[:, 1:4, 2:4])


def test_colours() -> None:
    back = run(lambda x: tf.image.hsv_to_rgb(tf.image.rgb_to_hsv(x)), X)
    np.testing.assert_allclose(back, X, atol=1e-5)
    hsv = run(tf.image.rgb_to_hsv, np.float32([[1, 0, 0], [0, 0.5, 0], [0, 0, 1], [0.2, 0.2, 0.2]]))
    np.testing.assert_allclose(hsv, [[0, 1, 1], [1 / 3, 1, 0.5], [2 / 3, 1, 1], [0, 0, 0.2]], atol=1e-6)
    floats = run(lambda x: tf.image.convert_image_dtype(x, tf.float32), U)
    np.testing.assert_allclose(floats, U / 255, rtol=1e-6)
    assert run(lambda x: tf.image.convert_image_dtype(x, tf.uint8), floats).tolist() == U.tolist()
    assert run(lambda x: tf.image.convert_image_dtype(x, tf.uint8, saturate=True), [1.5, -1.0]).tolist() == [255, 0]
    brighter = run(lambda x: tf.image.adjust_brightness(x, 0.1), X)
    np.testing.assert_allclose(brighter, X + 0.1, rtol=1e-5)
    standard = run(tf.image.per_image_standardization, X)
    np.testing.assert_allclose([standard.mean((1, 2, 3)), standard.std((1, 2, 3))], [[0, 0], [1, 1]], atol=1e-4)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_round_trip(samples: int, dtype: Any) -> None:
    image = RNG.integers(0, np.iinfo(dtype).max, (5, 7, samples)).astype(dtype)
    kind = tf.as_dtype(dtype)
    np.testing.assert_array_equal(run(lambda x: tf.image.decode_png(tf.image.encode_png(x), dtype=kind), image), image)
    assert run(lambda x: tf.image.decode_image(tf.image.encode_png(x), channels=3), image).shape == (5, 7, 3)


def _filtered(image: np.ndarray, kind: int) -> bytes:
    """A PNG of a grey image with every line filtered the same way."""
    import struct
    import zlib

    height, width = image.shape
    wide = np.pad(image.astype(int), ((1, 0), (1, 0)))
    left, above, corner = wide[1:, :-1], wide[:-1, 1:], wide[:-1, :-1]
    guess = left + above - corner
    order = np.abs(np.stack([guess - left, guess - above, guess - corner])).argmin(0)
    paeth = np.choose(order, [left, above, corner])
    base = [0, left, above, (left + above) // 2, paeth][kind]
    lines = ((image - base) % 256).astype(np.uint8)
    raw = np.concatenate([np.full((height, 1), kind, np.uint8), lines], 1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", range(5))
def test_png_filters(kind: int) -> None:
    image = RNG.integers(0, 256, (6, 9))
    found = run(lambda: tf.image.decode_png(tf.constant(_filtered(image, kind))))
    np.testing.assert_array_equal(found[..., 0], image)


def test_greedy_paths() -> None:
    logits = np.eye(3, dtype=np.float32)[[[0, 1], [0, 2], [2, 1], [0, 1], [1, 0]]] * 5
    decoded, score = run(lambda x: (lambda d: [d[0][0], d[1]])(tf.nn.ctc_greedy_decoder(x, [5, 3])), logits)
    assert decoded.indices.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    assert (decoded.values.tolist(), decoded.dense_shape.tolist()) == ([0, 0, 1, 1, 1], [2, 3])
    assert score.tolist() == [[-25.0], [-15.0]]
    repeated = run(lambda x: tf.nn.ctc_greedy_decoder(x, [5, 3], merge_repeated=False)[0][0].values, logits)
    assert repeated.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: tf.image.decode_png(tf.constant(b"not a png")), tf.errors.InvalidArgumentError, "Invalid PNG data"),
        (lambda: tf.image.resize_bilinear(X, [0, 1]), tf.errors.InvalidArgumentError, "must be positive"),
        (lambda: tf.image.resize_bilinear(X[0], [3, 1]), ValueError, "must be rank 4"),
        (lambda: tf.image.crop_and_resize(X, [[0.0] * 4], [2], [1, 1]), tf.errors.OutOfRangeError, "outside"),
        (lambda: tf.image.central_crop(U, 0.0), ValueError, "within"),
        (lambda: tf.image.crop_to_bounding_box(U, 0, 5, 2, 2), ValueError, "width must be >= target"),
        (lambda: tf.image.flip_left_right(U[0]), ValueError, "must be at least three-dimensional"),
        (lambda: tf.image.non_max_suppression(X[0, :2, :4, 0], [1.0, 2.0], 2, 1.5), tf.errors.InvalidArgumentError, "iou_threshold"),
    ],
)  # fmt: skip
def test_mistakes(build: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        run(build)


# Figures of the legacy cubic, of areas, and of what is random, as TensorFlow gives them.
def test_cubic_and_area_figures() -> None:
    row = line(0, 10, 20, 30)
    cubic = run(lambda x: tf.image.resize_bicubic(x, [1, 8]), row).ravel()
    np.testing.assert_allclose(cubic, [0, 4.0625, 10, 15, 20, 25.9375, 30, 30.9375], atol=1e-5)
    area = run(lambda x: tf.image.resize_area(x, [1, 3]), row).ravel()
    np.testing.assert_allclose(area, [2.5, 15, 27.5], atol=1e-5)


@pytest.mark.parametrize("centred", [False, True])
def test_the_gradient_of_the_cubic_is_its_adjoint(centred: bool) -> None:
    weights = RNG.random((2, 9, 3, 3)).astype(np.float32)

    def build(x: Any, w: Any) -> Any:
        y = tf.image.resize_bicubic(x, [9, 3], half_pixel_centers=centred)
        return [y, tf.gradients(y, x, w)[0]]

    y, back = run(build, X, weights)
    np.testing.assert_allclose((back * X).sum(), (weights * y).sum(), rtol=1e-4)


def test_sizes_may_be_known_only_in_the_run() -> None:
    image, size = tf.placeholder(tf.uint8, [None, None, 3]), tf.placeholder(tf.int32, [])
    both = [
        tf.image.resize_image_with_crop_or_pad(image, size, 4), tf.image.central_crop(image, 0.5),
        tf.image.resize_images(image, [2, 2], preserve_aspect_ratio=True),
    ]  # fmt: skip
    assert [each.shape.as_list() for each in both] == [[None, 4, 3], [None, None, 3], [None, None, 3]]
    with tf.Session() as session:
        found = session.run(both, {image: U, size: 6})
        assert [each.shape for each in found] == [(6, 4, 3), (2, 4, 3), (1, 2, 3)]
        with pytest.raises(tf.errors.InvalidArgumentError, match="height must be >= target"):
            session.run(tf.image.crop_to_bounding_box(image, size, 0, 1, 1), {image: U, size: 4})


def test_random_parts_are_tensorflows() -> None:
    box = np.float32([[[0.1, 0.2, 0.5, 0.6], [0.3, 0.3, 0.9, 0.9]]])
    with tf.Graph().as_default(), tf.Session() as session:
        part = tf.image.sample_distorted_bounding_box([60, 50, 3], box, seed=1, seed2=2)
        runs = [session.run(part) for _ in range(3)]
    assert [begin.tolist() + size.tolist() for begin, size, _ in runs] == [
        [7, 1, 0, 47, 46, -1], [21, 10, 0, 24, 24, -1], [34, 4, 0, 18, 19, -1],
    ]  # fmt: skip
    np.testing.assert_allclose(runs[0][2].ravel()[:2], runs[0][0][:2] / [60, 50], atol=1e-6)


def test_similarity() -> None:
    a = RNG.random((2, 20, 18, 3)).astype(np.float32)
    np.testing.assert_allclose(run(lambda x: tf.image.ssim(x, x, 1.0), a), [1, 1], atol=1e-6)
    lower = run(lambda x: tf.image.ssim(x, x * 0.5, 1.0), a)
    assert (lower < 0.9).all()
    np.testing.assert_allclose(run(lambda x: tf.image.psnr(x, x + 0.1, 1.0), a), [20, 20], atol=1e-4)
    with pytest.raises(ValueError, match="smaller than filter_size"):
        run(lambda x: tf.image.ssim(x[:, :5], x[:, :5], 1.0), a)


def test_boxes_that_overlap_lose_score() -> None:
    boxes = np.float32([[0, 0, 1, 1], [0, 0, 1, 0.9], [2, 2, 3, 3]])
    chosen, scores = run(
        lambda b, s: tf.image.non_max_suppression_with_scores(b, s, 3, 1.0, 0.1, soft_nms_sigma=0.5), boxes,
        np.float32([0.8, 0.9, 0.7]),
    )  # fmt: skip
    assert chosen.tolist() == [1, 2, 0]
    np.testing.assert_allclose(scores, [0.9, 0.7, 0.8 * np.exp(-(0.9**2))], rtol=1e-5)


def test_suppression_of_overlaps_that_are_not_symmetric_looks_from_the_later_box():
    overlaps = np.array([[1, 0.9, 0], [0, 1, 0.9], [0.9, 0, 1]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        kept = session.run(tf.image.non_max_suppression_overlaps(overlaps, scores, 3, 0.5))
    assert kept.tolist() == [0, 1]
