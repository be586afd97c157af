"""Upsample → leaky ReLU → clamp → downsample, with FIR filters (Karras et al. 2021, Sec. 3.2, App. C).

Inserting zeros and convolving would mostly multiply by zero. Both ways here do only the products that count, on maps
whose channels lie innermost in memory:

- banded matrices: along one axis, each block of the output is the same small matrix times a window of the input. Needs
  no compiler, and gradients pass through it.
- polyphase sums: output k·up + p is a short sum over shifted slices of the input; `torch.compile` makes one loop of it.

On a CPU a few channels of a sample are done at a time, so that what is between the filters stays near the processor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 6
"""Pixels of the coarser map that one banded matrix covers."""
_CHANNELS = {False: 32, True: 64}
"""Channels at a time on a CPU, without and with the compiler."""
_PIECE = 1 << 20
"""Upsampled values at a time on a CPU: 4 MB."""
_NEGLIGIBLE = 1e-9
"""Terms of a radial filter below this fraction of the largest are left out: float32 does not see them."""
Run = Callable[[Tensor, Tensor, Tensor, int, int], Tensor]
"""From x `[n, h, h, c]`, scale `[n, 1, 1, c]`, bias `[c]` to `count` rows of the result from `first` on."""
MODES = ("auto", "on", "off")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resampling:
    """How a layer resamples around its nonlinearity.

    Args:
        up: factor before the leaky ReLU.
        down: factor after it.
        padding: pixels before and after the upsampled map; negative ones are cut off.
        slope: of the leaky ReLU for negative values.
        gain: what its output is multiplied by.
        clamp: largest absolute value that is passed on; None for any.
    """

    up: int
    down: int
    padding: tuple[int, int]
    slope: float
    gain: float
    clamp: float | None


def resample(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    up_filter: Tensor,
    down_filter: Tensor,
    how: Resampling,
    compiled: bool,
    after: Tensor | None = None,
) -> Tensor:
    """after · down(clamp(gain · lrelu(up(scale · x + bias)))), where `up` multiplies by up² to keep the mean.

    Args:
        x: maps `[n, channels, h, h]`; any float type; best with channels innermost in memory.
        scale: per sample and channel, `[n, channels]`.
        bias: per channel, `[channels]`.
        up_filter: `[taps]`, applied in both directions.
        down_filter: `[taps]`, applied in both directions, or `[taps, taps]`.
        how: factors, padding and nonlinearity.
        compiled: polyphase sums; banded matrices all the same where a gradient is asked for, nothing is upsampled, or
            the filter is not separable.
        after: per sample and channel, `[n, channels]`; None: 1.

    Returns:
        Maps `[n, channels, h', h']` (float32), channels innermost in memory.
    """
    after = torch.ones_like(scale) if after is None else after
    gradient = torch.is_grad_enabled() and any(value.requires_grad for value in (x, scale, bias, after))
    compiled = compiled and how.up > 1 and down_filter.dim() == 1 and not gradient
    axis = _Axis(x.shape[-1], len(up_filter), len(down_filter), how)
    run = (_polyphase if compiled else _banded)(axis, up_filter, down_filter)
    x, scale, after = x.permute(0, 2, 3, 1), scale[:, None, None, :], after[:, None, None, :]
    if gradient or x.device.type != "cpu":
        y = run(x, scale, bias, 0, axis.size) * after
    else:
        y = x.new_empty((len(x), axis.size, axis.size, x.shape[-1]), dtype=torch.float32)
        _piecewise(y, run, x, scale, bias, after, axis, _CHANNELS[compiled])
    return y.permute(0, 3, 1, 2)


def _piecewise(
    y: Tensor, run: Run, x: Tensor, scale: Tensor, bias: Tensor, after: Tensor, axis: _Axis, width: int
) -> None:
    """Fill y, some rows and channels of a sample at a time."""
    height = axis.rows(_PIECE // width)
    for i, c, first in product(range(len(x)), range(0, x.shape[-1], width), range(0, axis.size, height)):
        one, part, count = slice(i, i + 1), slice(c, c + width), min(height, axis.size - first)
        piece = run(x[one, ..., part], scale[one, ..., part], bias[part], first, count)
        y[one, first : first + count, :, part] = piece * after[one, ..., part]


@dataclass(frozen=True)
class _Axis:
    """The sizes along one axis; both axes are alike.

    Upsampled pixel m is Σ_i f[m − i·up + taps − 1 − before] x_i for the filter f: a product of x with one of the
    filter's `up` phases, each of `width` taps.
    """

    length: int
    up_taps: int
    down_taps: int
    how: Resampling

    @property
    def width(self) -> int:
        """Taps of a phase."""
        return -(-self.up_taps // self.how.up)

    @property
    def shift(self) -> int:
        """Tap that x_0 has in upsampled pixel 0."""
        return self.up_taps - 1 - self.how.padding[0]

    @property
    def phase(self) -> int:
        """Phase of upsampled pixel 0."""
        return self.shift % self.how.up

    @property
    def size(self) -> int:
        """Pixels of the result."""
        fine = self.length * self.how.up + sum(self.how.padding) - self.up_taps + 1
        return (fine - self.down_taps) // self.how.down + 1

    def fine(self, count: int) -> int:
        """Upsampled pixels that so many of the result are made of."""
        return (count - 1) * self.how.down + self.down_taps

    def rows(self, pixels: int) -> int:
        """How many rows of the result are made of about so many upsampled pixels; a piece may begin after them."""
        unit = _BLOCK * self.how.up
        return max(unit, pixels // self.fine(self.size) // self.how.down // unit * unit)

    def window(self, first: int, fine: int) -> tuple[int, int]:
        """First and last + 1 pixel of x, or beyond its ends, that upsampled pixels read.

        Args:
            first: pixel of the result with which they begin, a multiple of `up`.
            fine: number of upsampled pixels.
        """
        start = first * self.how.down // self.how.up + self.shift // self.how.up - self.width + 1
        return start, start - (-fine // self.how.up) + self.width - 1 + (self.phase > 0)

    def phases(self, up_filter: Tensor) -> Tensor:
        """The filter as `[width, up]`, times what keeps the mean and half of the gain."""
        factor = self.how.up * self.how.gain**0.5
        return factor * F.pad(up_filter, (0, self.width * self.how.up - self.up_taps)).view(self.width, self.how.up)


def _banded(axis: _Axis, up_filter: Tensor, down_filter: Tensor) -> Run:
    how = axis.how
    up, step = _up_matrix(axis, up_filter), _BLOCK * how.down
    terms = [(_down_matrix(v, how.down), _down_matrix(h, how.down)) for v, h in _separate(down_filter)]

    def fine(count: int) -> int:
        blocks = -(-count // _BLOCK)
        return -(-axis.fine(blocks * _BLOCK) // len(up)) * len(up)

    def run(x: Tensor, scale: Tensor, bias: Tensor, first: int, count: int) -> Tensor:
        x = _padded(x, scale, bias, axis.window(first, fine(count)), axis.window(0, fine(axis.size)))
        y = _along_height(up, _along_width(up, x, _BLOCK), _BLOCK)
        in_place = not y.requires_grad  # a gradient needs what is overwritten
        y = F.leaky_relu(y, how.slope, inplace=in_place)
        if how.clamp is not None:
            y = torch.clamp(y, -how.clamp, how.clamp, out=y if in_place else None)
        y = reduce(torch.add, (_along_width(h, _along_height(v, y, step), step) for v, h in terms))
        return y[:, :count, : axis.size]

    return run


def _padded(x: Tensor, scale: Tensor, bias: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """scale · x + bias in a window of x `[n, h, h, c]`, and zeros where it is beyond the ends."""
    length = x.shape[1]
    x = x[:, max(rows[0], 0) : rows[1]].float() * scale + bias
    ends = (-columns[0], columns[1] - length, max(-rows[0], 0), max(rows[1] - length, 0))
    return F.pad(x, (0, 0, *ends))


def _up_matrix(axis: _Axis, up_filter: Tensor) -> Tensor:
    """From a window of the padded x to the pixels that `_BLOCK` of its pixels become, `[_BLOCK · up, window]`."""
    up, width, phases = axis.how.up, axis.width, axis.phases(up_filter).flip(0)
    matrix = phases.new_zeros(_BLOCK * up, _BLOCK + width - 1 + (axis.phase > 0))
    for m in range(len(matrix)):
        first, phase = divmod(m + axis.phase, up)
        matrix[m, first : first + width] = phases[:, phase]
    return matrix


def _down_matrix(down_filter: Tensor, down: int) -> Tensor:
    """From a window of the upsampled map to `_BLOCK` pixels of the result, `[_BLOCK, window]`."""
    matrix = down_filter.new_zeros(_BLOCK, (_BLOCK - 1) * down + len(down_filter))
    for m in range(_BLOCK):
        matrix[m, m * down : m * down + len(down_filter)] = down_filter.flip(0)
    return matrix


def _separate(down_filter: Tensor) -> list[tuple[Tensor, Tensor]]:
    """A filter as a sum of separable ones, each `(vertical [taps], horizontal [taps])`."""
    if down_filter.dim() == 1:
        return [(down_filter, down_filter)]
    if down_filter.is_meta:  # has a size alone, as what it is multiplied by
        return [(row, row) for row in down_filter[:2]]
    u, s, v = torch.linalg.svd(down_filter.double())
    count = int((s > _NEGLIGIBLE * s[0]).sum())
    return [((u[:, k] * s[k]).float(), v[k].float()) for k in range(count)]


def _along_height(matrix: Tensor, x: Tensor, step: int) -> Tensor:
    """The matrix times every window, `step` apart, of x `[n, h, w, c]` along its height."""
    n, _, w, c = x.shape
    windows = x.reshape(n, -1, w * c).unfold(1, matrix.shape[1], step).transpose(2, 3)
    return (matrix @ windows).view(n, -1, w, c)


def _along_width(matrix: Tensor, x: Tensor, step: int) -> Tensor:
    """The matrix times every window, `step` apart, of x `[n, h, w, c]` along its width."""
    n, h, _, c = x.shape
    windows = x.unfold(2, matrix.shape[1], step).transpose(3, 4)
    return (matrix @ windows).view(n, h, -1, c)


def _polyphase(axis: _Axis, up_filter: Tensor, down_filter: Tensor) -> Run:
    how, phases = axis.how, axis.phases(up_filter)
    sums = _sums(how.up, axis.phase, how.down, how.slope, how.clamp)

    def run(x: Tensor, scale: Tensor, bias: Tensor, first: int, count: int) -> Tensor:
        rows, columns = axis.window(first, axis.fine(count)), axis.window(0, axis.fine(axis.size))
        return sums(_padded(x, scale, bias, rows, columns), phases, down_filter, count, axis.size)

    return run


@lru_cache
def _sums(up: int, phase: int, down: int, slope: float, clamp: float | None) -> Callable[..., Tensor]:
    """The compiled polyphase sums; one program per kind of layer, for maps of any size."""

    def sums(x: Tensor, phases: Tensor, down_filter: Tensor, rows: int, columns: int) -> Tensor:
        y = _upsampled(_upsampled(x, phases, phase, 2), phases, phase, 1)
        y = F.leaky_relu(y, slope)
        y = y if clamp is None else y.clamp(-clamp, clamp)
        return _downsampled(_downsampled(y, down_filter, down, 1, rows), down_filter, down, 2, columns)

    sums.__code__ = sums.__code__.replace()  # a copy: PyTorch counts programs per code object, and allows 8
    return torch.compile(sums, dynamic=True, fullgraph=True)


def _upsampled(x: Tensor, phases: Tensor, phase: int, axis: int) -> Tensor:
    """x, padded, upsampled along an axis."""
    width, up = phases.shape
    length = x.shape[axis] - width + 1 - (phase > 0)
    parts = []
    for p in range(up):
        last, which = (p + phase) // up + width - 1, (p + phase) % up
        part = x.narrow(axis, last, length) * phases[0, which]
        for t in range(1, width):
            part = part + x.narrow(axis, last - t, length) * phases[t, which]
        parts.append(part)
    return torch.stack(parts, axis + 1).flatten(axis, axis + 1)


def _downsampled(y: Tensor, down_filter: Tensor, down: int, axis: int, count: int) -> Tensor:
    """`count` filtered pixels along an axis of y, `down` apart."""
    last = len(down_filter) - 1
    result = _every(y, axis, 0, down, count) * down_filter[last]
    for t in range(1, last + 1):
        result = result + _every(y, axis, t, down, count) * down_filter[last - t]
    return result


def _every(y: Tensor, axis: int, first: int, step: int, count: int) -> Tensor:
    """`count` slices along an axis, `step` apart."""
    return y.narrow(axis, first, (count - 1) * step + 1)[(slice(None),) * axis + (slice(None, None, step),)]


@lru_cache
def usable(mode: str, device: str) -> bool:
    """Whether resampling is to be compiled; said in the log, once per process.

    Args:
        mode: one of `MODES`.
        device: type of the device.

    Raises:
        ValueError: the mode is `on`, and nothing can be compiled here.
    """
    problem = "gan.compile=off" if mode == "off" else _problem(device)
    if problem and mode == "on":
        raise ValueError(
            f"gan.compile=on: {problem}. Install a C++ compiler (CXX names it; Triton on a GPU), or choose "
            "gan.compile=auto or off, which give the same images"
        )
    log.info("StyleGAN-XL resamples with %s", f"banded matrices ({problem})" if problem else "compiled polyphase sums")
    return not problem


def _problem(device: str) -> str:
    """Why a layer cannot be compiled for a device; empty where it can."""
    how = Resampling(2, 2, (11, 10), 0.2, 1.0, 256.0)
    x, taps = torch.ones(1, 16, 36, 36, device=device), torch.ones(12, device=device)
    try:
        with torch.no_grad():
            resample(x, torch.ones_like(x[:, :, 0, 0]), torch.ones_like(x[0, :, 0, 0]), taps, taps, how, compiled=True)
    except Exception as error:  # a missing compiler, header or library each shows as another exception
        return f"nothing can be compiled here, {(str(error).splitlines() or [repr(error)])[0]:.200}"
    return ""
