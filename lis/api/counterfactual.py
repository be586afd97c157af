"""Counterfactuals of single samples: Δr that makes the image of f(r + Δr) one of another class (paper §3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import eq
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.api import notebook
from lis.api.inputs import Rows
from lis.boundary.job import Job
from lis.boundary.judged import distances, failures, judged, others, reasons
from lis.boundary.search import search
from lis.boundary.searches import first_problems, search_settings
from lis.context import Context
from lis.images import page_image
from lis.look import Looker
from lis.report.tables import mean
from lis.report.wording import arrow, number, words


@dataclass(frozen=True, eq=False, repr=False)
class CounterfactualResult:
    """Counterfactuals of n samples; of a single sample the dimension n is left out.

    What is asked, r + Δr, need not be what the image shows: `reencoded` are the activations of the image itself.

    Example:
        >>> import lis
        >>> s = lis.study(size="smoke", witness="partnet_attributes")
        >>> c = s.counterfactual(s.pairs("test").of("pug")[:2], target="chihuahua")
        >>> c
        CounterfactualResult of 2 samples, 2 reached: pug → chihuahua, pug → chihuahua
        >>> c.shift.shape, c.image.shape, c.units.columns.tolist()
        (torch.Size([2, 256]), torch.Size([2, 3, 64, 64]), ['sample', 'unit', 'shift', 'change', 'reencoded_change'])

        Whether the pictures became the other thing is not for this network to say:

        >>> sorted(c.others), c.table[["after", "bayes", "witness"]].shape
        (['bayes', 'witness'], (2, 3))
    """

    r: Tensor
    """Activations of the samples, `[n, units]` float32."""
    shift: Tensor
    """Δr `[n, units]` float32: after the first step whose image is of the target class, or the last; 0 where it
    diverged."""
    success: Tensor
    """Whether the image is of the target class, `[n]` bool."""
    steps: Tensor
    """Steps taken, `[n]` int64."""
    boundary: Tensor
    """t on the path r + t Δr where the answer becomes the target, `[n]` float32; NaN without success, or where the
    image of f(r) is of the target class already."""
    w: Tensor
    """f(r + Δr) `[n, w_dim]` float32."""
    w_original: Tensor
    """f(r) `[n, w_dim]` float32."""
    image: Tensor
    """Of f(r + Δr), `[n, 3, H, W]` uint8, at most 256 pixels high."""
    image_original: Tensor
    """Of f(r), `[n, 3, H, W]` uint8."""
    reencoded: Tensor
    """r̃: activations of the image of f(r + Δr), `[n, units]` float32."""
    reencoded_original: Tensor
    """The same of the image of f(r)."""
    probability: Tensor
    """Of the image of f(r + Δr): softmax over all classes that the classifier knows, `[n, known]` float32."""
    probability_original: Tensor
    """The same of the image of f(r)."""
    std: Tensor
    """Standard deviation of each unit over the training pairs, `[units]` float32."""
    origin: tuple[str, ...]
    """Class of each sample, n of them also where a single one was given."""
    target: tuple[str, ...]
    """The class that each is to have."""
    reason: tuple[str, ...]
    """Why each search failed; "" where it did not."""
    beyond: Tensor
    """Whether f(r + Δr) lies beyond 99 % of the training samples, `[n]` bool: such a search has not succeeded."""
    others: dict[str, tuple[str, ...]]
    """What others than the searched network take the images of f(r + Δr) for: `bayes`, the rule that is optimal, where
    the generator knows it; `witness`, a second classifier, where one is given."""
    known: tuple[str, ...]
    """The classes of the classifier."""

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per sample.

        Columns: sample, origin, target, success, reason, steps, before and after (what the images of f(r) and f(r + Δr)
        are taken for), probability_before and probability_after (of the target), bayes and witness (what these take the
        last image for, where they were asked), r_distance (‖Δr‖), reencoded_distance (between the activations of the
        two images), w_distance, w_cosine, boundary.
        """
        names = ("shift", "reencoded", "reencoded_original", "w", "w_original")
        apart = distances({name: self._many(getattr(self, name)) for name in names})
        p = {"before": self._many(self.probability_original), "after": self._many(self.probability)}
        target = torch.tensor([self.known.index(name) for name in self.target])[:, None]
        columns = {"origin": self.origin, "target": self.target, "success": self.success.reshape(-1).numpy()}
        columns |= {"reason": self.reason, "steps": self.steps.reshape(-1).numpy()}
        columns |= {name: np.asarray(self.known)[each.argmax(1).numpy()] for name, each in p.items()}
        columns |= {f"probability_{name}": each.gather(1, target)[:, 0].numpy() for name, each in p.items()}
        columns |= self.others | {name: values.numpy() for name, values in apart.items()}
        columns |= {"boundary": self.boundary.reshape(-1).numpy()}
        return pd.DataFrame({"sample": range(len(self.origin)), **columns})

    @cached_property
    def units(self) -> pd.DataFrame:
        """A row per sample and unit that varies, the largest |change| of a sample first.

        Columns: sample, unit, shift (Δr), change (Δr in standard deviations over the training pairs), reencoded_change
        (what the two images differ by, in the same: what arrives).
        """
        varies = (self.std > 0).nonzero()[:, 0]
        shift = self._many(self.shift)[:, varies]
        arrived = (self._many(self.reencoded) - self._many(self.reencoded_original))[:, varies] / self.std[varies]
        change = shift / self.std[varies]
        order = change.abs().sort(dim=1, descending=True, stable=True).indices
        columns = {"unit": varies.expand_as(order), "shift": shift, "change": change, "reencoded_change": arrived}
        rows = {name: values.gather(1, order).flatten().numpy() for name, values in columns.items()}
        return pd.DataFrame({"sample": np.arange(len(shift)).repeat(len(varies)), **rows})

    def _many(self, values: Tensor) -> Tensor:
        """With the dimension n."""
        return values.reshape(len(self.origin), -1)

    @property
    def _begun(self) -> str:
        """How many of those reached were of the target class before the search."""
        columns = self.success.reshape(-1).tolist(), self.table["before"], self.target
        begun = sum(success and before == target for success, before, target in zip(*columns, strict=True))
        return f", {begun} of them from the start" if begun else ""

    @property
    def _witnessed(self) -> dict[str, str]:
        """What others say: how many of the pictures they call the target, and the original."""
        rows = {}
        for who, told in self.others.items():
            name = "Bayes' rule" if who == "bayes" else "the witness"
            target, origin = (sum(map(eq, told, ends)) for ends in (self.target, self.origin))
            rows[f"{name} calls it the target"] = f"{target} of {len(told)} (the original: {origin})"
        return rows

    def __repr__(self) -> str:
        n, reached = len(self.origin), int(self.success.sum())
        ways = [arrow(*pair) for pair in zip(self.origin, self.target, strict=True)]
        listed = ", ".join(ways[:3]) + (", …" if n > 3 else "")
        return f"CounterfactualResult of {n} sample{'s' * (n != 1)}, {reached} reached{self._begun}: {listed}"

    def _repr_html_(self) -> str:
        n, few = len(self.origin), range(min(len(self.origin), notebook.SAMPLES))
        images = [x.reshape(n, *x.shape[-3:]) for x in (self.image_original, self.image)]
        rows = []
        for k in few:
            row = self.table.iloc[k]
            name = f"{arrow(self.origin[k], self.target[k])}\n{self.reason[k] or f'{row.steps} steps'}"
            name += f"\nbegins as {words(row.before)}" if row.before == self.target[k] else ""
            captions = [f"{words(row[x])}, p(target) {row[f'probability_{x}']:.2f}" for x in ("before", "after")]
            rows.append((name, [notebook.pixels(x[k]) for x in images], captions))
        lengths = {
            "reached": f"{int(self.success.sum())} of {n}{self._begun}",
            **self._witnessed,
            "asked of all units, ‖Δr‖": number(mean(self.table, "r_distance")),
            "arrives, between the activations of the images": number(mean(self.table, "reencoded_distance")),
        }
        first = self.units[self.units["sample"] == 0].head(6)
        names = {"unit": "unit", "change": "asked, in std", "reencoded_change": "arrives, in std"}
        units = pd.DataFrame({told: first[name] for name, told in names.items()})
        below = notebook.facts(lengths), notebook.text("of the first sample" * (n > 1)), notebook.table(units)
        parts = notebook.gallery(rows), notebook.more(n, len(few)), *below
        return notebook.page("Counterfactual: images of f(r) and f(r + Δr)", *parts)


def counterfactuals(
    ctx: Context, given: Rows, origin: Sequence[str], target: Sequence[str], sample_index: Tensor
) -> CounterfactualResult:
    """The searches of samples, by the settings `counterfactuals` of a study.

    Args:
        ctx: the study's.
        given: activations `[n, units]`.
        origin: class of each sample among the classifier's.
        target: the class that each is to have.
        sample_index: `[n]` int64: which start each has; those of test pairs have that of the stage.

    Raises:
        ValueError: a sample is to go where it is, or an answer is not finite.
    """
    known, job, settings = ctx.classifier.class_names, Job.of(ctx), search_settings(ctx.config.counterfactuals)
    for k, (first, last) in enumerate(zip(origin, target, strict=True)):
        if first == last:
            which = f"sample {k} is" if len(origin) > 1 else "the sample is"
            raise ValueError(f"target={last!r}: {which} of that class already (origin={first!r}); expected another")
    ends = torch.tensor([[known.index(a), known.index(b)] for a, b in zip(origin, target, strict=True)])
    problems = first_problems(job, given.values, ends, sample_index, settings)
    searched = search(job.land(settings), job.judge(settings), problems)
    result = {name: values.cpu() for name, values in judged(job, problems, searched, settings).items()}
    before, after = (Looker(ctx, ctx.batches(), image=page_image)(result[name].float()) for name in ("w_original", "w"))
    same = ("shift", "steps", "success", "boundary", "reencoded_original", "reencoded", "beyond")
    tensors = {
        "r": given.values,
        **{name: result[name] for name in same},
        "w_original": result["w_original"].float(),
        "w": result["w"].float(),
        "image_original": before.image,
        "image": after.image,
        "probability_original": before.softmax,
        "probability": after.softmax,
    }
    if not given.leading:
        tensors = {name: values[0] for name, values in tensors.items()}
    why = reasons(failures(result, problems.origin.cpu(), problems.target.cpu()), result, target)
    names: Any = {"origin": tuple(origin), "target": tuple(target), "known": tuple(known)}
    names |= {"others": {who: tuple(said) for who, said in others(ctx, result["w"]).items() if any(said)}}
    return CounterfactualResult(**tensors, std=job.std.cpu(), reason=tuple(why), **names)
