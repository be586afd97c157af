"""What answers lose without some units of a layer (Bau et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.api import notebook
from lis.api.inputs import whole
from lis.context import Context
from lis.dissection.ablation import ablated_logits, ablation_values, balanced_class_accuracy, require_value
from lis.dissection.importance import ImportanceConfig, importance
from lis.dissection.layer_data import layer_data
from lis.dissection.room import map_shape
from lis.linking.pairs import pairs
from lis.report.tables import records
from lis.report.wording import arrow, counted, number, signed, words
from lis.statistics import RANGE
from lis.streams import Stream

_LISTED = 8
"""Units that a title names."""


@dataclass(frozen=True, eq=False, repr=False)
class AblationResult:
    """Answers to the test pairs with all units of a layer, and with some of them replaced by a constant.

    A loss alone says little: `table` has that of as many random units beside it. With `pairs.accept=correct`, the
    default, the whole network is right on every pair, so that no class can gain.

    Example:
        >>> import lis
        >>> a = lis.study(size="smoke", pairs={"accept": "any"}).ablate(units=[3, 7])
        >>> a.table.columns.tolist()
        ['class', 'samples', 'balanced_accuracy', 'ablated', 'change', 'control', 'low', 'high']
        >>> a.units, a.layer, len(a.before) == len(a.after)
        ((3, 7), 'body', True)
    """

    units: tuple[int, ...]
    """The units that were ablated."""
    layer: str
    value: str
    """What replaced their activations: "zero", "mean" or "quantile" (of the train pairs, as in the stage)."""
    table: pd.DataFrame
    """A row per class: samples; its balanced accuracy against the others with all units, and ablated; change; control
    (mean change without as many random units), low, high (95 % of these draws)."""
    class_index: Tensor
    """Of the samples, `[n]` int64 into the study's classes."""
    before: Tensor
    """Answers with all units, `[n]` int64 into the study's classes."""
    after: Tensor
    """Answers without the units, `[n]` int64."""
    class_names: tuple[str, ...]
    """The classes of the study."""
    images: Callable[[Tensor], Tensor]
    """Indices of samples `[k]` → images `[k, 3, h, w]` uint8, for a notebook."""

    @cached_property
    def flips(self) -> pd.DataFrame:
        """Samples whose answer changes: sample, class, before, after (names)."""
        rows = (self.before != self.after).nonzero()[:, 0]
        names = np.asarray(self.class_names)
        columns = {"class": self.class_index, "before": self.before, "after": self.after}
        return pd.DataFrame({"sample": rows.numpy()} | {name: names[x[rows].numpy()] for name, x in columns.items()})

    def __repr__(self) -> str:
        change, control = (number(float(np.nanmean(self.table[name])), 2) for name in ("change", "control"))
        return (
            f"AblationResult of {self._named} of {self.layer}: balanced accuracy {change} (mean over classes), beside "
            f"{control} without as many random ones; {len(self.flips)} of {len(self.before)} answers change"
        )

    @property
    def _named(self) -> str:
        listed = ", ".join(map(str, self.units[:_LISTED])) + (", …" if len(self.units) > _LISTED else "")
        return f"{counted(len(self.units), 'unit')} ({listed})"

    def _repr_html_(self) -> str:
        flips = self.flips.head(notebook.SAMPLES)
        images = self.images(torch.tensor(flips["sample"].to_numpy(dtype=np.int64)))
        rows = [
            (f"{words(row['class'])}\n{arrow(row['before'], row['after'])}", [notebook.pixels(image)], [""])
            for row, image in zip(records(flips), images, strict=True)
        ]
        table = pd.DataFrame(
            {
                "class": [words(name) for name in self.table["class"]],
                "with all units": [number(x) for x in self.table["balanced_accuracy"]],
                "ablated": [number(x) for x in self.table["ablated"]],
                "change": [signed(x, 3) for x in self.table["change"]],
                "random units": [
                    f"{signed(row['control'], 3)} [{signed(row['low'], 3)}, {signed(row['high'], 3)}]"
                    for row in records(self.table)
                ],
            }
        )
        caption = f"Balanced accuracy of each class on {len(self.before)} test samples; value: {self.value}."
        parts = notebook.text(caption), notebook.table(table, len(table)), notebook.gallery(rows)
        return notebook.page(repr(self), *parts, notebook.more(len(self.flips), len(rows), "changed answers"))


def ablated(
    ctx: Context, units: Any, layer: str | None, value: str | None, images: Callable[[Tensor], Tensor]
) -> AblationResult:
    """Answers to the test pairs of a run without some units, beside those without as many random ones.

    Args:
        ctx: the run.
        units: their numbers.
        layer: as of `importance.layer`; None: that of the settings.
        value: "zero", "mean" or "quantile"; None: that of the settings.
        images: of style codes.

    Raises:
        ValueError: no unit, one twice, one that the layer lacks, another layer or value than there are, or too few
            samples for a quantile.
    """
    settings: ImportanceConfig = vars(ctx.config)["importance"]
    value = settings.value if value is None else value
    require_value(value)
    settings = replace(settings, layer=layer or settings.layer, value=value)
    changed: dict[str, Any] = {"importance": settings}
    ctx = replace(ctx, config=replace(ctx.config, **changed))
    importance.require(ctx)
    numbers = unit_numbers(units, map_shape(ctx, "importance")[0])
    values = None if settings.value == "zero" else _train_values(ctx, settings)
    data = layer_data(ctx, settings, pairs(ctx, "test").tensors("pairs"))
    values = torch.zeros(data.activations.shape[1]) if values is None else values

    def logits(chosen: Sequence[int]) -> Tensor:
        index = torch.tensor(chosen, dtype=torch.int64)
        return ablated_logits(data.tail, data.activations, index, values)

    rng = Stream("importance", ctx.config.seed).rng(index=2)
    draws = [rng.choice(len(values), len(numbers), replace=False).tolist() for _ in range(settings.draws)]
    before, after, control = logits([]), logits(numbers), [logits(draw) for draw in draws]
    accuracy = [balanced_class_accuracy(answers, data.class_index) for answers in (before, after, *control)]
    return AblationResult(
        tuple(numbers),
        settings.layer or str(ctx.classifier.cam_layer),
        settings.value,
        _table(ctx.class_names, data.class_index, accuracy[0], accuracy[1], torch.stack(accuracy[2:])),
        data.class_index,
        before.argmax(1),
        after.argmax(1),
        tuple(ctx.class_names),
        lambda rows: images(data.w[rows]),
    )


def _train_values(ctx: Context, settings: ImportanceConfig) -> Tensor:
    """Constants of ablated units `[U]`, of the train pairs; their maps are gone before those of the test pairs come."""
    activations = layer_data(ctx, settings, pairs(ctx, "train").tensors("pairs")).activations
    return ablation_values(activations, settings.value, settings.quantile)  # pyright: ignore[reportArgumentType]


def unit_numbers(units: Any, count: int) -> list[int]:
    """The units that are asked for, of a layer of `count`: one, or several.

    Raises:
        ValueError: none, one twice, or one that the layer lacks.
    """
    given = units.flatten().tolist() if isinstance(units, (Tensor, np.ndarray)) else units
    given = list(given) if isinstance(given, (list, tuple, range, set)) else [given]
    numbers = [whole(unit, "units") for unit in given]
    if not numbers or len(set(numbers)) < len(numbers) or not all(0 <= unit < count for unit in numbers):
        raise ValueError(f"units={numbers!r:.80}: expected one or more different units of the layer, 0 to {count - 1}")
    return numbers


def _table(names: Sequence[str], index: Tensor, before: Tensor, after: Tensor, control: Tensor) -> pd.DataFrame:
    """Table of a result, of balanced accuracies `[C]` and, without random units, `[draws, C]`."""
    low, high = (control - before).quantile(torch.tensor(RANGE, dtype=before.dtype), dim=0)
    columns = {"balanced_accuracy": before, "ablated": after, "change": after - before}
    columns |= {"control": (control - before).mean(0), "low": low, "high": high}
    samples = index.bincount(minlength=len(names)).tolist()
    return pd.DataFrame({"class": list(names), "samples": samples} | {name: x.numpy() for name, x in columns.items()})
