"""Maps of the units of a layer: recorded and edited (Bau et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
