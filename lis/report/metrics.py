"""The numbers of a run as one flat dictionary, for `metrics.json` and for a tracker."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lis.boundary.gradcam import BACKGROUND
from lis.motion.tuned import tuned_units
from lis.report.frames import column, records, where
from lis.report.html import Attempts, Shown
from lis.report.source import SPLITS

if TYPE_CHECKING:
    import pandas as pd

    from lis.store import Artifact

Measured = tuple[dict[str, float], list[Shown]]
"""Numbers by key, and the failed sections in the place of those that are missing."""
_SUMMARY = ("cycle", "random", "within_class", "ratio_random", "ratio_within_class")
_FIT = ("samples", "rank", "dead", "near_dead", "ridge")
_MODELS = {"classifier": ("accuracy", "bayes"), "probe": ("accuracy", "ece", "log_loss")}


def collect_metrics(artifacts: Mapping[str, Artifact]) -> dict[str, float]:
    """Finite numbers of the artifacts that exist; a stage whose numbers fail has none, which the log tells.

    Keys: `<metric>/{cycle, random, within_class, ratio_random, ratio_within_class}`, `class_kept`, `r2`, `r2_within`
    (means over factors), `ari_r`, `ari_w`, `rsa_similarity`, `rsa_dissimilarity` (means over repetitions),
    `link/{samples, rank, dead, near_dead, ridge}`, `acceptance/<split>/<class>`; `classifier/{accuracy, bayes}` of a
    training on part world, `probe/{accuracy, ece, log_loss}` of a linear probe; `strips/{largest_change,
    largest_change_flipped}` of the unit that moves the classifier most; `segmentation/iou_{labelled, exact}` (means
    over labels), `units/{realised, others}` (means over units), `units/relevant/<class>`, `truth/<measure>/{spearman,
    overlap}` (means over labels); `motion/tuned/<kind>` (units tuned for a movement of the whole figure),
    `motion/{local, aligned}` (median local displacement in pixels, share of samples that could be aligned),
    `matching/<kind>/{error, within}` and `matching/r2/<quantity>` of the run's own matcher;
    `counterfactuals/{reached, steps, w_distance}` (share; median and mean of those that
    reach their target), `initialisations/{sparsity, sparsity_asked, cosine, shared}`, `boundary_truth/{bayes_reached,
    bayes_on_path, gap_median, cosine}`, `gradcam/background` (share of the heat for the target just beyond the
    boundary), `adversarial/{reached, seen, mse_ratio}`, `gan_counterfactuals/{arrived, w_distance, r_distance}`.
    """
    return attempt_metrics(artifacts)[0]


def attempt_metrics(artifacts: Mapping[str, Artifact]) -> Measured:
    """The numbers of `collect_metrics`, and a failed section of the report for each stage whose numbers raise."""
    tried = Attempts()
    found: dict[str, float] = {}
    for stage, collect in _COLLECTORS.items():
        if stage in artifacts:
            found |= tried(f"Numbers of {stage}", partial(_finite, collect, artifacts[stage]), {})
    return found, tried.failed


def _finite(collect: Callable[[Artifact], dict[str, float]], artifact: Artifact) -> dict[str, float]:
    return {key: float(value) for key, value in collect(artifact).items() if math.isfinite(value)}


def _model(artifact: Artifact, stage: str, name: str) -> dict[str, float]:
    facts = artifact.json(name)
    return {f"{stage}/{key}": facts[key] for key in _MODELS[stage]}


def _pairs(artifact: Artifact, split: str) -> dict[str, float]:
    return {f"acceptance/{split}/{row['class']}": row["rate"] for row in records(artifact.table("acceptance"))}


def _evaluation(artifact: Artifact) -> dict[str, float]:
    found: dict[str, float] = {}
    if artifact.has("summary"):
        for row in records(artifact.table("summary")):
            found.update({f"{row['metric']}/{name}": row[name] for name in _SUMMARY})
    if artifact.has("kept"):
        found["class_kept"] = next(row["kept"] for row in records(artifact.table("kept")) if row["class"] == "all")
    if artifact.has("factors"):
        found.update(_means(artifact.table("factors"), ("r2", "r2_within")))
    return found


def _strips(artifact: Artifact) -> dict[str, float]:
    first = records(artifact.table("ranking"))[0]
    return {"strips/largest_change": first["change"], "strips/largest_change_flipped": first["flipped"]}


def _truth(artifact: Artifact) -> dict[str, float]:
    summary = artifact.json("summary")
    return {f"truth/{measure}/{name}": value for measure, own in summary.items() for name, value in own.items()}


def _segmentation(artifact: Artifact) -> dict[str, float]:
    """Mean IoU over the labels, on labelled images and on exact masks."""
    summary = artifact.json("summary")
    own = {kind: summary.get(kind) or {} for kind in ("labelled", "exact")}
    return {f"segmentation/iou_{kind}": values["iou"] for kind, values in own.items() if values.get("iou") is not None}


def _units(artifact: Artifact) -> dict[str, float]:
    """How much of what is asked of a unit arrives, and on how many units a class rests."""
    honesty, robustness = artifact.table("honesty"), artifact.table("robustness")
    means = _means(honesty, ("realised", "others"))
    return {f"units/{name}": value for name, value in means.items()} | {
        f"units/relevant/{row['class']}": row["relevant"] for row in records(robustness)
    }


def _counterfactuals(artifact: Artifact) -> dict[str, float]:
    """How many are found, and how far away."""
    table = artifact.table("counterfactuals")
    good = where(table, success=True)
    found = {"counterfactuals/reached": float(column(table, "success").mean())} if len(table) else {}
    if len(good):
        steps, distance = column(good, "steps"), column(good, "w_distance")
        found |= {
            "counterfactuals/steps": float(np.median(steps)),
            "counterfactuals/w_distance": float(distance.mean()),
        }
    return found


def _initialisations(artifact: Artifact) -> dict[str, float]:
    own = _means(artifact.table("sparsity"), ("sparsity", "sparsity_asked"))
    own |= _means(artifact.table("agreement"), ("cosine", "shared"))
    return {f"initialisations/{name}": value for name, value in own.items()}


def _boundary_truth(artifact: Artifact) -> dict[str, float]:
    summary = artifact.json("summary")
    names = ("bayes_reached", "bayes_on_path", "gap_median", "cosine")
    return {f"boundary_truth/{name}": summary[name] for name in names if summary.get(name) is not None}


def _gradcam(artifact: Artifact) -> dict[str, float]:
    table = artifact.table("heat")
    if set(table["label"]) <= {BACKGROUND}:  # without parts everything is background
        return {}
    own = where(table, image="after", of="target", label=BACKGROUND)
    means = _means(own, ("share",))
    return {"gradcam/background": means["share"]} if means else {}


def _adversarial(artifact: Artifact) -> dict[str, float]:
    facts, table = artifact.json("facts"), artifact.table("adversarial")
    found = {f"adversarial/{name}": facts[name] for name in ("reached", "seen") if facts.get(name) is not None}
    if found:
        ratio = table["mse_counterfactual"] / table["mse_adversarial"].clip(lower=1e-30)
        found["adversarial/mse_ratio"] = float(np.median(ratio.to_numpy()))
    return found


def _gan_counterfactuals(artifact: Artifact) -> dict[str, float]:
    own = _means(artifact.table("samples"), ("arrived", "w_distance", "r_distance"))
    return {f"gan_counterfactuals/{name}": value for name, value in own.items()}


def _similarity(artifact: Artifact) -> dict[str, float]:
    table = artifact.table("similarity")
    return _means(table, [name for name in table.columns if name != "repetition"])


def _motion(artifact: Artifact) -> dict[str, float]:
    tracks, tuned = artifact.table("tracks"), artifact.table("tuned")
    found = {"motion/aligned": float(np.mean([reason == "" for reason in tracks["reason"]]))}
    if len(local := column(tracks, "figure")):
        found["motion/local"] = float(np.median(local))
    if len(column(tuned, "q")):
        kinds = dict.fromkeys(tuned["kind"])
        found |= {f"motion/tuned/{kind}": len(tuned_units(tuned, kind)) for kind in kinds}
    return found


def _matching(artifact: Artifact) -> dict[str, float]:
    own = artifact.json("facts")["matcher"]
    rows = records(where(artifact.table("accuracy"), matcher=own))
    poses = records(where(artifact.table("recovered"), matcher=own, way="sequence"))
    found = {f"matching/{row['kind']}/{name}": row[name] for row in rows for name in ("error", "within")}
    return found | {f"matching/r2/{row['what']}": row["r2"] for row in poses}


def _means(table: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    columns = {name: column(table, name) for name in names}
    return {name: float(values.mean()) for name, values in columns.items() if len(values)}


def _link(artifact: Artifact) -> dict[str, float]:
    fit = artifact.json("fit") if artifact.has("fit") else {}
    return {f"link/{key}": fit[key] for key in _FIT if isinstance(fit.get(key), int | float)}


_COLLECTORS: dict[str, Callable[[Artifact], dict[str, float]]] = {
    "evaluation": _evaluation,
    "similarity": _similarity,
    "link": _link,
    "segmentation": _segmentation,
    "units": _units,
    "truth": _truth,
    "motion": _motion,
    "matching": _matching,
    "strips": _strips,
    "counterfactuals": _counterfactuals,
    "initialisations": _initialisations,
    "boundary_truth": _boundary_truth,
    "gradcam": _gradcam,
    "adversarial": _adversarial,
    "gan_counterfactuals": _gan_counterfactuals,
    "classifier": partial(_model, stage="classifier", name="training"),
    "probe": partial(_model, stage="probe", name="probe"),
    **{f"pairs/{split}": partial(_pairs, split=split) for split in SPLITS},
}
