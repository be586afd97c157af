"""Maps of the units of a layer: recorded, edited and enlarged (Bau et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Border = Literal["fade", "clamp"]


def record_activations(
    forward: Callable[[Tensor], Any], modules: Mapping[str, nn.Module], batch: Tensor
) -> dict[str, Tensor]:
    """Maps that modules give while a batch passes, without gradients.

    They are clones: a ReLU in place behind a layer does not change them.

    Args:
        forward: what passes the modules, such as `classifier.features`.
        modules: those recorded, by name.
        batch: input of `forward`.

    Returns:
        By name, `[n, units, h, w]`, in the order of `modules`.

    Raises:
        ValueError: a module gives no map `[n, units, h, w]`, is not passed, or is passed more than once.
    """
    maps: dict[str, Tensor] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if name in maps:
                raise ValueError(f"layer {name!r} is passed more than once: expected a module with one map")
            maps[name] = _require_map(name, output).detach().clone()

        return hook

    with ExitStack() as stack, torch.no_grad():
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(record(name)).remove)
        forward(batch)
    absent = [name for name in modules if name not in maps]
    if absent:
        raise ValueError(f"{', '.join(absent)}: not passed in the forward pass; choose a layer that images pass")
    return {name: maps[name] for name in modules}


def _require_map(name: str, output: Any) -> Tensor:
    if isinstance(output, Tensor) and output.ndim == 4:
        return output
    shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise ValueError(f"layer {name!r} gives {shape}: expected a map [n, units, h, w]; choose a convolution")


@contextmanager
def intervene(
    module: nn.Module, units: Sequence[int] | Tensor, value: float | Tensor, mask: Tensor | None = None
) -> Iterator[None]:
    """Within it a module gives an edited copy of its output, as `edit_of` edits it.

    Args:
        module: gives `[n, units, …]`.
        units: as of `edit_of`.
        value: as of `edit_of`.
        mask: as of `edit_of`.

    Raises:
        ValueError: as `edit_of`, and what that gives.
    """
    edit = edit_of(units, value, mask)

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return edit(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def edit_of(
    units: Sequence[int] | Tensor, value: float | Tensor = 0.0, mask: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """A function that sets units, out of place: x ← (1 − m) x + m v for the chosen ones.

    Args:
        units: indices of the chosen units, `[chosen]`.
        value: v, one for all or one per chosen unit, `[chosen]`.
        mask: m, `[h, w]` or `[n, h, w]` in [0, 1] at the resolution of the map, or larger: averaged over areas. The
            whole map without one.

    Returns:
        A function of activations `[n, units, …]`. It raises ValueError for a unit that is not there, or a mask that
        does not fit.

    Raises:
        ValueError: values of another number, or a mask of another shape or outside [0, 1].

    Example:
        >>> edit_of([1], 5.0)(torch.zeros(1, 2, 1, 1)).flatten().tolist()
        [0.0, 5.0]
    """
    chosen = torch.as_tensor(units, dtype=torch.int64).flatten()
    values = torch.as_tensor(value, dtype=torch.float32).flatten()
    if len(values) not in (1, len(chosen)):
        raise ValueError(f"{len(values)} values for {len(chosen)} units: expected one value, or one for each unit")
    if mask is not None:
        _validate_mask(mask)

    def edit(x: Tensor) -> Tensor:
        return edited(x, chosen.to(x.device), values.to(x), mask)

    return edit


def _validate_mask(mask: Tensor) -> None:
    if mask.ndim not in (2, 3) or not mask.numel():
        raise ValueError(f"mask is {list(mask.shape)}: expected [h, w] or [n, h, w]")
    low, high = float(mask.min()), float(mask.max())
    if not 0 <= low <= high <= 1:
        raise ValueError(f"mask has values in [{low}, {high}]: expected them in [0, 1]")


def edited(output: Tensor, units: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """A copy of `output [n, units, …]`, edited as by `edit_of`.

    Args:
        output: of a module.
        units: indices of the chosen units, `[chosen]` int64.
        values: `[1]` or `[chosen]`.
        mask: as of `edit_of`.

    Raises:
        ValueError: a unit that is not there, or a mask that does not fit.
    """
    if len(units) and not 0 <= int(units.min()) <= int(units.max()) < output.shape[1]:
        raise ValueError(f"units {units.tolist()}: expected indices of the {output.shape[1]} units of the layer")
    result, v = output.clone(), values.reshape(1, -1, *[1] * (output.ndim - 2))
    if mask is None:
        result[:, units] = v.expand_as(result[:, units])
    else:
        m = _resized_mask(mask.to(output), output)
        result[:, units] = (1 - m) * result[:, units] + m * v
    return result


def _resized_mask(mask: Tensor, output: Tensor) -> Tensor:
    """`[1 or n, 1, h, w]` at the resolution of a map `output [n, units, h, w]`."""
    if output.ndim != 4:
        raise ValueError(f"the layer gives {list(output.shape)}: a mask needs a map [n, units, h, w]")
    m = mask[None, None] if mask.ndim == 2 else mask[:, None]
    sizes = m.shape[-2:], output.shape[-2:]
    if any(large < small for large, small in zip(*sizes, strict=True)) or len(m) not in (1, len(output)):
        raise ValueError(
            f"mask is {list(mask.shape)}: expected [h, w] or [{len(output)}, h, w], no smaller than the map "
            f"{list(output.shape[-2:])}"
        )
    return F.adaptive_avg_pool2d(m, (output.shape[2], output.shape[3]))


@dataclass(frozen=True)
class ReceptiveField:
    """Where the samples of a map lie in a square image: sample k is centred on pixel `offset + scale · k` of a side.

    A map does not span the image evenly where convolutions are padded by less, or more, than half of their kernel.
    """

    scale: float
    """Pixels between the centres of neighbouring samples."""
    offset: float
    """The pixel that the first sample is centred on; 0 is the first one of the image."""
    image: int
    """Height and width of the image in pixels."""

    def __post_init__(self) -> None:
        if not (self.scale > 0 and self.image > 1):
            raise ValueError(f"{self}: expected a positive scale, and an image of 2 pixels or more")

    @classmethod
    def of_layers(cls, layers: Sequence[tuple[int, int, int]], image: int) -> Self:
        """That of the map behind convolutions and pooling, each with its kernel, stride and padding.

        Args:
            layers: (kernel, stride, padding) in pixels of each layer's input, in the order of the network.
            image: height and width in pixels of the input of the first one.

        Raises:
            ValueError: a stride is not positive, or an image of less than 2 pixels.

        Example:
            >>> ReceptiveField.of_layers([(11, 4, 0), (3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 1, 1)], 227)  # AlexNet
            ReceptiveField(scale=16, offset=17.0, image=227)
        """
        scale, offset = 1, 0.0
        for kernel, stride, padding in layers:
            offset += ((kernel - 1) / 2 - padding) * scale
            scale *= stride
        return cls(scale, offset, image)


def upsample_activations(
    maps: Tensor, size: int | tuple[int, int], border: Border = "fade", field: ReceptiveField | None = None
) -> Tensor:
    """Maps resized to that of a mask: enlarged bilinearly, on the centres of pixels, or averaged over areas.

    Where a side of the map is larger than asked for, a cell has the mean of what it covers, so that no activation lies
    between the samples.

    Args:
        maps: `[n, units, h, w]` floating.
        size: height and width (H, W), or one number for both.
        border: beyond the outer centres, "fade" falls to zero as beside a frame of zeros (Bau et al. 2020) and "clamp"
            repeats them, as `interpolate(align_corners=False)`.
        field: where the samples lie in the image, of which the first and the last pixel are the first and the last
            centre of the result (Bau et al. 2020). Without one the map spans the image.

    Returns:
        `[n, units, H, W]`; constant where the map is 1×1.

    Raises:
        ValueError: another border; with a field, a map that is larger than asked for.

    Example:
        >>> upsample_activations(torch.tensor([[[[0.0, 4.0]]]]), (1, 4))
        tensor([[[[0., 1., 3., 3.]]]])
        >>> upsample_activations(torch.tensor([[[[0.0, 4.0]]]]), (1, 4), "clamp")
        tensor([[[[0., 1., 3., 4.]]]])
        >>> upsample_activations(torch.tensor([[[[0.0, 4.0, 8.0]]]]), (1, 2))
        tensor([[[[1.3333, 6.6667]]]])
    """
    if border not in ("fade", "clamp"):
        raise ValueError(f"border={border!r}: expected 'fade' or 'clamp'")
    height, width = (size, size) if isinstance(size, int) else size
    h, w = maps.shape[-2:]
    if (h, w) == (1, 1):
        return maps.expand(*maps.shape[:2], height, width).clone()
    if field is not None and (h > height or w > width):
        raise ValueError(f"a map of {h}×{w} with a receptive field: expected at most {height}×{width}, to enlarge it")
    rows, columns = (_resizing(a, b, border, field).to(maps) for a, b in ((h, height), (w, width)))
    return rows @ (maps @ columns.T)


def _resizing(source: int, target: int, border: Border, field: ReceptiveField | None) -> Tensor:
    """Weights `[target, source]` float64 of the samples of a line, for each sample of the resized line."""
    if target < source:
        return _areas(source, target)
    return _bilinear(_positions(source, target, field), source, border)


def _areas(source: int, target: int) -> Tensor:
    """Share of each sample `[j, j + 1)` in the cell `[i, i + 1) · source / target`, `[target, source]` float64."""
    edges = torch.arange(target + 1, dtype=torch.float64) * source / target
    samples = torch.arange(source)
    overlap = torch.minimum(edges[1:, None], samples + 1) - torch.maximum(edges[:-1, None], samples)
    return overlap.clamp(min=0) * target / source


def _positions(source: int, target: int, field: ReceptiveField | None) -> Tensor:
    """Where the samples of the enlarged line lie among those of the line, `[target]` float64."""
    if field is None:
        return (torch.arange(target, dtype=torch.float64) + 0.5) * source / target - 0.5
    return (torch.linspace(0, field.image - 1, target, dtype=torch.float64) - field.offset) / field.scale


def _bilinear(position: Tensor, source: int, border: Border) -> Tensor:
    """Weights `[target, source]` float64 of the samples of a line at positions `[target]` among them."""
    if border == "clamp":
        position = position.clamp(0, source - 1)
    return (1 - (position[:, None] - torch.arange(source)).abs()).clamp(min=0)
