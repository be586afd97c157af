"""Quantiles of the activations of units: exact, and of a stream of any length in flat memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_MANTISSA = 7
"""Bits of the mantissa by which values are told apart: bins are 0.4 to 0.8 % wide."""
BINS_PER_OCTAVE = 2**_MANTISSA
"""Bins of the values of one sign between a power of 2 and the next."""
_SMALLEST, _LARGEST = -40, 24
"""Exponents of 2: smaller values count as zero, and larger ones are refused."""
_MAGNITUDES = (_LARGEST - _SMALLEST) << _MANTISSA
"""Bins of one sign."""
_AT_ONCE = 2**22
"""Values whose bins are in memory at once."""


def unit_quantiles(activations: Tensor, q: float | Sequence[float] | Tensor) -> Tensor:
    """Quantiles of each unit, midpoints of steps (Hazen 1914; numpy's `method="hazen"`).

    The sorted values x_0 … x_{N−1} are interpolated linearly at index q N − ½, held within [0, N − 1].

    Args:
        activations: `[n, units, …]` floating.
        q: one quantile in [0, 1], or several.

    Returns:
        `[units]`, or `[units, quantiles]` of several, in the dtype of the activations.

    Raises:
        ValueError: there are no values; a quantile outside [0, 1].

    Example:
        >>> unit_quantiles(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), 0.5)
        tensor([2.5000])
    """
    values = activations.movedim(1, 0).flatten(1).sort(1).values
    index = _index(values.shape[1], q)
    low = index.floor().long()
    lower, upper = values[:, low], values[:, (low + 1).clamp(max=values.shape[1] - 1)]
    result = torch.lerp(lower.double(), upper.double(), index - low).to(activations.dtype)
    return result if _several(q) else result[:, 0]


def _several(q: float | Sequence[float] | Tensor) -> bool:
    return torch.as_tensor(q).ndim > 0


def _index(n: int, q: float | Sequence[float] | Tensor) -> Tensor:
    """Where quantiles lie among n sorted values, `[quantiles]` float64 in [0, n − 1]."""
    levels = torch.as_tensor(q, dtype=torch.float64).flatten().cpu()
    if n == 0:
        raise ValueError("no activations: expected at least one value of each unit; add images first")
    if bool(((levels < 0) | (levels > 1) | levels.isnan()).any()):
        raise ValueError(f"quantiles {levels.tolist()}: expected numbers in [0, 1]")
    return (levels * n - 0.5).clamp(0, n - 1)


class QuantileSketch:
    """Histograms of the activations of units, from which any quantile follows to within a bin.

    A bin holds the values with the same sign, exponent and leading bits of the mantissa: its width is below 0.8 % of
    its value. Zero has a bin of its own (with values below 2⁻⁴⁰ in size), so that the quantile of a unit that is mostly
    off is exactly 0; the least and the largest value are exact too. The counts are integers: the result depends neither
    on batches, nor on their order, nor on the shards that are added up. Memory: 131 kB per unit, whatever the number of
    images.

    Args:
        units: how many.

    Example:
        >>> sketch = QuantileSketch(1)
        >>> sketch.add(torch.zeros(9, 1))
        >>> sketch.add(torch.ones(1, 1))
        >>> sketch.quantile([0.5, 1.0])
        tensor([[0., 1.]])
    """

    def __init__(self, units: int) -> None:
        self.counts = torch.zeros(units, 2 * _MAGNITUDES + 1, dtype=torch.int64)
        self.minimum = torch.full((units,), math.inf)
        self.maximum = torch.full((units,), -math.inf)

    def add(self, values: Tensor) -> None:
        """Count values.

        Args:
            values: `[n, units, …]` floating.

        Raises:
            ValueError: other units; values that are not finite, or not below 2²⁴ in size.
        """
        units, bins = self.counts.shape
        if values.shape[1] != units:
            raise ValueError(f"values {list(values.shape)}: expected [n, {units}, …]")
        if not values.numel():
            return
        rows = values.detach().movedim(1, 0).flatten(1).float().cpu()
        minimum, maximum = rows.aminmax(dim=1)
        largest = float(torch.maximum(-minimum, maximum).max())
        if not largest < 2.0**_LARGEST:  # NaN too
            raise ValueError(f"activations reach {largest}: expected finite ones below 2^{_LARGEST} in size")
        first = torch.arange(units)[:, None] * bins
        for part in rows.split(max(1, _AT_ONCE // units), 1):
            counts = torch.bincount((_bin_index(part) + first).flatten(), minlength=units * bins)
            self.counts += counts.reshape(units, bins)
        self.minimum, self.maximum = torch.minimum(self.minimum, minimum), torch.maximum(self.maximum, maximum)

    def tensors(self) -> dict[str, Tensor]:
        """What a shard keeps: the bins that are not empty, as `bin` (of units × bins) and `count`, and the extremes."""
        counts = self.counts.flatten()
        index = counts.nonzero()[:, 0]
        return {"bin": index, "count": counts[index], "minimum": self.minimum, "maximum": self.maximum}

    def add_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Add what `tensors` of another sketch of the same units has given."""
        self.counts.view(-1).index_add_(0, tensors["bin"], tensors["count"])
        self.minimum = torch.minimum(self.minimum, tensors["minimum"])
        self.maximum = torch.maximum(self.maximum, tensors["maximum"])

    def quantile(self, q: float | Sequence[float] | Tensor) -> Tensor:
        """Quantiles as of `unit_quantiles`, interpolated by rank within a bin.

        Returns:
            `[units]`, or `[units, quantiles]` of several, float32.

        Raises:
            ValueError: as `unit_quantiles`.
        """
        index = _index(int(self.counts[0].sum()), q)
        cumulative = self.counts.cumsum(1)
        low = index.floor()
        lower, upper = (self._value(cumulative, rank) for rank in (low, index.ceil()))
        result = torch.lerp(lower, upper, (index - low).expand_as(lower)).float()
        return result if _several(q) else result[:, 0]

    def _value(self, cumulative: Tensor, rank: Tensor) -> Tensor:
        """The values `[units, quantiles]` float64 of ranks `[quantiles]`, the values of a bin being evenly spaced."""
        ranks = rank.long().expand(len(cumulative), -1).contiguous()
        index = torch.searchsorted(cumulative, ranks, right=True)
        inside = self.counts.gather(1, index).double()
        position = (ranks - cumulative.gather(1, index) + inside + 0.5) / inside
        minimum, maximum = self.minimum[:, None].double(), self.maximum[:, None].double()
        value = torch.lerp(*_bin_bounds(index), position).clamp(minimum, maximum)
        return torch.where(ranks == 0, minimum, torch.where(ranks == cumulative[:, -1:] - 1, maximum, value))


def _bin_index(values: Tensor) -> Tensor:
    """The bin of float32 values, int64: they ascend with the value, and `_MAGNITUDES` is that of zero."""
    bits = values.view(torch.int32)
    leading = (bits & 0x7FFFFFFF) >> (23 - _MANTISSA)
    magnitude = (leading - ((127 + _SMALLEST) << _MANTISSA) + 1).clamp(min=0).long()
    return _MAGNITUDES + torch.where(bits < 0, -magnitude, magnitude)


def _bin_bounds(index: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of bins, float64; both are 0 for that of zero."""
    signed = index - _MAGNITUDES
    magnitude = signed.abs() - 1

    def bound(k: Tensor) -> Tensor:
        exponent, mantissa = (k >> _MANTISSA) + _SMALLEST, k & ((1 << _MANTISSA) - 1)
        return torch.ldexp(1 + mantissa.double() / (1 << _MANTISSA), exponent.double())

    near, far = (bound(k).where(magnitude >= 0, 0.0) * signed.sign() for k in (magnitude, magnitude + 1))
    return torch.minimum(near, far), torch.maximum(near, far)
