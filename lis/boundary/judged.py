"""What became of searches, told by their images: reached or why not, and what others than the searched network say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.boundary.job import Job, Paths
from lis.boundary.search import Problems, SearchResult, Settings, identity
from lis.context import Context
from lis.linking.evaluation import TrueFactors
from lis.look import Looker
from lis.statistics import wilson
from lis.types import Generator

FAILURES = {
    "diverged": "no longer finite after {steps} steps",
    "beyond": "called {target}, but w lies beyond 99 % of the training samples",
    "short": "called {target}, but only with p = {probability:.2f} after {steps} steps",
    "unreachable": "the link shows no sample of {target} as {target}",
    "unseen": "r + Δr is {target}, its image is not after {steps} steps",
    "stuck": "the image is not of {target} after {steps} steps, and came no nearer in the second half of them",
    "steps": "the image is not yet of {target} after {steps} steps",
}
"""Why a search fails, the first that holds."""
OTHERS = ("bayes", "witness")
"""Who is asked beside the network that is searched: Bayes' rule, where the generator knows it, and a second
classifier."""
ENDS = ("target", "origin")
STUCK = 1e-3
"""By how much more a target has to be ahead at the end than halfway, for a search to be still under way."""


@runtime_checkable
class Bayes(TrueFactors, Protocol):
    """A generator whose classes are known exactly."""

    class_names: tuple[str, ...]

    def log_posterior(self, w: Tensor) -> Tensor:
        """Log probability `[n, classes]` of every class of the generator given w, for equal priors."""
        ...

    def class_factors(self, class_index: int) -> Tensor:
        """Mean factors `[factors]` of a class."""
        ...


def judged(job: Job, problems: Problems, result: SearchResult, settings: Settings) -> dict[str, Tensor]:
    """The result of searches, and what the images of the original and of the counterfactual are taken for.

    Returns:
        The fields of `SearchResult` by name; w_original, w `[n, w_dim]`; reencoded_original, reencoded (r̃ of the
        images) `[n, units]`; before, after (classes of the images among the classifier's), asked (of r + Δr) `[n]`
        int64; probability (of the target) `[n]`; beyond (w lies beyond 99 % of the training samples) and short (the
        target is the likeliest, though not as likely as was asked for) `[n]` bool; boundary `[n]` (t, NaN without).
    """
    w_original, w = job.codes(problems.r), job.codes(problems.r + result.shift)
    first, last, target = job.looker(w_original), job.looker(w), problems.target.cpu()
    probability = last.softmax.gather(1, target[:, None])[:, 0]
    with torch.inference_mode():
        asked = job.ctx.classifier.head(problems.r + result.shift).argmax(1)
    return {
        **vars(result),
        "w_original": w_original,
        "w": w,
        "reencoded_original": first.r,
        "reencoded": last.r,
        "before": first.prediction,
        "after": last.prediction,
        "asked": asked,
        "probability": probability,
        "beyond": job.region.slack(w.cpu()) < 0,
        "short": (last.prediction == target) & (probability < (settings.until or 0)),
        "boundary": boundary(job, problems, result).mean(1).float(),
    }


def knows_classes(generator: Generator) -> TypeGuard[Bayes]:
    """Whether Bayes' rule is known for what a generator shows."""
    return isinstance(generator, Bayes) and generator.num_classes > 0


@torch.inference_mode()
def others(ctx: Context, w: Tensor) -> dict[str, list[str]]:
    """What others than the classifier take the images of `w [n, w_dim]` for: the name of a class, a list for each of
    `OTHERS`; "" where nobody is asked.

    Bayes' rule answers with one of all classes of the generator, the witness with one of all that it knows.
    """
    said, generator, asked = {who: [""] * len(w) for who in OTHERS}, ctx.generator, ctx.of_witness
    w = w.to(ctx.device)
    if knows_classes(generator):
        said["bayes"] = [generator.class_names[k] for k in generator.log_posterior(w).argmax(1).tolist()]
    if asked and len(w):
        said["witness"] = [asked.classifier.class_names[k] for k in Looker.tuned(asked)(w).prediction.tolist()]
    return said


def others_table(ctx: Context, w: Tensor, w_original: Tensor) -> pd.DataFrame:
    """`others` of counterfactuals and of their originals, `[n, w_dim]` each: bayes, witness, bayes_before,
    witness_before."""
    said = others(ctx, torch.cat([w, w_original]))
    after, before = ({who: told[rows] for who, told in said.items()} for rows in (slice(len(w)), slice(len(w), None)))
    return pd.DataFrame(after | {f"{who}_before": told for who, told in before.items()})


def boundary(job: Job, problems: Problems, result: SearchResult) -> Tensor:
    """Positions before and after the boundary `[n, 2]`, NaN where there is none."""
    both = torch.full((len(result.steps), 2), torch.nan, dtype=torch.float64)
    r, shift, target = (x[result.success.to(x.device)] for x in (problems.r, result.shift, problems.target))
    both[result.success] = Paths(r, shift, target).boundary(job)
    return both


def search_table(ctx: Context, result: Mapping[str, Tensor]) -> pd.DataFrame:
    """A row per search of what `searched` gives.

    Columns: origin, target, origin_index, target_index (indices among the classes of the run), sample_index,
    initialisation, success, failure (a key of `FAILURES`; ""), reason (the same in words), steps, passes, probability
    (of the target, in the last image), before and after (what the images of f(r) and f(r + Δr) are taken for), asked
    (what r + Δr is), r_distance ‖Δr‖, reencoded_distance (between the activations of the two images), w_distance,
    w_cosine (between f(r) and f(r + Δr)), beyond (f(r + Δr) lies beyond 99 % of the training samples), boundary (t on
    the path r + t Δr; NaN where there is none, because the search failed or the first image is of the target class
    already).
    """
    classes, called = np.asarray(ctx.class_names), np.asarray(ctx.classifier.class_names)
    columns: dict[str, Any] = {name: classes[result[name].numpy()] for name in ("origin", "target")}
    columns |= {f"{name}_index": result[name] for name in ("origin", "target")}
    columns |= {name: result[name] for name in ("sample_index", "initialisation", "success")}
    known = torch.tensor([ctx.classifier.class_names.index(name) for name in ctx.class_names])
    columns["failure"] = failures(result, *(known[result[name]] for name in ("origin", "target")))
    columns["reason"] = reasons(columns["failure"], result, columns["target"])
    columns |= {name: result[name] for name in ("steps", "passes", "probability")}
    columns |= {name: called[result[name].numpy()] for name in ("before", "after", "asked")}
    columns |= distances(result) | {name: result[name] for name in ("beyond", "boundary")}
    return pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})


def distances(result: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """How far each counterfactual lies from its original, `[n]`, in R, in R of the images, and in W; see
    `search_table`."""
    return {
        "r_distance": result["shift"].norm(dim=1),
        "reencoded_distance": (result["reencoded"] - result["reencoded_original"]).norm(dim=1),
        "w_distance": (result["w"] - result["w_original"]).norm(dim=1),
        "w_cosine": identity(result["w_original"], result["w"]),
    }


def failures(result: Mapping[str, Tensor], origin: Tensor, target: Tensor) -> list[str]:
    """Why each search failed: a key of `FAILURES`, "" where it did not.

    The first that holds: Δr is no longer finite; the image is the target's, but w is no longer like one of a sample; it
    is the target's, but not as likely as was asked for; of no original of that class, where there are some in the run,
    is f(r) shown as it; r + Δr is the target, as the loss wants it, and its image is not; the target is no further
    ahead than halfway; there were no more steps.

    Args:
        result: of searches, as `judged` gives it.
        origin: original class among the classifier's, `[n]` int64.
        target: likewise.
    """
    stuck = result["ahead"] <= result["halfway"] + STUCK
    recognised = result["before"][result["before"] == origin]
    holds = {
        "diverged": result["diverged"],
        "beyond": (result["after"] == target) & result["beyond"],
        "short": result["short"],
        "unreachable": torch.isin(target, origin) & ~torch.isin(target, recognised),
        "unseen": result["asked"] == target,
        "stuck": stuck,
        "steps": ~stuck,
    }
    first = torch.stack(list(holds.values())).int().argmax(0).tolist()
    keys = list(holds)
    return ["" if success else keys[k] for k, success in zip(first, result["success"].tolist(), strict=True)]


def reasons(failure: Iterable[str], result: Mapping[str, Tensor], target: Iterable[str]) -> list[str]:
    """`FAILURES` in words, "" where there was none, given the steps and the probability of each search."""
    told = zip(failure, target, result["steps"].tolist(), result["probability"].tolist(), strict=True)
    return [
        FAILURES[key].format(target=name, steps=steps, probability=probability) if key else ""
        for key, name, steps, probability in told
    ]


def success_rate(table: pd.DataFrame) -> dict[str, float]:
    """n, rate (of success) with its Wilson interval low, high."""
    n, reached = len(table), int(np.sum(table["success"]))
    low, high = wilson(reached, n)
    return {"n": n, "rate": reached / n, "low": low, "high": high}


def witnessed(table: pd.DataFrame) -> pd.DataFrame:
    """What others than the searched network say of the pictures, a row for each of `OTHERS` that was asked.

    Of a table with a row per search: origin, target, success, and what `others_table` has.

    Columns: who, n (searches, also those that failed), target (how many are reached and called the target), share of
    all with its Wilson interval low, high; origin (share of all that are still called the original); target_before,
    origin_before (shares of all whose image of f(r) they call so, before the search).
    """
    names = (*OTHERS, "target", "origin", "success")
    columns, rows = {name: np.asarray(table[name]) for name in names}, []
    for who, n in ((who, len(table)) for who in OTHERS):
        said = columns[who]
        if not n or np.all(said == ""):
            continue
        agree = int(np.sum((said == columns["target"]) & columns["success"]))
        before = np.asarray(table[f"{who}_before"])
        shares = [float(np.mean(x == columns[end])) for x, end in ((said, "origin"), *((before, e) for e in ENDS))]
        rows.append((who, n, agree, agree / n, *wilson(agree, n), *shares))
    names = ["who", "n", "target", "share", "low", "high", "origin", *(f"{end}_before" for end in ENDS)]
    return pd.DataFrame(rows, columns=names)
