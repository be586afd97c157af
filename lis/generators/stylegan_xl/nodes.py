"""An inert picture of a pickled network: what its modules are called, and the numbers and tensors in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Node:
    """One module: its own values and tensors, and the modules in it. Nothing of the class it names is imported."""

    class_name: str
    attributes: dict[str, Any]
    """Numbers, text, None, and lists, tuples and dicts of them. NumPy's numbers and arrays are here as numbers and
    lists. Other attributes, and PyTorch's own, which begin with `_`, are left out."""
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    """The persistent ones: those that a state dict has."""
    children: dict[str, Node]

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """All tensors under the names and in the order of the module's `state_dict`.

        Example:
            >>> leaf = Node("Linear", {}, {"bias": Tensor([1.0])}, {}, {})
            >>> Node("Sequential", {}, {}, {}, {"0": leaf}).tensors()
            {'0.bias': tensor([1.])}
        """
        return dict(self._named(prefix))

    def _named(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for name, value in (self.parameters | self.buffers).items():
            yield prefix + name, value
        for name, child in self.children.items():
            yield from child._named(f"{prefix}{name}.")
