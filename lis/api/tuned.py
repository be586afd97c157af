"""Samples along one unit or direction: pictures, parts and measures beside what arrives in the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from lis.api import notebook
from lis.report.arrival import verdict
from lis.report.tables import records, where
from lis.report.unit import title
from lis.report.wording import changed, number, share, words
from lis.units.perturbation import Perturbation
from lis.units.unit import Traversal, affected_table, measure_table, step_table


@dataclass(frozen=True, eq=False, repr=False)
class TuneResult:
    """n samples along a unit or a direction, in t steps.

    What was asked of the unit need not arrive: `reencoded_share` says how much of it the network finds in the images,
    `own` how far the unit itself moves, `others` how far the others do. A picture alone shows none of it.

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
    own: Tensor
    """Change of the unit, or along the direction, over the same, in its standard deviations over the training pairs:
    `[n]` float32. Below 0 it moves the other way."""
    others: Tensor
    """Root mean square change of the other live units over the same, in theirs: `[n]` float32."""
    more: Tensor
    """Share of the other live units that move more than the tuned one: `[n]` float32, 0.5 by chance; NaN of a
    direction."""
    beyond: Tensor
    """1 where the last w lies beyond 99 % of held-out training samples, or was stopped there: `[n]` float32."""
    step_beyond: Tensor
    """The same of each step, `[n, steps]` float32."""
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

        The change is that since the first step: of an area log₂ of the ratio (1 where it doubles), of an angle degrees,
        followed along the steps, of luminance a share, of entropy bits. NaN where the label is absent at either step,
        or too small for the measure.
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
        """A row per label and measure: label, measure, change (from the first to the last step, mean over samples that
        have the label at both), n (of these), rank (1 the largest of a measure), …

        See `lis.units.unit.affected_table`.
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
            f"sample{'s' * (n != 1)}, {t} steps; {share(_mean(self.reencoded_share))} arrives: own "
            f"{number(_mean(self.own), 2)} std, others {number(_mean(self.others), 2)} std{self._more}, ‖Δw‖ "
            f"{number(_mean(self.step_norm), 2)}, {share(_mean(self.beyond))} beyond 99 %"
        )

    def _repr_html_(self) -> str:
        some = list(dict.fromkeys(row["label"] for row in self._leaders))
        parts = notebook.gallery(self._rows(some)), notebook.legend(self.labels, some)
        more = notebook.more(len(self.traversal.projection), notebook.SAMPLES)
        title = f"{self.title}, {self._range}"
        return notebook.page(title, self._verdict, *parts, more, notebook.facts(self._arrives), self._changes())

    @property
    def _range(self) -> str:
        return f"{number(self.along.low)} to {number(self.along.high)}"

    @property
    def _arrives(self) -> dict[str, str]:
        """What was asked, and what the network finds in the images."""
        whose = ", as given" if self.status == "given" else ", the range over the training pairs"
        what = "the unit itself moves" if self.along.unit >= 0 else "along the direction it is"
        known = {
            "asked": f"{self._range}{whose}",
            "arrives in the network": f"{share(_mean(self.reencoded_share))} of it, when the images are encoded again: "
            f"{what} {number(_mean(self.own), 2)} of its standard deviations",
            "other units move": f"{number(_mean(self.others), 2)} of theirs (root mean square){self._more}",
            "step in W": f"{number(_mean(self.step_norm), 2)}; the last w of {share(_mean(self.beyond))} of the "
            "samples lies beyond 99 % of held-out training samples, or was stopped there",
        }
        if self.status == "near-dead":
            known["near-dead"] = "the unit varies in a handful of training pairs only"
        return known

    @property
    def _verdict(self) -> str:
        """What the pictures are no evidence for, where the others move more than what is tuned."""
        tuned = "the unit that is tuned" if self.along.unit >= 0 else "what is tuned"
        sentence = verdict(_mean(self.own), _mean(self.others), tuned)
        return notebook.strong(sentence) if sentence else ""

    @property
    def _more(self) -> str:
        """How many of the others move more; nothing of a direction."""
        return f", {share(_mean(self.more))} of them more than it" if self.along.unit >= 0 else ""

    def _rows(self, some: Sequence[str]) -> list[tuple[str, list[np.ndarray], list[str]]]:
        result, rows = self.traversal, []
        steps = notebook.evenly(len(result.value), notebook.STEPS)
        for k in range(min(len(result.projection), notebook.SAMPLES)):
            c, p = int(result.class_index[k]), result.class_probability[k]
            last = words(self.known[int(result.prediction[k, -1])])
            name = f"{words(self.class_names[c])}\np {p[0]:.2f} → {p[-1]:.2f}\nat last {last}"
            rows.append((name, [notebook.pixels(result.image[k, t]) for t in steps], self._captions(k, steps)))
            if some:
                drawn = [notebook.outlined(result.image[k, t], result.mask[k, t], self.labels, some) for t in steps]
                rows.append(("parts", drawn, [""] * len(steps)))
        return rows

    def _captions(self, k: int, steps: Sequence[int]) -> list[str]:
        """The value at each step; that nearest to the sample's own is marked."""
        value, at = self.traversal.value[list(steps)], self.traversal.projection[k]
        if self.along.relative:
            at = at.new_zeros(())
        nearest = int((value - at).abs().argmin())
        return [f"{number(float(v), 2)}{' ◂ as it is' * (i == nearest)}" for i, v in enumerate(value)]

    @property
    def _leaders(self) -> list[dict[str, Any]]:
        """The label that changes most by each measure."""
        return records(where(self.affected, rank=1)) if self.labels else []

    def _changes(self) -> str:
        n = len(self.traversal.projection)
        rows = [
            (r["measure"], words(r["label"]), changed(r["measure"], r["change"]), f"{r['n']} of {n}")
            for r in self._leaders
        ]
        columns = ["measure", "part that changes most", "from first to last step", "samples that have it"]
        return notebook.table(pd.DataFrame(rows, columns=columns)) if rows else ""


def _counted(table: pd.DataFrame) -> pd.DataFrame:
    """With the number of the sample in front."""
    rest = [name for name in table if name not in ("sample_index", "class")]
    return table.rename(columns={"sample_index": "sample"}).reindex(columns=["sample", "class", *rest])


def _mean(values: Tensor) -> float:
    return float(values.nanmean())
