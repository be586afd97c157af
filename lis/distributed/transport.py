"""What goes to another process: a job without its models, which that process has built from the configuration.

In place of the context, the models of a run, their modules and its device stands a reference, and the other process
puts its own there; a job has its store from the context. Tensors on the run's device arrive on the other one's.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lis.context import Context


def packed(value: Any, ctx: Context) -> bytes:
    """A value with references to the run `ctx`, for `unpacked` in a process that has the same run.

    Raises:
        ValueError: something in it cannot be sent.
    """
    stream = io.BytesIO()
    try:
        _Pickler(stream, ctx).dump(value)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{type(value).__name__} cannot be sent to another process ({error}): expected what pickle takes; use "
            "engine=inprocess"
        ) from error
    return stream.getvalue()


def unpacked(data: bytes, ctx: Context) -> Any:
    """What `packed` was given, with this process's run in it.

    Raises:
        ValueError: the models of the two runs differ, or something is defined where this process does not find it.
    """
    try:
        return _Unpickler(io.BytesIO(data), ctx).load()
    except (AttributeError, ImportError) as error:
        raise ValueError(
            f"a worker does not find what a job is made of ({error}): expected it in a module that can be imported on "
            "every machine, not in a script or a notebook"
        ) from error


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, ctx: Context) -> None:
        super().__init__(stream, protocol=5)
        self.ctx = ctx
        self.names = {id(part): name for name, part in _parts(ctx)}

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Context):
            return "context", obj.config, obj.generator, obj.classifier, obj.witness
        if isinstance(obj, torch.device) and obj == self.ctx.device:
            return ("device",)
        if isinstance(obj, Tensor) and obj.device == self.ctx.device and obj.device.type != "cpu":
            return "tensor", obj.detach().cpu()
        return ("part", self.names[id(obj)]) if id(obj) in self.names else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, ctx: Context) -> None:
        super().__init__(stream)
        self.ctx = ctx
        self.parts = dict(_parts(ctx))

    def persistent_load(self, pid: Any) -> Any:
        kind, *rest = pid
        if kind == "device":
            return self.ctx.device
        if kind == "tensor":
            return rest[0].to(self.ctx.device)
        if kind == "context":
            config, generator, classifier, witness = rest
            return replace(self.ctx, config=config, generator=generator, classifier=classifier, witness=witness)
        (name,) = rest
        if name not in self.parts:
            raise ValueError(
                f"this worker has no model {name}: expected the same weights on every machine; check the files that "
                "the configuration names"
            )
        return self.parts[name]


def _parts(ctx: Context) -> Iterator[tuple[str, Any]]:
    """The models of a run and the modules in them, by names that are the same in every process that has the same."""
    for model in (ctx.generator, ctx.classifier, ctx.witness):
        if model is not None:
            yield from _modules(model.fingerprint, model)
            yield model.fingerprint, model


def _modules(name: str, model: Any) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a model, which is one or has some as attributes."""
    roots = {"": model} if isinstance(model, nn.Module) else getattr(model, "__dict__", {})
    for attribute, root in roots.items():
        if isinstance(root, nn.Module):
            yield from ((f"{name}:{attribute}:{path}", module) for path, module in root.named_modules())
