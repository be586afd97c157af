"""What a study gives: frozen, with shapes, tables and pictures. Of a single sample the dimension n is left out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.api import notebook
from lis.api.inputs import Rows, whole
from lis.linking.linear import LinearLink, LinkModule
from lis.linking.pairs import first_of_each_class
from lis.names import nearest
from lis.quantify.measures import MEASURES
from lis.report.wording import words
from lis.stage import REGISTRY
from lis.store import Artifact
from lis.units.tuned import long_table
from lis.units.unit import check_unit

_EXAMPLES = 12
"""Pairs that a notebook generates the images of."""


@dataclass(frozen=True, eq=False, repr=False)
class Pairs:
    """Accepted samples of every class; n of them.

    Example:
        >>> import lis
        >>> pairs = lis.study(size="smoke").pairs("test")
        >>> pairs
        Pairs of 150 samples: 30 border_collie, 30 pug, 30 chihuahua, 30 schnauzer, 30 weimaraner
        >>> pairs["r"].shape, len(pairs.of("pug")), pairs[:3].class_name.tolist()
        (torch.Size([150, 256]), 30, ['border_collie', 'border_collie', 'border_collie'])
        >>> pairs.first(1).class_name.tolist()
        ['border_collie', 'pug', 'chihuahua', 'schnauzer', 'weimaraner']
    """

    r: Tensor
    """Activations `[n, units]` float32."""
    w: Tensor
    """Style codes `[n, w_dim]` float32."""
    class_index: Tensor
    """`[n]` int64, index into the classes of the study."""
    sample_index: Tensor
    """`[n]` int64, index in the stream of the split."""
    class_names: tuple[str, ...]
    """The classes of the study."""
    images: Callable[[Tensor], Tensor]
    """Style codes `[n, w_dim]` → images `[n, 3, H, W]` uint8, for a notebook."""

    @property
    def class_name(self) -> np.ndarray:
        """Name of each sample's class, `[n]`."""
        return np.asarray(self.class_names)[self.class_index.numpy()]

    def of(self, name: str) -> Pairs:
        """The samples of one class.

        Raises:
            ValueError: the study has no class of that name.
        """
        if name not in self.class_names:
            expected = f"expected one of {', '.join(self.class_names)}{nearest(str(name), self.class_names)}"
            raise ValueError(f"of({name!r}): {expected}")
        return self[self.class_index == self.class_names.index(name)]

    def first(self, n: int) -> Pairs:
        """The first n samples of each class.

        Raises:
            ValueError: n is below 1.
        """
        if (n := whole(n, "n")) < 1:
            raise ValueError(f"first({n}): expected 1 or more")
        return self[first_of_each_class(self.class_index, len(self.class_names), n)]

    def __len__(self) -> int:
        return len(self.r)

    @overload
    def __getitem__(self, index: str) -> Tensor: ...
    @overload
    def __getitem__(self, index: int | slice | Sequence[int] | Tensor | np.ndarray) -> Pairs: ...
    def __getitem__(self, index: Any) -> Tensor | Pairs:
        """A tensor by its name, or some of the samples: `[:3]`, a list of numbers, a mask.

        Raises:
            ValueError: there is no tensor of that name, or the index is none of these.
            IndexError: there is no such sample.
        """
        names = ("r", "w", "class_index", "sample_index")
        if isinstance(index, str):
            if index not in names:
                raise ValueError(f"pairs[{index!r}]: expected one of {', '.join(names)}{nearest(index, names)}")
            return getattr(self, index)
        rows = torch.arange(len(self))[index if isinstance(index, slice) else _indices(index, len(self))]
        r, w, class_index, sample_index = (getattr(self, name)[rows] for name in names)
        return Pairs(r, w, class_index, sample_index, self.class_names, self.images)

    def __repr__(self) -> str:
        return f"Pairs of {len(self)} samples: {', '.join(f'{n} {name}' for name, n in self._counts.items())}"

    def _repr_html_(self) -> str:
        rows, few = [], max(1, _EXAMPLES // max(1, len(self._counts)))
        for name in self._counts:
            subset = self.of(name)[:few]
            images = [notebook.pixels(image) for image in self.images(subset.w)]
            indices = [f"{k}" for k in subset.sample_index.tolist()]
            rows.append((f"{words(name)}\n{self._counts[name]} samples", images, indices))
        shapes = {name: f"{list(self[name].shape)}" for name in ("r", "w", "class_index", "sample_index")}
        return notebook.page(f"Pairs of {len(self)} samples", notebook.gallery(rows), notebook.facts(shapes))

    @property
    def _counts(self) -> dict[str, int]:
        count = self.class_index.bincount(minlength=len(self.class_names)).tolist()
        return {name: n for name, n in zip(self.class_names, count, strict=True) if n}


def _indices(index: Any, n: int) -> Tensor:
    """What picks some of n samples: numbers `[k]` int64, or a mask `[n]` bool.

    Raises:
        ValueError: it is neither.
    """
    array = np.asarray(index.detach().cpu() if isinstance(index, Tensor) else index)
    if not array.size and array.ndim == 1:
        array = array.astype(np.int64)  # an empty list is one of floats
    if array.dtype.kind == "b" and array.shape == (n,):
        return torch.from_numpy(array)
    if array.dtype.kind in "iu" and array.ndim < 2:
        return torch.from_numpy(array.reshape(-1).astype(np.int64))
    raise ValueError(
        f"pairs[{index!r:.80}]: expected the name of a tensor, a number, a slice, numbers, or a mask of {n} values"
    )


@dataclass(frozen=True, eq=False, repr=False)
class LookResult:
    """What is read off images; `…` are the leading dimensions of the w that was given.

    Example:
        >>> import lis
        >>> s = lis.study(size="smoke")
        >>> look = s.look(s.pairs("test").w[:2])
        >>> look
        LookResult of 2 images: border_collie, border_collie
        >>> look.table.columns.tolist()
        ['sample', 'label', 'measure', 'measured']
    """

    w: Tensor
    """Style codes `[…, w_dim]` float32."""
    image: Tensor
    """`[…, 3, H, W]` uint8."""
    mask: Tensor
    """`[…, h, w]` uint8: 0 background, then the labels; `[…, 1, 1]` where the classes have no labels."""
    measures: Tensor
    """`[…, labels, 5]` float32, in the order of `lis.quantify.measures.MEASURES`; NaN where a label is absent."""
    r: Tensor
    """Activations `[…, units]` float32."""
    logits: Tensor
    """`[…, known]` float32, of all classes that the classifier knows."""
    probability: Tensor
    """Softmax over all classes that the classifier knows, of those of the study: `[…, classes]` float32."""
    labels: tuple[str, ...]
    """Names of the parts."""
    class_names: tuple[str, ...]
    """The classes of the study."""
    known: tuple[str, ...]
    """The classes of the classifier."""

    @property
    def prediction(self) -> Tensor:
        """Index into `known`, `[…]` int64."""
        return self.logits.softmax(-1).argmax(-1)

    @property
    def predicted(self) -> np.ndarray:
        """Names of the predictions, `[…]`."""
        return np.asarray(self.known)[self.prediction.numpy()]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per image, label and measure: sample (over all leading dimensions), label, measure, measured."""
        n = self.prediction.numel()
        axes = {"sample": range(n), "label": self.labels, "measure": MEASURES}
        return long_table(axes, {"measured": self.measures.reshape(n, *self.measures.shape[-2:])})

    @cached_property
    def answers(self) -> pd.DataFrame:
        """A row per image: sample, prediction, `probability_<class>`."""
        probability = self.probability.reshape(-1, len(self.class_names))
        columns = {"prediction": self.predicted.reshape(-1)}
        columns |= {f"probability_{name}": probability[:, k].numpy() for k, name in enumerate(self.class_names)}
        return pd.DataFrame({"sample": range(len(probability))} | columns)

    def __repr__(self) -> str:
        names = self.predicted.reshape(-1).tolist()
        listed = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
        return f"LookResult of {len(names)} image{'s' * (len(names) != 1)}: {listed}"

    def _repr_html_(self) -> str:
        n, dims, predicted = len(self.answers), self.image.shape[-3:], self.predicted.reshape(-1).tolist()
        image, mask = self.image.reshape(-1, *dims), self.mask.reshape(-1, *self.mask.shape[-2:])
        few = range(min(n, notebook.STEPS))
        probability = self.logits.softmax(-1).amax(-1).reshape(-1)
        names = [f"{words(predicted[k])} {probability[k]:.2f}" for k in few]
        rows = [("", [notebook.pixels(image[k]) for k in few], names)]
        if self.labels:
            drawn = [notebook.outlined(image[k], mask[k], self.labels, self.labels) for k in few]
            rows.append(("parts", drawn, [""] * len(few)))
        parts = notebook.gallery(rows), notebook.legend(self.labels, self.labels), notebook.more(n, len(few), "images")
        return notebook.page(f"{n} generated image{'s' * (n != 1)}", *parts, notebook.table(self.answers))


@dataclass(frozen=True, eq=False, repr=False)
class FittedLink:
    """The fitted link f: activations → style codes.

    Example:
        >>> import lis
        >>> s = lis.study(size="smoke")
        >>> s.link
        FittedLink from 256 units to w of 64: LinearLink, 256 live units
        >>> r = s.pairs("test").r
        >>> s.link(r[0].numpy()).shape, s.link.direction(12).shape
        (torch.Size([64]), torch.Size([64]))
        >>> s.link.units.columns.tolist()[:6]
        ['unit', 'mean', 'std', 'minimum', 'maximum', 'status']
    """

    module: LinkModule
    """On the CPU, frozen; tensors only, with gradients."""
    units: pd.DataFrame
    """A row per unit over the training pairs: unit, mean, std, minimum, maximum, status (`live`, `near-dead`, `dead`),
    step_norm (‖Δw̃‖ from minimum to maximum) and its 95 % interval, where the link is linear."""
    rows: Callable[[Any], Rows]
    """Activations of whatever stands for some."""

    @torch.inference_mode()
    def __call__(self, r: Any) -> Tensor:
        """w̃ `[n, w_dim]` float32 of activations `[n, units]`, of a single one `[w_dim]`; or of pairs, or pictures.

        Raises:
            ValueError: r is of another shape, or not finite.
        """
        rows = self.rows(r)
        return self.module(rows.values).float().reshape(*rows.leading, -1).clone()

    def direction(self, unit: int) -> Tensor:
        """Change of w̃ per unit of activation, `[w_dim]`.

        Raises:
            ValueError: no such unit, or a link that is not linear, which has no such direction.
        """
        index = check_unit(whole(unit, "unit"), len(self.units))
        if not isinstance(self.module, LinearLink):
            raise ValueError(
                f"{type(self.module).__name__} is not linear, so a unit has no one direction in W: expected link='lr' "
                "or 'ridge'; s.tune(…).w has the way of a sample"
            )
        return self.module.direction(index).float()

    def __repr__(self) -> str:
        live, (units, w_dim) = (self.units["status"] == "live").sum(), self._sizes
        return f"FittedLink from {units} units to w of {w_dim}: {type(self.module).__name__}, {live} live units"

    def _repr_html_(self) -> str:
        largest = self.units.sort_values("step_norm", ascending=False)
        return notebook.page(repr(self), notebook.text("Units, the largest step first"), notebook.table(largest))

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.module.settings["units"], self.module.settings["w_dim"]


@dataclass(frozen=True, eq=False, repr=False)
class StageResult:
    """What a stage holds: tables, tensors and facts, by their names.

    Example:
        >>> import lis
        >>> stage = lis.study(size="smoke").stage("link")
        >>> stage
        StageResult of link: tables path, units; tensors link; json fit, link
        >>> stage.table("units")["status"].value_counts().index[0]
        'live'
    """

    name: str
    """Of the stage."""
    artifact: Artifact
    """In the store."""

    @property
    def doc(self) -> str:
        """What it holds, as its stage says: tables, tensors, facts."""
        return inspect.getdoc(REGISTRY[self.name].build) or ""

    @property
    def key(self) -> str:
        """What it is found by: the hash of all that it follows from."""
        return self.artifact.key

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.artifact.path

    @property
    def tables(self) -> list[str]:
        """Names for `table`."""
        return self._names(".parquet")

    def table(self, name: str) -> pd.DataFrame:
        """A table.

        Raises:
            ValueError: there is none of that name, lists those that there are; or the store has lost it.
        """
        return self._read("table", name, ".parquet", self.artifact.table)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Tensors by name, on the CPU.

        Raises:
            ValueError: there are none of that name.
        """
        return self._read("tensors", name, ".safetensors", self.artifact.tensors)

    def json(self, name: str) -> dict[str, Any]:
        """Facts.

        Raises:
            ValueError: there are none of that name.
        """
        return self._read("json", name, ".json", self.artifact.json)

    def _names(self, suffix: str) -> list[str]:
        return sorted(file.removesuffix(suffix) for file in self.artifact.manifest["files"] if file.endswith(suffix))

    def _read(self, kind: str, name: str, suffix: str, read: Callable[[str], Any]) -> Any:
        names = self._names(suffix)
        if name not in names:
            listed = f"expected one of {', '.join(names)}{nearest(str(name), names)}" if names else "it has none"
            raise ValueError(f"stage {self.name!r}: {kind}({name!r}): {listed}")
        try:
            return read(name)
        except FileNotFoundError as error:
            raise ValueError(
                f"stage {self.name!r}: {self.path / (name + suffix)} is no longer there: expected the store as it was; "
                "a new study computes it again"
            ) from error

    @property
    def _contents(self) -> dict[str, str]:
        kinds = {"tables": ".parquet", "tensors": ".safetensors", "json": ".json"}
        return {kind: ", ".join(self._names(suffix)) for kind, suffix in kinds.items() if self._names(suffix)}

    def __repr__(self) -> str:
        return f"StageResult of {self.name}: {'; '.join(f'{kind} {names}' for kind, names in self._contents.items())}"

    def _repr_html_(self) -> str:
        tables = [notebook.text(name) + notebook.table(self.table(name), most=4) for name in self.tables]
        doc = notebook.folded("What it holds", self.doc)
        return notebook.page(f"Stage {self.name}", notebook.facts(self._contents), doc, *tables)
