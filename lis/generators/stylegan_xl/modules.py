"""From the record of a pickled network to its picture: a tree of `Node`s."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from torch import Tensor

from lis.generators.stylegan_xl.nodes import Node
from lis.generators.stylegan_xl.storages import read_tensor
from lis.generators.stylegan_xl.values import NotPlain, as_dict, as_names, plain
from lis.pickles.records import Call, Global, describe
from lis.pickles.source import Source

MAX_DEPTH, MAX_NAME = 32, 100
_COST = 100
"""Steps that a module is charged; pickling one takes more, unless one record stands for many."""


def read_module(source: Source, value: Any, where: str, depth: int = 0) -> Node:
    """The picture of the module that a recorded call stands for, with its tensors.

    Args:
        source: the file, for what was left in it.
        value: the record.
        where: the module's path, for messages.
        depth: how many modules it lies in.

    Raises:
        ValueError: it is no module, is damaged, or is nested without end.
    """
    source.budget.spend(_COST)
    if depth > MAX_DEPTH:
        raise ValueError(f"damaged: {where[:80]} … lies in {depth} modules, of which one is in itself")
    name, state = _module(value, where)
    hidden = as_names(source.budget, state.get("_non_persistent_buffers_set"))
    buffers = {key: buffer for key, buffer in _entries(source, state, "_buffers", where) if key not in hidden}
    return Node(
        class_name=name,
        attributes=_attributes(source, state),
        parameters=_tensors(source, dict(_entries(source, state, "_parameters", where)), where),
        buffers=_tensors(source, buffers, where),
        children={
            key: read_module(source, child, f"{where}.{key}", depth + 1)
            for key, child in _entries(source, state, "_modules", where)
        },
    )


def _module(value: Any, where: str) -> tuple[str, dict[Any, Any]]:
    """Name of the class and state of a module, as PyTorch pickles it or as `torch_utils.persistence` does."""
    match value:
        case Call(Global("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,)):
            found = as_dict(meta) or {}  # `module_src` in it is a program: it is not looked at
            name, state = found.get("class_name"), as_dict(found.get("state"))
        case Call(Global(_, name), _, state):
            state = as_dict(state)
        case _:
            name = state = None
    if not isinstance(name, str) or state is None or "_modules" not in state:
        raise ValueError(f"{where} is {describe(value)}: expected a network")
    return name, state


def _entries(source: Source, state: dict[Any, Any], kind: str, where: str) -> Iterator[tuple[str, Any]]:
    """What PyTorch has registered under `_parameters`, `_buffers` or `_modules`, without what is None."""
    entries = as_dict(state.get(kind, {}))
    if entries is None:
        raise ValueError(f"damaged: {where}.{kind} is {describe(state[kind])}")
    source.budget.spend(len(entries))  # other modules may share them
    for name, value in entries.items():
        if not isinstance(name, str) or "." in name or not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"damaged: {where}.{kind} has {name!r:.80} where a name is to be")
        if value is not None:
            yield name, value


def _tensors(source: Source, entries: dict[str, Any], where: str) -> dict[str, Tensor]:
    return {name: _tensor(source, value, f"{where}.{name}") for name, value in entries.items()}


def _tensor(source: Source, value: Any, where: str) -> Tensor:
    try:
        return read_tensor(source, value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _attributes(source: Source, state: dict[Any, Any]) -> dict[str, Any]:
    """The plain ones, without those that PyTorch and the persistence keep for themselves."""
    found = {}
    source.budget.spend(len(state))
    for name, value in state.items():
        if isinstance(name, str) and not name.startswith("_"):
            with suppress(NotPlain):
                found[name] = plain(source, value)
    return found
