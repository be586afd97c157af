"""A simulated GPU: its tensors lie in the processor's memory, but nothing mixes with the processor's own unasked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


class OnGpu(Tensor):
    """A tensor that is said to lie on the GPU; what is computed from it does too."""


class Simulated(TorchFunctionMode):
    """What torch refuses to do with tensors on a GPU fails; `moved` lists the shapes of those that came from there."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: list[tuple[int, ...]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one function of torch."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func in (Tensor.device.__get__, Tensor.is_cuda.__get__):  # pyright: ignore[reportAttributeAccessIssue]
            on_gpu = isinstance(args[0], OnGpu)
            return (GPU if on_gpu else CPU) if func == Tensor.device.__get__ else on_gpu  # pyright: ignore[reportAttributeAccessIssue]
        if name in ("cpu", "to"):
            return self._to(func, args, kwargs)
        if name in ("numpy", "__array__") and isinstance(args[0], OnGpu):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if kwargs.get("device") is not None:
            made = func(*args, **kwargs | {"device": CPU})
            return made.as_subclass(OnGpu) if torch.device(kwargs["device"]).type == "cuda" else made
        _check(name, args, kwargs)
        return func(*args, **kwargs)

    def _to(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        value, *rest = args
        target = [x for x in (*rest, *kwargs.values()) if isinstance(x, (Tensor, torch.device, str))]
        to_gpu = isinstance(value, OnGpu) and func is not Tensor.cpu
        if target:
            to_gpu = isinstance(target[0], OnGpu) or (
                not isinstance(target[0], Tensor) and torch.device(target[0]).type == "cuda"
            )
        if isinstance(value, OnGpu) and not to_gpu:
            self.moved.append(tuple(value.shape))
        plain = value.as_subclass(Tensor)
        types = [x for x in (*rest, *kwargs.values()) if isinstance(x, torch.dtype)]
        types += [x.dtype for x in target if isinstance(x, Tensor)]
        plain = plain.to(types[0]) if types else plain
        return plain.as_subclass(OnGpu) if to_gpu else plain


def _check(name: str, args: Any, kwargs: Any) -> None:
    """Refuses both kinds in one call; a single number may come from the processor."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, OnGpu)]
    here = [x for x in tensors if not isinstance(x, OnGpu) and x.ndim]
    if there and here:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu")


@contextmanager
def simulated_gpu() -> Iterator[Simulated]:
    """Inside, `.to("cuda")` leads to the simulated GPU."""
    with Simulated() as mode:
        yield mode
