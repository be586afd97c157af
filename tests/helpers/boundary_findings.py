"""Made-up counterfactuals with the tables of the real stages: what the report on the boundary is tested with."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers.tuned_findings import CLASSES, LABELS, make
from lis.boundary.gradcam import around_table, heat_table
from lis.boundary.judged import witnessed
from lis.quantify.measures import MEASURES
from lis.report.tables import where
from lis.store import Artifact, Draft
from lis.units.tuned import long_table

SAMPLES, STARTS, STEPS, SHOWN = 4, 6, 9, 2
UNITS, W = 40, 16
END = 2.0


def pairs(classes: tuple[str, ...] = CLASSES) -> list[tuple[int, int]]:
    """Ordered pairs, each class to the next first."""
    n = len(classes)
    return [(k, (k + shift) % n) for shift in range(1, n) for k in range(n)]


def all_artifacts(root: Path, rate: float = 0.9, classes: tuple[str, ...] = CLASSES) -> dict[str, Artifact]:
    """Every stage; of the searches a share of `rate` succeeds."""
    walked = trajectories(root, classes) if rate > 0 else trajectories(root, classes, shown=0)
    return {
        "counterfactuals": counterfactuals(root, rate, classes),
        "trajectories": walked,
        "gradcam": gradcam(root, walked),
        "initialisations": initialisations(root, rate, classes),
        "sparse_counterfactuals": sparse(root, rate, classes),
        "boundary_truth": truth(root, classes),
        "adversarial": adversarial(root, classes, shown=SHOWN if rate > 0 else 0),
        "gan_counterfactuals": gan(root, classes),
    }


def counterfactual_table(rate: float, classes: tuple[str, ...]) -> pd.DataFrame:
    """Table "counterfactuals"."""
    rng, rows = np.random.default_rng(0), []
    for origin, target in pairs(classes):
        for index in range(SAMPLES):
            success = bool(rng.random() < rate)
            after = classes[target] if success else classes[origin]
            rows.append(
                {
                    "origin": classes[origin],
                    "target": classes[target],
                    "origin_index": origin,
                    "target_index": target,
                    "sample_index": index,
                    "initialisation": 0,
                    "success": success,
                    "failure": "" if success else "unseen",
                    "reason": "" if success else "r + Δr is the target, its image is not",
                    "steps": int(rng.integers(5, 400)) if success else 2000,
                    "probability": rng.uniform(0.4, 0.7) if success else rng.uniform(0, 0.4),
                    "before": classes[origin],
                    "after": after,
                    "bayes": after if index else classes[origin],
                    "bayes_before": classes[origin],
                    "witness": after if index % 2 else classes[origin],
                    "witness_before": classes[origin],
                    "r_distance": rng.uniform(2, 6),
                    "reencoded_distance": rng.uniform(2, 6),
                    "w_distance": rng.uniform(1, 3),
                    "w_cosine": rng.uniform(0.5, 0.95),
                    "boundary": rng.uniform(0.6, 1) if success else np.nan,
                }
            )
    return pd.DataFrame(rows)


def counterfactuals(root: Path, rate: float = 0.9, classes: tuple[str, ...] = CLASSES) -> Artifact:
    """The artifact of the stage "counterfactuals"."""
    table, rows = counterfactual_table(rate, classes), []
    for o, t in pairs(classes):
        origin, target = classes[o], classes[t]
        own = where(table, origin=origin, target=target)
        good = where(own, success=True)
        share = len(good) / len(own)
        means = {name: float(np.mean(good[name])) if len(good) else np.nan for name in ("probability", "w_distance")}
        means["steps"] = float(np.median(good["steps"])) if len(good) else np.nan
        counts = {
            "n": len(own),
            "reached": len(good),
            "rate": share,
            "low": max(share - 0.2, 0.0),
            "high": min(share + 0.1, 1.0),
        }
        rows.append({"origin": origin, "target": target} | counts | means)

    reached = len(where(table, success=True))
    counts = {"n": len(table), "reached": reached, "rate": reached / len(table)}
    rows.append(rows[0] | {"origin": "all", "target": "all"} | counts)

    def build(draft: Draft) -> None:
        draft.table("counterfactuals", table)
        draft.table("pairs", pd.DataFrame(rows))
        draft.table("witnessed", witnessed(table))
        facts = {
            "objective": "image",
            "until": None,
            "optimizer": "adam",
            "learning_rate": 0.05,
            "max_steps": 2000,
            "check_every": 5,
            "lambda1": 0.6,
            "lambda2": 10.0,
        }
        draft.json("facts", facts | {"l1": 0.0, "nonnegative": True, "class_names": list(classes)} | counts)

    return make(root, "counterfactuals", build, rate=rate)


def looks(rng: np.random.Generator, *size: int) -> dict[str, Tensor]:
    """Images and masks that are noise."""
    image = torch.from_numpy(rng.integers(0, 255, (*size, 3, 16, 16), np.uint8))
    mask = torch.from_numpy(rng.integers(0, len(LABELS) + 1, (*size, 8, 8)).astype(np.uint8))
    return {"image": image, "mask": mask}


def trajectories(root: Path, classes: tuple[str, ...] = CLASSES, shown: int = SHOWN) -> Artifact:
    """The artifact of the stage "trajectories": the ear grows steadily, the leg jumps at the boundary."""
    rng, position = np.random.default_rng(1), np.linspace(0, END, STEPS)
    own, boundary = pairs(classes)[:shown], np.array([0.86, 0.7])[:shown]
    rows = pd.DataFrame(
        {
            "trajectory": range(shown),
            "origin": [classes[o] for o, _ in own],
            "target": [classes[t] for _, t in own],
            "origin_index": [o for o, _ in own],
            "target_index": [t for _, t in own],
            "sample_index": range(shown),
            "boundary": boundary,
            "steps": 40,
            "probability": 0.6,
            "before_answer": [classes[o] for o, _ in own],
            "after_answer": [classes[t] for _, t in own],
        }
    )
    p = 1 / (1 + np.exp(-12 * (position - boundary[:, None])))
    moved = np.zeros((shown, STEPS, len(LABELS), 5))
    moved[:, :, LABELS.index("ear"), :] = position[:, None]
    moved[:, :, LABELS.index("leg"), :] = -1.0 * (position > boundary[:, None])[..., None]
    moved[:, :, LABELS.index("tongue"), :] = np.nan
    normalised = moved / np.maximum(np.nanmax(np.abs(moved), axis=1, keepdims=True, initial=0), 1e-9)
    probability = np.full((shown, STEPS, len(classes)), 0.0)
    for k, (o, t) in enumerate(own):
        probability[k, :, o], probability[k, :, t] = 1 - p[k], p[k]
    prediction = torch.from_numpy(probability.argmax(2))
    axes = {"trajectory": range(shown), "step": range(STEPS)}

    def build(draft: Draft) -> None:
        shapes = {"w": torch.zeros(shown, STEPS, W), "measures": torch.from_numpy(moved).float()}
        answers = {"probability": torch.from_numpy(probability).float(), "prediction": prediction}
        base = {"position": torch.from_numpy(position).float(), "boundary": torch.from_numpy(boundary).float()}
        draft.tensors("trajectories", base | shapes | answers | looks(rng, shown, STEPS))
        near = {name: values[:, 3:5] for name, values in (shapes | answers).items()}
        draft.tensors("around", {"position": torch.zeros(shown, 2)} | near | looks(rng, shown, 2))
        draft.table("trajectories", rows)
        names = np.asarray(classes)[prediction.numpy()]
        columns = {"position": position, "probability": p, "origin_probability": 1 - p, "prediction": names}
        columns |= {"beyond": position > 1.5}
        mse = 0.01 * position
        draft.table("steps", long_table(axes, columns | {"mse": mse, "mse_normalised": mse / mse.max()}))
        parts = axes | {"label": LABELS, "measure": MEASURES}
        values = {"position": position[:, None, None], "measured": moved, "change": moved, "normalised": normalised}
        draft.table("measures", long_table(parts, values))
        pair = {name: parts[name] for name in ("trajectory", "label", "measure")}
        draft.table(
            "around",
            long_table(pair, {"before": moved[:, 3], "after": moved[:, 4], "change": moved[:, 4] - moved[:, 3]}),
        )
        draft.table("jumps", jumps(pair, moved, boundary, position))
        facts = {
            "labels": list(LABELS),
            "class_names": list(classes),
            "path_end": END,
            "left_out": {"lpips": "no weights"},
        }
        draft.json(
            "facts", facts | {"failed": [{"origin": "pug", "target": "chihuahua", "reason": "no search succeeded"}]}
        )

    return make(root, "trajectories", build, shown=shown)


def jumps(axes: Any, moved: np.ndarray, boundary: np.ndarray, position: np.ndarray) -> pd.DataFrame:
    """Table "jumps"."""
    steps = np.diff(moved, axis=1)
    place = np.searchsorted(position, boundary) - 1
    jump = steps[np.arange(len(boundary)), place]
    mean = np.abs(steps).mean(1)
    score = np.divide(np.abs(jump), mean, out=np.full(mean.shape, np.nan), where=mean > 0)
    rest = (np.abs(steps).sum(1) - np.abs(jump)) / (steps.shape[1] - 1)
    seen = np.broadcast_to(np.array([name != "eye" for name in LABELS])[:, None], score.shape)
    table = long_table(axes, {"jump": jump, "elsewhere": rest, "score": score, "bend": 0.0, "interpreted": seen})
    rank = table["score"].where(table["interpreted"]).groupby(table["trajectory"]).rank(ascending=False, method="first")
    return table.assign(rank=rank.fillna(0).astype(int))


def gradcam(root: Path, walked: Artifact) -> Artifact:
    """The artifact of the stage "gradcam"."""
    shown = len(walked.table("trajectories"))
    rng = np.random.default_rng(2)
    heat = torch.from_numpy(rng.uniform(0, 1, (shown, 4, 2, 16, 16))).float() ** 3
    made = looks(rng, shown, 4)

    def build(draft: Draft) -> None:
        if shown:
            draft.tensors("heat", {"heat": heat, "image": made["image"]})
        draft.table("heat", heat_table(heat, made["mask"], LABELS))
        draft.table("around", around_table(heat))

    return make(root, "gradcam", build, shown=shown)


def initialisations(root: Path, rate: float = 0.9, classes: tuple[str, ...] = CLASSES) -> Artifact:
    """The artifact of the stage "initialisations"."""
    rng, rows, agreed = np.random.default_rng(3), [], []
    for k, (o, t) in enumerate(pairs(classes)):
        for index in range(2):
            pair = {"origin": classes[o], "target": classes[t], "sample_index": index}
            good = rng.random(STARTS) < rate
            sparsity = np.where(good, 0.2 + 0.05 * k + rng.normal(0, 0.02, STARTS), np.nan)
            rows += [
                pair | {"initialisation": i, "success": bool(good[i]), "sparsity": sparsity[i]} for i in range(STARTS)
            ]
            cosine = rng.uniform(0.3, 0.9) if good.sum() > 1 else np.nan
            agreed.append(pair | {"n": int(good.sum()), "cosine": cosine, "shared": cosine / 2, "cosine_asked": 0.1})
    table = pd.DataFrame(rows).assign(steps=10)
    table = table.assign(sparsity_asked=table["sparsity"] - 0.1)
    known = table.groupby(["origin", "target"], sort=False)["sparsity"]
    means = pd.DataFrame({"n": known.count(), "mean": known.mean(), "std": known.std()})
    means = means.assign(low=known.quantile(0.25), high=known.quantile(0.75)).reset_index()
    agreement = pd.DataFrame(agreed).assign(cosine_low=0.1, cosine_high=0.95)
    units = long_table(
        {"origin": classes[:1], "target": classes[1:2], "unit": [3, 9]}, {"share": [1.0, 0.5], "change": [2.0, -1.0]}
    )

    def build(draft: Draft) -> None:
        tables = {"sparsity": table, "agreement": agreement, "pair_sparsity": means, "units": units}
        for name, value in tables.items():
            draft.table(name, value)

    return make(root, "initialisations", build, rate=rate)


def sparse(root: Path, rate: float = 0.9, classes: tuple[str, ...] = CLASSES) -> Artifact:
    """The artifact of the stage "sparse_counterfactuals"."""
    table = pd.DataFrame({"l1": [0.0, 0.1, 1.0, 10.0], "n": 24, "rate": [rate, rate, 0.8 * rate, 0.2 * rate]})
    good = (
        {"probability": [0.6, 0.55, 0.5, 0.45], "units": [38.0, 20.0, 8.0, 3.0]}
        if rate
        else {"probability": np.nan, "units": np.nan}
    )
    table = table.assign(low=table["rate"] * 0.8, high=np.minimum(table["rate"] * 1.1, 1), **good)
    table = table.assign(units_low=table["units"] - 2, units_high=table["units"] + 2)
    table = table.assign(bayes=table["rate"] / 2, witness=np.nan)
    return make(root, "sparse_counterfactuals", lambda draft: draft.table("summary", table), rate=rate)


def truth(root: Path, classes: tuple[str, ...] = CLASSES) -> Artifact:
    """The artifact of the stage "boundary_truth"."""
    rng, names = np.random.default_rng(4), ("ear_length", "leg_length", "fur_hue", "x")
    table = counterfactual_table(1.0, classes)
    classifier = rng.uniform(0.5, 1, len(table))
    bayes = np.where(rng.random(len(table)) < 0.7, classifier + rng.normal(0.2, 0.1, len(table)), np.nan)
    rows = table[["origin", "target", "sample_index"]].assign(classifier=classifier, bayes=bayes)
    rows = rows.assign(
        bayes_before=table["origin"],
        bayes_after=table["target"],
        posterior=rng.uniform(0, 1, len(table)),
        gap=bayes - classifier,
    )
    axes = {"origin": [classes[o] for o, _ in pairs(classes)]}
    change, pairs_ = rng.normal(0, 1, (len(axes["origin"]), len(names))), pairs(classes)
    factors = pd.concat(
        [
            pd.DataFrame(
                {
                    "origin": classes[o],
                    "target": classes[t],
                    "factor": names,
                    "change": change[k],
                    "difference": 2 * change[k],
                    "n": 4,
                }
            )
            for k, (o, t) in enumerate(pairs_)
        ]
    )
    position = np.linspace(0, END, STEPS)
    paths = [
        pd.DataFrame(
            {
                "origin": classes[o],
                "target": classes[t],
                "sample_index": 0,
                "step": range(STEPS),
                "position": position,
                "bayes_probability": position / END,
                "classifier_probability": (position > 1) * 1.0,
            }
        )
        for o, t in pairs_[:SHOWN]
    ]
    summary = {"n": len(table), "bayes_reached": 0.6, "bayes_on_path": 0.7, "gap_median": 0.21, "cosine": 0.45}

    def build(draft: Draft) -> None:
        draft.table("boundaries", rows)
        draft.table("factors", factors)
        draft.table("posterior_paths", pd.concat(paths, ignore_index=True))
        draft.table(
            "factor_paths",
            paths[0][["origin", "target", "sample_index", "step", "position"]].assign(factor="x", value=0.0),
        )
        draft.json("summary", summary)

    return make(root, "boundary_truth", build)


def adversarial(root: Path, classes: tuple[str, ...] = CLASSES, shown: int = SHOWN) -> Artifact:
    """The artifact of the stage "adversarial"."""
    rng = np.random.default_rng(5)
    table = counterfactual_table(1.0, classes).iloc[: None if shown else 0]
    n = len(table)
    rows = table[["origin", "target", "sample_index"]].assign(row=range(n), goal=table["probability"])
    rows = rows.assign(probability=rows["goal"], reached=True, steps=9)
    for kind, size in (("counterfactual", 0.02), ("adversarial", 1e-4)):
        rows = rows.assign(
            **{
                f"mse_{kind}": size * rng.lognormal(0, 0.3, n),
                f"largest_{kind}": 0.3,
                f"coarse_{kind}": 0.6 if size > 0.01 else 0.1,
            }
        )
    rows = rows.assign(cycled=rows["target"], seen=rng.random(n) < 0.8)
    moved = long_table({"label": LABELS, "measure": MEASURES}, {"counterfactual": 0.3, "adversarial": 0.01, "n": n})
    made = torch.from_numpy(rng.integers(0, 255, (shown, 4, 3, 16, 16), np.uint8))
    noise = (
        torch.from_numpy(rng.normal(0, 1, (shown, 2, 3, 16, 16))).float()
        * torch.tensor([0.2, 0.01])[:, None, None, None]
    )

    def build(draft: Draft) -> None:
        draft.table("adversarial", rows)
        draft.table("measures", moved)
        draft.table("examples", rows.iloc[:shown][["origin", "target", "sample_index"]].assign(row=range(shown)))
        if shown:
            draft.tensors("examples", {"image": made, "difference": noise})
        shares = {"reached": 1.0, "seen": float(rows["seen"].mean())} if shown else {}
        draft.json("facts", {"labels": list(LABELS), "n": n} | shares)

    return make(root, "adversarial", build, shown=shown)


def gan(root: Path, classes: tuple[str, ...] = CLASSES) -> Artifact:
    """The artifact of the stage "gan_counterfactuals"."""
    rng, both = np.random.default_rng(6), list(permutations(classes, 2))
    pair = [{"origin": o, "target": t} for o, t in both]
    samples = pd.DataFrame([p | {"sample_index": k} for p in pair for k in range(SAMPLES)])
    n = len(samples)
    samples = samples.assign(
        arrived=rng.random(n) < 0.9, probability=rng.uniform(0.5, 1, n), boundary=0.5, w_distance=3.0, r_distance=8.0
    )
    samples = samples.assign(beyond=False, success=samples["arrived"], witness="", witness_before="")
    samples = samples.assign(bayes=samples["target"], bayes_before=samples["origin"])
    measures = pd.concat(
        [
            long_table({"label": LABELS, "measure": MEASURES}, {"change": rng.normal(0, 0.3, (5, 5))}).assign(**p)
            for p in pair
        ],
        ignore_index=True,
    )
    seen = measures["label"] != "eye"
    rank = (
        measures["change"]
        .abs()
        .where(seen)
        .groupby([measures["origin"], measures["target"], measures["measure"]])
        .rank(ascending=False)
    )
    measures = measures.assign(low=-0.1, high=0.1, n=SAMPLES, interpreted=seen, rank=rank.fillna(0).astype(int))
    units = pd.concat(
        [
            pd.DataFrame({"unit": rng.permutation(UNITS), "change": np.sort(rng.exponential(1, UNITS))[::-1]}).assign(
                **p
            )
            for p in pair
        ],
        ignore_index=True,
    )
    units = units.assign(standard=units["change"], agree=1.0, rank=np.tile(np.arange(1, UNITS + 1), len(pair)))
    shown = pd.DataFrame(
        [{"origin": classes[k], "target": classes[k + 1], "sample_index": 0, "row": k} for k in range(2)]
    )
    tuned = [
        {
            "example": k,
            "unit": 5 * k + u,
            "change": 2.0 - u,
            "standard": 2.0,
            "shift": 2.1,
            "own": 1.8,
            "others": 0.4,
            "more": 0.1,
            "beyond": 0.5,
            "step_norm": 3.0,
            "minimum": 0.0,
            "maximum": 4.0,
            "activation": 1.2,
            "label": LABELS[u] if u < 2 else "",
            "measure": MEASURES[u],
            "measured": 0.4 if u < 2 else np.nan,
        }
        for k in range(2)
        for u in range(3)
    ]
    p = np.linspace(0, 1, STEPS)

    def images(*size: int) -> dict[str, Tensor]:
        values = {"measures": torch.rand(*size, len(LABELS), 5), "probability": torch.rand(*size, len(classes))}
        return looks(rng, *size) | values | {"prediction": values["probability"].argmax(-1)}

    def build(draft: Draft) -> None:
        tables = {
            "samples": samples,
            "witnessed": witnessed(samples),
            "measures": measures,
            "units": units,
            "examples": shown,
            "tuned": pd.DataFrame(tuned),
        }
        for name, value in tables.items():
            draft.table(name, value)
        draft.tensors("paths", {"position": torch.from_numpy(p).float()})
        draft.tensors("examples", images(2, STEPS))
        draft.tensors("tuned", images(6, 4))
        draft.json("facts", {"labels": list(LABELS), "class_names": list(classes)})

    return make(root, "gan_counterfactuals", build)
