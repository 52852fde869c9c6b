"""tf.signal: signals cut into frames and put together again, windows, short-time spectra, mel scales."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import concat, expand_dims, reshape, shape, split, stack, transpose
from stepjit.ops.cast import cast
from stepjit.ops.creation import linspace, ones
from stepjit.ops.creation import range as number_range
from stepjit.ops.elementwise import ceil, cos, log, log1p, rsqrt, sin, square
from stepjit.ops.fourier import dct, irfft, rfft
from stepjit.ops.indexing import gather
from stepjit.ops.layout import pad, tile
from stepjit.ops.math import maximum, minimum, pow
from stepjit.ops.reductions import reduce_prod, reduce_sum
from stepjit.ops.segments import unsorted_segment_sum
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype

# --- Windows ---


def _window_length(window_length: Any, dtype: Any) -> tuple[Tensor, int | None]:
    """A window's length, and the number if it is known; ValueError for a dtype that isn't floating point."""
    if not as_dtype(dtype).is_floating:
        raise ValueError(f"dtype must be a floating point type. Found {dtype}")
    length = convert_to_tensor(window_length, name="window_length")
    length.shape.assert_has_rank(0)
    known = constant_value(length)
    return length, None if known is None else int(known)


def hann_window(
    window_length: Any, periodic: Any = True, dtype: Any = dtypes.float32, name: str | None = None
) -> Tensor:  # fmt: skip
    """A raised cosine that goes down to 0; periodic: as a part of a longer one, if its length is even."""
    return _raised_cosine(name, "hann_window", window_length, periodic, dtype, 0.5, 0.5)


def hamming_window(
    window_length: Any, periodic: Any = True, dtype: Any = dtypes.float32, name: str | None = None
) -> Tensor:  # fmt: skip
    """A raised cosine that goes down to 0.08; periodic: as a part of a longer one, if its length is even."""
    return _raised_cosine(name, "hamming_window", window_length, periodic, dtype, 0.54, 0.46)


def _raised_cosine(
    name: str | None, default: str, window_length: Any, periodic: Any, dtype: Any, middle: float, height: float
) -> Tensor:
    with name_scope(name, default, [window_length, periodic]):
        length, known = _window_length(window_length, dtype)
        kind = as_dtype(dtype)
        if known == 1:
            return ones([1], kind)
        cycle = cast(convert_to_tensor(periodic, dtypes.bool_, name="periodic"), length.dtype.base_dtype)
        period = cast(length + cycle * (1 - length % 2) - 1, kind)
        count = cast(number_range(length), kind)
        return cast(middle - height * cos(constant(2 * math.pi, kind) * count / period), kind)


def vorbis_window(window_length: Any, dtype: Any = dtypes.float32, name: str | None = None) -> Tensor:
    """Vorbis' window, whose squares add up to 1 with those half a window on."""
    with name_scope(name, "vorbis_window"):
        length, _ = _window_length(window_length, dtype)
        kind = as_dtype(dtype)
        place = (cast(number_range(length), kind) + 0.5) / cast(length, kind)
        return sin(constant(math.pi / 2, kind) * square(sin(constant(math.pi, kind) * place)))


# --- Frames ---


def frame(
    signal: Any, frame_length: Any, frame_step: Any, pad_end: bool = False, pad_value: Any = 0, axis: int = -1,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """An axis as frames [frames, frame_length], `frame_step` apart; pad_end: the last ones are filled up.

    ValueError for a signal of unknown rank.
    """
    with name_scope(name, "frame", [signal, frame_length, frame_step, pad_value]):
        x = convert_to_tensor(signal, name="signal")
        length = convert_to_tensor(frame_length, name="frame_length")
        step = convert_to_tensor(frame_step, name="frame_step")
        for each in (length, step):
            each.shape.assert_has_rank(0)
        if x.dims is None:
            raise ValueError("signal must have a known rank")
        known = x.dims
        rank = len(known)
        if not -rank <= axis < rank:
            raise ValueError(f"axis {axis} is out of range for a signal of rank {rank}")
        at = axis % rank
        size = shape(x)[at] if known[at] is None else constant(known[at], dtypes.int32)
        length, step = cast(length, dtypes.int32), cast(step, dtypes.int32)
        if pad_end:
            count = -(-size // step)
            more = maximum(0, length + step * (count - 1) - size)
            rows = [[0, 0]] * at + [stack([0, more])] + [[0, 0]] * (rank - at - 1)
            x = pad(x, stack([convert_to_tensor(row, dtypes.int32) for row in rows]), constant_values=pad_value)
        else:
            count = maximum(0, 1 + (size - length) // step)
        places = expand_dims(number_range(count) * step, 1) + expand_dims(number_range(length), 0)
        found = gather(x, places, axis=at)
        sizes = [None if value is None else int(value) for value in (constant_value(count), constant_value(length))]
        found.set_shape([*known[:at], *sizes, *known[at + 1 :]])
        return found


def _extent(x: Tensor, axis: int) -> Any:
    """An extent: an int where it is known, else a scalar."""
    known = None if x.dims is None else x.dims[axis]
    return shape(x)[axis] if known is None else known


def overlap_and_add(signal: Any, frame_step: Any, name: str | None = None) -> Tensor:
    """Frames [..., frames, frame_length], `frame_step` apart, added up: [..., samples].

    ValueError for a step that is no integer scalar.
    """
    with name_scope(name, "overlap_and_add", [signal, frame_step]):
        x = convert_to_tensor(signal, name="signal")
        x.shape.with_rank_at_least(2)
        step = convert_to_tensor(frame_step, name="frame_step")
        step.shape.assert_has_rank(0)
        if not step.dtype.is_integer:
            raise ValueError(f"frame_step must be an integer. Got {step.dtype.base_dtype}")
        step = cast(step, dtypes.int32)
        sizes = shape(x)
        count, length = (_extent(x, k) for k in (-2, -1))
        samples = length + step * (count - 1)
        places = expand_dims(number_range(count) * step, 1) + expand_dims(number_range(length), 0)
        rows = reshape(x, stack([reduce_prod(sizes[:-2]), count * length]))
        total = transpose(unsorted_segment_sum(transpose(rows), reshape(places, [-1]), samples))
        found = reshape(total, concat([sizes[:-2], [samples]], 0))
        if x.dims is not None:
            known = constant_value(samples)
            found.set_shape([*x.dims[:-2], None if known is None else int(known)])
        return found


# --- Short-time Fourier transforms ---


def _power_of_two(value: Any) -> Any:
    """The least power of two that is not less than a number."""
    known = constant_value(value)
    if known is not None:
        return constant(2 ** math.ceil(math.log(int(known)) / math.log(2.0)), value.dtype.base_dtype)
    wide = cast(value, dtypes.float64)
    return cast(pow(2.0, ceil(log(wide) / math.log(2.0))), value.dtype.base_dtype)


Window = Callable[..., Tensor]


def stft(
    signals: Any, frame_length: Any, frame_step: Any, fft_length: Any = None, window_fn: Window | None = hann_window,
    pad_end: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The spectra of windows: [..., frames, fft_length // 2 + 1] complex numbers of real signals [..., samples].

    fft_length: by default the least power of two that holds a frame. window_fn: (length, dtype=...), or None.
    """
    with name_scope(name, "stft", [signals, frame_length, frame_step]):
        x = convert_to_tensor(signals, name="signals")
        x.shape.with_rank_at_least(1)
        length = convert_to_tensor(frame_length, name="frame_length")
        step = convert_to_tensor(frame_step, name="frame_step")
        for each in (length, step):
            each.shape.assert_has_rank(0)
        size = _power_of_two(length) if fft_length is None else convert_to_tensor(fft_length, name="fft_length")
        framed = frame(x, length, step, pad_end=pad_end)
        if window_fn is not None:
            framed = framed * window_fn(length, dtype=framed.dtype.base_dtype)
        return rfft(framed, [_plain(size)])


def _plain(size: Tensor) -> Any:
    known = constant_value(size)
    return size if known is None else int(known)


def inverse_stft(
    stfts: Any, frame_length: Any, frame_step: Any, fft_length: Any = None, window_fn: Window | None = hann_window,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Signals [..., samples] of spectra [..., frames, fft_length // 2 + 1]: windows of them, added up.

    `inverse_stft_window_fn` makes the window that undoes `stft`.
    """
    with name_scope(name, "inverse_stft", [stfts]):
        x = convert_to_tensor(stfts, name="stfts")
        x.shape.with_rank_at_least(2)
        length = convert_to_tensor(frame_length, name="frame_length")
        step = convert_to_tensor(frame_step, name="frame_step")
        for each in (length, step):
            each.shape.assert_has_rank(0)
        size = _power_of_two(length) if fft_length is None else convert_to_tensor(fft_length, name="fft_length")
        real = irfft(x, [_plain(size)])
        have = shape(real)[-1]
        rank = len(real.dims or ())
        more = maximum(0, length - have)
        sides = [constant([0, 0])] * (rank - 1) + [stack([0, more])]
        real = pad(real, stack(sides))[..., :length]
        known = constant_value(length)
        if known is not None:
            real.set_shape([None] * (rank - 1) + [int(known)])
        if window_fn is not None:
            real = real * window_fn(length, dtype=real.dtype.base_dtype)
        return overlap_and_add(real, step)


def inverse_stft_window_fn(
    frame_step: Any, forward_window_fn: Window = hann_window, name: str | None = None
) -> Window:  # fmt: skip
    """The window for `inverse_stft` that undoes the windows of `stft` with that step."""

    def window(frame_length: Any, dtype: Any) -> Tensor:
        with name_scope(name, "inverse_stft_window_fn", [forward_window_fn]):
            step = convert_to_tensor(frame_step, name="frame_step")
            step.shape.assert_has_rank(0)
            length = convert_to_tensor(frame_length, name="frame_length")
            forward = forward_window_fn(length, dtype=dtype)
            overlaps = -(-length // step)
            squares = pad(square(forward), [stack([0, overlaps * step - length])])
            total = reduce_sum(reshape(squares, stack([overlaps, step])), 0, keepdims=True)
            share = reshape(tile(total, stack([overlaps, 1])), expand_dims(overlaps * step, 0))
            return forward / share[:length]

    return window


# --- Modified cosine transforms ---


def mdct(
    signals: Any, frame_length: Any, window_fn: Window | None = vorbis_window, pad_end: bool = False,
    norm: str | None = None, name: str | None = None,
) -> Tensor:  # fmt: skip
    """[..., frames, frame_length / 2]: cosine transforms of frames that overlap by half; `norm`: None or "ortho".

    ValueError for a length that is no known multiple of 4.
    """
    with name_scope(name, "mdct", [signals, frame_length]):
        length, half = _mdct_length(frame_length)
        framed = frame(signals, length, half, pad_end)
        kind = framed.dtype.base_dtype
        framed = framed * _mdct_window(window_fn, length, kind)
        a, b, c, d = split(framed, 4, axis=-1)
        folded = concat([-c[..., ::-1] - d, a - b[..., ::-1]], -1)
        return dct(folded, 4, norm=norm)


def inverse_mdct(
    mdcts: Any, window_fn: Window | None = vorbis_window, norm: str | None = None, name: str | None = None
) -> Tensor:
    """The signals that `mdct` was made of, but for the first and last half frame."""
    with name_scope(name, "inverse_mdct", [mdcts]):
        x = convert_to_tensor(mdcts)
        half = None if x.dims is None else x.dims[-1]
        if half is None or half % 2:
            raise ValueError("the last dimension of mdcts must be known, and even")
        folded = dct(x, 4, norm=norm)
        if norm is None:
            folded = folded * (0.5 / half)
        first, second = split(folded, 2, axis=-1)
        real = concat([second, -second[..., ::-1], -first[..., ::-1], -first], -1)
        real = real * _mdct_window(window_fn, 2 * half, real.dtype.base_dtype)
        return overlap_and_add(real, half)


def _mdct_length(frame_length: Any) -> tuple[int, int]:
    known = constant_value(convert_to_tensor(frame_length, name="frame_length"))
    if known is None or int(known) % 4:
        raise ValueError(f"The frame length must be a multiple of 4 that is known, not {frame_length}")
    return int(known), int(known) // 2


def _mdct_window(window_fn: Window | None, length: int, kind: Any) -> Any:
    return constant(math.sqrt(0.5), kind) if window_fn is None else window_fn(length, dtype=kind)


# --- Mel scale ---


def _mel(hertz: Any) -> Tensor:
    return 1127.0 * log1p(hertz / 700.0)


def linear_to_mel_weight_matrix(
    num_mel_bins: int = 20, num_spectrogram_bins: Any = 129, sample_rate: Any = 8000,
    lower_edge_hertz: float = 125.0, upper_edge_hertz: float = 3800.0, dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """[num_spectrogram_bins, num_mel_bins]: weights that turn spectra into energies of bands on the mel scale.

    ValueError for edges or a rate that can't be.
    """
    with name_scope(name, "linear_to_mel_weight_matrix"):
        _check_mel(num_mel_bins, lower_edge_hertz, upper_edge_hertz, sample_rate, dtype)
        kind = as_dtype(dtype)
        nyquist = cast(sample_rate, kind) / 2.0
        linear = linspace(constant(0.0, kind), nyquist, num_spectrogram_bins)[1:]
        bins = expand_dims(_mel(linear), 1)
        low, high = (_mel(constant(edge, kind)) for edge in (lower_edge_hertz, upper_edge_hertz))
        edges = frame(linspace(low, high, num_mel_bins + 2), 3, 1)
        lower, centre, upper = (reshape(each, [1, num_mel_bins]) for each in split(edges, 3, axis=1))
        rising, falling = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
        # The lowest bin, a constant, is in no band.
        return pad(maximum(constant(0.0, kind), minimum(rising, falling)), [[1, 0], [0, 0]])


def _check_mel(bins: int, low: float, high: float, rate: Any, dtype: Any) -> None:
    if bins <= 0:
        raise ValueError(f"num_mel_bins must be positive. Got: {bins}")
    if low < 0.0:
        raise ValueError(f"lower_edge_hertz must be non-negative. Got: {low}")
    if low >= high:
        raise ValueError(f"lower_edge_hertz {low:.1f} >= upper_edge_hertz {high:.1f}")
    known = constant_value(rate) if isinstance(rate, Tensor) else rate
    if known is not None:
        if known <= 0.0:
            raise ValueError(f"sample_rate must be positive. Got: {known}")
        if high > known / 2:
            raise ValueError("upper_edge_hertz must not be larger than the Nyquist frequency (sample_rate / 2). "
                             f"Got {high} for sample_rate: {known}")  # fmt: skip
    if not as_dtype(dtype).is_floating:
        raise ValueError(f"dtype must be a floating point type. Got: {dtype}")


def mfccs_from_log_mel_spectrograms(log_mel_spectrograms: Any, name: str | None = None) -> Tensor:
    """The cepstral coefficients [..., bands] of log energies of bands; ValueError for no bands."""
    with name_scope(name, "mfccs_from_log_mel_spectrograms", [log_mel_spectrograms]):
        x = convert_to_tensor(log_mel_spectrograms)
        bands = None if x.dims is None else x.dims[-1]
        if bands == 0:
            raise ValueError(f"num_mel_bins must be positive. Got: {x}")
        count = shape(x)[-1] if bands is None else constant(bands, dtypes.int32)
        return dct(x, type=2) * rsqrt(cast(count, x.dtype.base_dtype) * 2.0)
