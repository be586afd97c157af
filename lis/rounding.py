"""Operations whose rounding depends neither on what else is in a batch nor on the number of threads.

Libraries choose the order of a sum by the number of rows and threads: a float32 product of 7 rows differs from the same
rows among 64 by 1e-7. That is much where an argmax or a grey level follows. Small products are therefore summed in
float64 and rounded once, which hides the order but for one number in some 10⁷; and convolutions on a processor take the
algorithm of a large batch for one image too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x·Wᵀ + b, summed in float64: `[..., outputs]` in the dtype of `x [..., inputs]`, of `weight [outputs, inputs]`.

    Example:
        >>> linear(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([5.0]))
        tensor([[16.]])
    """
    return F.linear(x.double(), weight.double(), None if bias is None else bias.double()).to(x.dtype)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Tensor:
    """`F.conv2d` of maps `x [n, inputs, h, w]` with `weight [outputs, inputs, k, k]`, each image as in any batch."""
    if x.device.type == "cpu" and weight.shape[2:] == (1, 1) and stride == 1 and not padding:
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    if x.device.type == "cpu" and len(x) == 1 and x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        sides = [(k, k) for k in (padding, stride, dilation)]
        return torch.mkldnn_convolution(x, weight, bias, *sides, groups=1)  # what PyTorch takes for two images
    return F.conv2d(x, weight, bias, stride, padding, dilation)


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` by `convolve`: square strides, zeros around, one group."""

    def forward(self, input: Tensor) -> Tensor:
        """`[n, inputs, h, w]` → `[n, outputs, h', w']`."""
        stride, padding, dilation = self.stride[0], self.padding[0], self.dilation[0]
        assert isinstance(padding, int)
        return convolve(input, self.weight, self.bias, stride, padding, dilation)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch: decompositions, whose signs depend on rounding, come out the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
