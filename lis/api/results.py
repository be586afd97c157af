"""What a study gives: frozen, with shapes, tables and pictures. Of a single sample the dimension n is left out."""

from __future__ import annotations

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
from lis.names import nearest
from lis.quantify.measures import MEASURES
from lis.report.tables import records, where
from lis.report.unit import title
from lis.report.wording import changed, number, share, words
from lis.store import Artifact
from lis.units.perturbation import Perturbation
from lis.units.tuned import long_table
from lis.units.unit import Traversal, affected_table, measure_table, step_table

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

    def __len__(self) -> int:
        return len(self.r)

    @overload
    def __getitem__(self, index: str) -> Tensor: ...
    @overload
    def __getitem__(self, index: int | slice | Sequence[int] | Tensor | np.ndarray) -> Pairs: ...
    def __getitem__(self, index: Any) -> Tensor | Pairs:
        """A tensor by its name, or some of the samples: `[:3]`, a list of numbers, a mask.

        Raises:
            ValueError: there is no tensor of that name.
        """
        names = ("r", "w", "class_index", "sample_index")
        if isinstance(index, str):
            if index not in names:
                raise ValueError(f"pairs[{index!r}]: expected one of {', '.join(names)}{nearest(index, names)}")
            return getattr(self, index)
        if isinstance(index, (int, np.integer)):
            row = range(len(self))[index]
            index = slice(row, row + 1)
        rows = torch.arange(len(self))[torch.as_tensor(index) if not isinstance(index, slice) else index]
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
class TuneResult:
    """n samples along a unit or a direction, in t steps.

    What was asked of the unit need not arrive: `reencoded_share` says how much of it the network finds in the images,
    `off_target` how far its other units move meanwhile. A picture alone shows neither.

    Example:
        >>> import lis
        >>> s = lis.study(size="smoke")
        >>> t = s.tune(s.pairs("test").of("pug")[:2], unit=12, steps=5)
        >>> t.image.shape, t.value.shape, t.reencoded_share.shape
        (torch.Size([2, 5, 3, 64, 64]), torch.Size([5]), torch.Size([2]))
        >>> len(t.answers), t.answers.columns.tolist()[:5]
        (10, ['sample', 'class', 'step', 'projection', 'value'])
    """

    along: Perturbation
    """The unit or direction, and its range."""
    status: str
    """`live` or `near-dead`: whether more than a handful of training pairs vary along it; `given`: its range is not
    theirs."""
    value: Tensor
    """Activation of the unit, or projection on the direction, at each step: `[t]` float32."""
    w: Tensor
    """w̃ `[n, t, w_dim]` float32."""
    image: Tensor
    """`[n, t, 3, H, W]` uint8, at most 256 pixels high."""
    mask: Tensor
    """`[n, t, h, w]` uint8: 0 background, then the labels."""
    measures: Tensor
    """`[n, t, labels, 5]` float32, NaN where a label is absent."""
    r: Tensor
    """Activations of the images, `[n, t, units]` float32: what arrives."""
    probability: Tensor
    """Softmax over all classes that the classifier knows, of those of the study: `[n, t, classes]` float32."""
    prediction: Tensor
    """Index into `known`, `[n, t]` int64."""
    projection: Tensor
    """Activation or projection of the samples themselves, `[n]` float32."""
    reencoded_share: Tensor
    """Share of the asked change that is found when the last and the first image are encoded again, `[n]` float32."""
    off_target: Tensor
    """Root mean square change of the other units over the same, in their standard deviations: `[n]` float32."""
    step_norm: Tensor
    """‖w̃(last) − w̃(first)‖, `[n]` float32."""
    labels: tuple[str, ...]
    """Names of the parts."""
    class_names: tuple[str, ...]
    """The classes of the study."""
    known: tuple[str, ...]
    """The classes of the classifier."""
    traversal: Traversal
    """The same with n, also where a single sample was given."""

    @property
    def predicted(self) -> np.ndarray:
        """Names of the predictions, `[n, t]`."""
        return np.asarray(self.known)[self.prediction.numpy()]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per sample, step, label and measure: sample, class, step, value, label, measure, measured, change.

        The change is that since the first step; see `lis.quantify.change`.
        """
        table = measure_table(self.traversal, self.labels, self.class_names)
        table.insert(3, "value", self.value.numpy()[table["step"]])
        return _counted(table)

    @cached_property
    def answers(self) -> pd.DataFrame:
        """A row per sample and step: sample, class, step, projection, value, probability (of the class),
        `probability_<class>`, prediction, flipped (since the first step).
        """
        return _counted(step_table(self.traversal, self.class_names, self.known))

    @cached_property
    def affected(self) -> pd.DataFrame:
        """A row per label and measure: its change from the first to the last step, and its rank; see
        `lis.units.unit.affected_table`.
        """
        return affected_table(self.traversal, self.labels)

    @property
    def title(self) -> str:
        """`Unit 12`, or the direction."""
        return title({"unit": self.along.unit, "name": self.along.name})

    def __repr__(self) -> str:
        n, t = self.traversal.prediction.shape
        return (
            f"TuneResult of {self.title.lower()} from {number(self.along.low)} to {number(self.along.high)}: {n} "
            f"sample{'s' * (n != 1)}, {t} steps; {share(_mean(self.reencoded_share))} arrives, "
            f"off-target {number(_mean(self.off_target), 2)} std"
        )

    def _repr_html_(self) -> str:
        asked = f"{number(self.along.low)} to {number(self.along.high)}"
        known = {
            "asked": f"{asked}, {'as given' if self.status == 'given' else 'the range over the training pairs'}",
            "arrives in the network": f"{share(_mean(self.reencoded_share))} of it, when the images are encoded again",
            "other units move": f"{number(_mean(self.off_target), 2)} of their standard deviations (root mean square)",
        }
        if self.status == "near-dead":
            known["near-dead"] = "the unit varies in a handful of training pairs only"
        some = [row["label"] for row in self._most]
        parts = notebook.gallery(self._rows(some)), notebook.legend(self.labels, some)
        rest = notebook.more(len(self.traversal.projection), notebook.SAMPLES)
        return notebook.page(f"{self.title}, {asked}", *parts, rest, notebook.facts(known), self._changes())

    def _rows(self, some: Sequence[str]) -> list[tuple[str, list[np.ndarray], list[str]]]:
        result, rows = self.traversal, []
        steps = notebook.evenly(len(result.value), notebook.STEPS)
        for k in range(min(len(result.projection), notebook.SAMPLES)):
            c = int(result.class_index[k])
            p = result.class_probability[k]
            last = words(self.known[int(result.prediction[k, -1])])
            name = f"{words(self.class_names[c])}\np {p[0]:.2f} → {p[-1]:.2f}\nat last {last}"
            values = [number(float(result.value[t]), 2) for t in steps]
            rows.append((name, [notebook.pixels(result.image[k, t]) for t in steps], values))
            if some:
                drawn = [notebook.outlined(result.image[k, t], result.mask[k, t], self.labels, some) for t in steps]
                rows.append(("parts", drawn, [""] * len(steps)))
        return rows

    @property
    def _most(self) -> list[dict[str, Any]]:
        """The label that changes most by each measure; each label once."""
        if not self.labels:
            return []
        top = {row["label"]: row for row in reversed(records(where(self.affected, rank=1)))}
        return list(reversed(top.values()))

    def _changes(self) -> str:
        rows = [(words(r["label"]), r["measure"], changed(r["measure"], r["change"]), r["n"]) for r in self._most]
        columns = ["label", "measure", "change from first to last", "samples"]
        return notebook.table(pd.DataFrame(rows, columns=columns)) if rows else ""


def _counted(table: pd.DataFrame) -> pd.DataFrame:
    """With the number of the sample in front."""
    rest = [name for name in table if name not in ("sample_index", "class")]
    return table.rename(columns={"sample_index": "sample"}).reindex(columns=["sample", "class", *rest])


def _mean(values: Tensor) -> float:
    return float(values.nanmean())


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
            ValueError: there is none of that name; lists those that there are.
        """
        return self.artifact.table(self._checked("table", name, ".parquet"))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Tensors by name, on the CPU.

        Raises:
            ValueError: there are none of that name.
        """
        return self.artifact.tensors(self._checked("tensors", name, ".safetensors"))

    def json(self, name: str) -> dict[str, Any]:
        """Facts.

        Raises:
            ValueError: there are none of that name.
        """
        return self.artifact.json(self._checked("json", name, ".json"))

    def _names(self, suffix: str) -> list[str]:
        return sorted(file.removesuffix(suffix) for file in self.artifact.manifest["files"] if file.endswith(suffix))

    def _checked(self, kind: str, name: str, suffix: str) -> str:
        names = self._names(suffix)
        if name not in names:
            listed = f"expected one of {', '.join(names)}{nearest(str(name), names)}" if names else "it has none"
            raise ValueError(f"stage {self.name!r}: {kind}({name!r}): {listed}")
        return name

    @property
    def _contents(self) -> dict[str, str]:
        kinds = {"tables": ".parquet", "tensors": ".safetensors", "json": ".json"}
        return {kind: ", ".join(self._names(suffix)) for kind, suffix in kinds.items() if self._names(suffix)}

    def __repr__(self) -> str:
        return f"StageResult of {self.name}: {'; '.join(f'{kind} {names}' for kind, names in self._contents.items())}"

    def _repr_html_(self) -> str:
        tables = [notebook.text(name) + notebook.table(self.table(name), most=4) for name in self.tables]
        return notebook.page(f"Stage {self.name}", notebook.facts(self._contents), *tables)
