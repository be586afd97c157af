"""Where the samples of a layer's map lie in the image, followed through the operations of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import TorchDispatchMode

from lis.classifiers.preprocessing import Preprocessing
from lis.dissection.upsampling import ReceptiveField
from lis.types import Classifier

NOISE, _SIGNS = 8, 8
"""Images of noise, and random signs of their units, that sensitivity is measured with."""


@dataclass(frozen=True)
class Line:
    """Samples along a side: sample k is centred on pixel `offset + scale · k`."""

    scale: float = 1.0
    offset: float = 0.0

    def taken(self, first: float, step: float) -> Line:
        """Samples at `first`, `first + step`, … among these."""
        return Line(self.scale * step, self.offset + self.scale * first)


Grid = tuple[Line, Line]
"""Rows and columns."""


def receptive_fields(
    classifier: Classifier, modules: Mapping[str, nn.Module], image: Tensor
) -> dict[str, ReceptiveField]:
    """Where the samples of maps lie in what a classifier's network reads: its images resized and cut.

    The network is run, and each operation says where its result lies: a window of a convolution or of pooling is
    centred on its middle, what keeps the size of a map keeps its place, and a sum lies at the mean of its terms.

    Args:
        classifier: the classifier.
        modules: whose maps, by name.
        image: what it is run on, `[n, 3, H, H]` in [-1, 1].

    Returns:
        By name; none of a map of one sample, which has no place.

    Raises:
        ValueError: a map cannot be followed, or lies otherwise along rows than along columns.
    """
    trace, fields = _Trace(), dict[str, ReceptiveField]()

    def start(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        trace.start(output)

    def keep(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        trace.keep(inputs, output)

    def record(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if _is_map(output) and output.shape[-2:] != (1, 1):
                fields[name] = trace.field(name, output)

        return hook

    preprocessing = getattr(classifier, "preprocessing", None)
    with ExitStack() as stack, torch.no_grad():
        stack.callback(register_module_forward_hook(keep).remove)
        if isinstance(preprocessing, Preprocessing):
            stack.callback(preprocessing.register_forward_hook(start).remove)
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(record(name)).remove)
        trace.start(image)
        stack.enter_context(trace)
        classifier.features(image)
    return fields


def sensitive_fields(
    classifier: Classifier,
    modules: Mapping[str, nn.Module],
    fields: Mapping[str, ReceptiveField],
    resolution: int,
    device: torch.device,
) -> dict[str, ReceptiveField]:
    """Receptive fields moved to where the samples of maps are sensitive: the centre of their gradients on noise.

    What a kernel weighs need not lie in its middle: of an EfficientNet, whose strides are padded on one side alone,
    training has moved it back by most of that. It is an estimate, of the two samples beside the middle of the image
    (what one sees is cut off by the border), the mean of rows and columns, in steps of a quarter of a pixel (an
    effective receptive field, Luo et al. 2016: squared gradients of the units, standardised, over images of uniform
    noise). Half a cell of a layer of small strides is within its error, so that it is for layers whose middles are in
    doubt.

    Args:
        classifier: the classifier, with weights.
        modules: whose maps, by name.
        fields: of `receptive_fields`.
        resolution: height and width of the noise in pixels.
        device: of the classifier.

    Raises:
        ValueError: gradients do not reach the image, or are 0.
    """
    noise = torch.rand(NOISE, 3, resolution, resolution, generator=torch.Generator().manual_seed(0)) * 2 - 1
    image, cells = noise.to(device).requires_grad_(), dict[str, dict[int, Tensor]]()

    def start(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        nonlocal image
        image = output.detach().requires_grad_()
        return image

    def record(name: str, field: ReceptiveField) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            middle = ((field.image - 1) / 2 - field.offset) / field.scale
            spread = output.detach().std((0, 2, 3))
            for k in {math.floor(middle), math.ceil(middle)} & set(range(output.shape[-1])):
                cells.setdefault(name, {})[k] = output[:, :, k, k] / spread.where(spread > 0, math.inf)

        return hook

    preprocessing = getattr(classifier, "preprocessing", None)
    with ExitStack() as stack, torch.inference_mode(False), torch.enable_grad():
        if isinstance(preprocessing, Preprocessing):
            stack.callback(preprocessing.register_forward_hook(start).remove)
        for name, field in fields.items():
            stack.callback(modules[name].register_forward_hook(record(name, field)).remove)
        classifier.features(image)
        offsets = {
            name: [_centre(name, cell, image) - fields[name].scale * k for k, cell in sorted(some.items())]
            for name, some in cells.items()
        }
    return {name: replace(fields[name], offset=round(4 * sum(x) / len(x)) / 4) for name, x in offsets.items()}


def _centre(name: str, cell: Tensor, image: Tensor) -> float:
    """The mean pixel, along a side, of the squared gradients of `cell [n, units]` by the image."""
    signs, energy = torch.Generator().manual_seed(0), torch.zeros(image.shape[-2:], device=image.device)
    refused = f"layer {name!r}: its gradients {{}}: expected those of the image; set dissect.placement=receptive_field"
    for _ in range(_SIGNS):  # of sums with random signs the squares have the sum of all squares as their mean
        sign = (torch.randint(2, cell.shape, generator=signs) * 2 - 1).to(cell)
        if not cell.requires_grad:
            raise ValueError(refused.format("do not reach the image"))
        (gradient,) = torch.autograd.grad((cell * sign).sum(), image, retain_graph=True)
        energy += gradient.square().sum((0, 1))
    total = float(energy.double().sum())
    if not 0 < total < math.inf:
        raise ValueError(refused.format(f"by noise are {total:g}"))
    pixels = torch.arange(image.shape[-1], dtype=torch.float64, device=image.device)
    return float(((energy.double().sum(0) + energy.double().sum(1)) * pixels).sum()) / total / 2


class _Trace(TorchDispatchMode):
    """Follows where maps lie through operations."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[Tensor, Grid]] = {}  # the tensors are held, so that no other gets their id
        self._size, self._lost = 0, "the start of the network"

    def start(self, image: Tensor) -> None:
        """Count pixels in this one, `[n, 3, H, H]`."""
        self._size = image.shape[-1]
        self._known = {id(image): (image, (Line(), Line()))}

    def keep(self, inputs: Sequence[Any], output: Any) -> None:
        """A map lies where those of its size do that went in, if nothing is known of it yet."""
        if _is_map(output) and self._grid(output) is None:
            grids = [self._grid(x) for x in inputs if _is_map(x) and x.shape[-2:] == output.shape[-2:]]
            self._place(output, _mean([grid for grid in grids if grid is not None]))

    def field(self, name: str, output: Tensor) -> ReceptiveField:
        """Of the map of a layer.

        Raises:
            ValueError: as `receptive_fields`.
        """
        grid, remedy = self._grid(output), "dissect.placement=even lays the map over the image evenly"
        if grid is None:
            raise ValueError(
                f"layer {name!r}: where its samples lie in the image cannot be followed through {self._lost}; {remedy}"
            )
        rows, columns = grid
        if rows != columns:
            raise ValueError(
                f"layer {name!r}: its samples lie {rows.scale:g} pixels apart from pixel {rows.offset:g} down the "
                f"image, and {columns.scale:g} from {columns.offset:g} across: expected the same; {remedy}"
            )
        return ReceptiveField(rows.scale, rows.offset, self._size)

    def _grid(self, x: Tensor) -> Grid | None:
        return self._known[id(x)][1] if id(x) in self._known else None

    def _place(self, x: Tensor, grid: Grid | None) -> None:
        if grid is not None:
            self._known[id(x)] = x, grid

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and say where its results lie."""
        result, inputs = func(*args, **(kwargs or {})), list(_maps(args))
        grids = [grid for grid in map(self._grid, inputs) if grid is not None]
        place = _PLACES.get(func.overloadpacket.__name__)
        for output in _maps(result):
            if place is not None and grids:
                self._place(output, place(grids[0], _Call.of(func, args, kwargs or {}, inputs[0], output)))
            elif func.overloadpacket.__name__ not in _TURNED:
                self.keep(inputs, output)
            if grids and self._grid(output) is None and output.shape[-2:] != (1, 1):
                self._lost = f"{func.overloadpacket.__name__} of {list(inputs[0].shape)} to {list(output.shape)}"
        return result


@dataclass(frozen=True)
class _Call:
    """An operation on a map."""

    arguments: dict[str, Any]
    source: torch.Size
    target: torch.Size

    @classmethod
    def of(cls, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], source: Tensor, target: Tensor) -> _Call:
        """Of a call of `func`, with the defaults of its schema."""
        arguments = {each.name: each.default_value for each in func._schema.arguments}
        names = list(arguments)
        return cls({**arguments, **dict(zip(names, args, strict=False)), **kwargs}, source.shape, target.shape)

    def sides(self, name: str, default: int | Sequence[int] = 1) -> tuple[int, int]:
        """An argument of rows and columns, which may be one number for both; `default` if it is empty or absent."""
        value = self.arguments.get(name)
        value = default if value is None or value == [] else value
        values = [value, value] if isinstance(value, int) else list(value)
        return (values[0], values[-1])

    @property
    def ratios(self) -> tuple[float, float]:
        """Samples per new sample along rows and columns."""
        return (self.source[-2] / self.target[-2], self.source[-1] / self.target[-1])


def _windows(grid: Grid, call: _Call, kernel: Sequence[int]) -> Grid:
    """Windows of some height and width that slide over a map, by their middles."""
    stride, padding, dilation = call.sides("stride", kernel), call.sides("padding", 0), call.sides("dilation")
    middle = [(k - 1) * d / 2 for k, d in zip(kernel, dilation, strict=True)]
    if call.arguments.get("transposed"):
        steps = [((p - m) / s, 1 / s) for m, p, s in zip(middle, padding, stride, strict=True)]
    else:
        steps = [(m - p, s) for m, p, s in zip(middle, padding, stride, strict=True)]
    return (grid[0].taken(*steps[0]), grid[1].taken(*steps[1]))


def _convolution(grid: Grid, call: _Call) -> Grid:
    return _windows(grid, call, call.arguments["weight"].shape[-2:])


def _pooling(grid: Grid, call: _Call) -> Grid:
    return _windows(grid, call, call.sides("kernel_size"))


def _cells(grid: Grid, call: _Call) -> Grid | None:
    """Means, or maxima, of equal cells; None where these are not equal."""
    if any(not ratio.is_integer() for ratio in call.ratios):
        return None
    return _resized(grid, call)


def _resized(grid: Grid, call: _Call) -> Grid:
    """Interpolated between the same outer bounds, or the same outer samples."""
    if call.arguments.get("align_corners"):
        sizes = zip(call.source[-2:], call.target[-2:], strict=True)
        rows, columns = (line.taken(0, (a - 1) / max(1, b - 1)) for line, (a, b) in zip(grid, sizes, strict=True))
    else:
        rows, columns = (line.taken((ratio - 1) / 2, ratio) for line, ratio in zip(grid, call.ratios, strict=True))
    return (rows, columns)


def _picked(grid: Grid, call: _Call) -> Grid:
    """The nearest samples: of fewer, the first of each cell."""
    rows, columns = (line.taken(min(0.0, (r - 1) / 2), r) for line, r in zip(grid, call.ratios, strict=True))
    return (rows, columns)


def _padded(grid: Grid, call: _Call) -> Grid:
    """With more samples around; the numbers are given for columns first."""
    pad = [*(call.arguments.get("pad") or call.arguments["padding"]), 0, 0]
    return (grid[0].taken(-pad[2], 1), grid[1].taken(-pad[0], 1))


def _sliced(grid: Grid, call: _Call) -> Grid:
    dim, start, step = (call.arguments[name] or 0 for name in ("dim", "start", "step"))
    side = dim % len(call.source) - len(call.source) + 2
    if side not in (0, 1):
        return grid
    line = grid[side].taken(start + call.source[dim] if start < 0 else start, step)
    return (line, grid[1]) if side == 0 else (grid[0], line)


_PLACES: dict[str, Callable[[Grid, _Call], Grid | None]] = {
    **dict.fromkeys(("convolution", "mkldnn_convolution"), _convolution),
    **dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d"), _pooling),
    **dict.fromkeys(("_adaptive_avg_pool2d", "adaptive_max_pool2d"), _cells),
    "upsample_nearest2d": _picked,
    "_upsample_nearest_exact2d": _resized,
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d"), _resized),
    **dict.fromkeys(("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"), _resized),
    **dict.fromkeys(("constant_pad_nd", "reflection_pad2d", "replication_pad2d"), _padded),
    "slice": _sliced,
}
"""What moves a map, by the name of the operation."""
_TURNED = ("roll", "flip", "rot90", "grid_sampler_2d")
"""What keeps the size of a map and not its place."""


def _mean(grids: Sequence[Grid]) -> Grid | None:
    """Where a sum of maps lies; None of none."""
    if not grids:
        return None
    sides = zip(*grids, strict=True)
    rows, columns = (
        Line(sum(x.scale for x in side) / len(side), sum(x.offset for x in side) / len(side)) for side in sides
    )
    return (rows, columns)


def _is_map(x: Any) -> TypeGuard[Tensor]:
    return isinstance(x, Tensor) and x.ndim >= 3


def _maps(x: Any) -> Iterator[Tensor]:
    """The maps among arguments or results, and among lists of these."""
    if isinstance(x, (tuple, list)):
        for each in x:
            yield from _maps(each)
    elif _is_map(x):
        yield x
