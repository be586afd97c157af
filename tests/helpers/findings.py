"""Artifacts with the tables of the real stages and made-up numbers, for tests of what is drawn and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from helpers.fakes import make_config
from lis.config import LeastSquaresConfig, LinkConfig, MLPConfig, RidgeConfig
from lis.linking.similarity import ALL, STATISTICS, WITHIN
from lis.report.tables import column, records, where
from lis.store import Artifact, Draft, Recipe, Store

NAMES = ("border_collie", "pug", "chihuahua")
LINKS: dict[str, Callable[[], LinkConfig]] = {
    "lr": LeastSquaresConfig,
    "ridge": RidgeConfig,
    "fc_l1": MLPConfig,
    "fc_l2": lambda: MLPConfig(pc_weight=1.0),
}
METRICS = {"mse_w": (0.15, 0.3, 0.8), "pixel_l2": (0.03, 0.11, 0.14), "features": (2.0, 5.0, 9.0)}
"""Means of cycle, within-class and random."""


def make_ctx(root: Path, names: tuple[str, ...] = NAMES, link: str = "lr", **overrides: Any) -> Any:
    """As much of a context as a report reads; `overrides` as for `helpers.fakes.make_config`."""
    config = make_config(root, names, link=LINKS[link](), **overrides)
    generator = SimpleNamespace(
        domain="partworld", num_classes=len(names), w_dim=64, resolution=16, true_factors=lambda w: w
    )
    classifier = SimpleNamespace(units=40)
    return SimpleNamespace(
        config=config,
        generator=generator,
        classifier=classifier,
        device=torch.device("cpu"),
        class_names=names,
        store=Store(Path(config.store)),
    )


def make_artifacts(
    root: Path, names: tuple[str, ...] = NAMES, link: str = "lr", scale: float = 1.0
) -> dict[str, Artifact]:
    """All stages of a run; `scale` multiplies the cycle's distances."""
    store, settings = Store(root), {"names": list(names), "link": link, "scale": scale}
    builds: dict[str, Callable[[Draft], None]] = {
        "pairs/train": lambda draft: draft.table("acceptance", acceptance(names)),
        "pairs/test": lambda draft: draft.table("acceptance", acceptance(names)),
        "link": lambda draft: _link(draft, link),
        "evaluation": lambda draft: _evaluation(draft, names),
        "similarity": _similarity,
    }
    return {stage: store.make(Recipe(stage, 1, settings), build) for stage, build in builds.items()}


def acceptance(names: tuple[str, ...]) -> pd.DataFrame:
    """Table "acceptance"."""
    drawn = 50 + np.arange(len(names))
    return pd.DataFrame({"class": names, "drawn": drawn, "accepted": 40, "rate": 40 / drawn})


def similarity() -> pd.DataFrame:
    """Table "similarity"."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({"repetition": range(8)} | {name: rng.uniform(0.5, 0.9, 8) for name in STATISTICS})


def permutations() -> pd.DataFrame:
    """Table "permutations" of the same stage."""
    rows = [(name, ALL) for name in STATISTICS[:4]] + [(name, WITHIN) for name in STATISTICS[2:]]
    told = {"value": 0.7, "mean": 0.01, "low": -0.05, "high": 0.06, "p": 0.01, "permutations": 99}
    return pd.DataFrame([{"statistic": name, "exchanged": exchanged} | told for name, exchanged in rows])


def random_classes(draws: int = 5) -> pd.DataFrame:
    """Table "random_classes" of the same stage."""
    rng = np.random.default_rng(1)
    columns = {"draw": range(draws), "classes": ["hare, mole"] * draws}
    return pd.DataFrame(columns | {name: rng.uniform(0.1, 0.9, draws) for name in STATISTICS})


def _similarity(draft: Draft) -> None:
    draft.table("similarity", similarity())
    draft.table("permutations", permutations())
    draft.table("random_classes", random_classes())
    draft.table("refused", pd.DataFrame({"class": ["lynx"]}))


def units(linear: bool = True) -> pd.DataFrame:
    """Table "units": 40, of which 3 dead and 2 near-dead."""
    step = np.random.default_rng(0).lognormal(0, 0.7, 40)
    status = ["dead"] * 3 + ["near-dead"] * 2 + ["live"] * 35
    steps = {"step_norm": step, "step_norm_low": 0.8 * step, "step_norm_high": 1.3 * step}
    table = pd.DataFrame({"unit": range(40), "mean": 1.0, "std": 1.0, "minimum": 0.0, "maximum": 3.0, "status": status})
    return table.assign(**(steps if linear else dict.fromkeys(steps, np.nan)))


def path(chosen: int = 0) -> pd.DataFrame:
    """Table "path"; its first point has no degrees of freedom left."""
    ridge = np.concatenate([[0.0], np.logspace(-6, 2, 9)])
    error = np.concatenate([[np.inf], 0.15 + 0.01 * np.arange(9) ** 2])
    step = 5 / (1 + 30 * ridge**0.5)
    return pd.DataFrame({"ridge": ridge, "gcv_mse": error, "mean_step_norm": step, "chosen": np.arange(10) == chosen})


def curve() -> pd.DataFrame:
    """Table "curve", best at epoch 12."""
    epoch = np.arange(20)
    return pd.DataFrame(
        {"epoch": epoch, "train_loss": 1 / (1 + epoch), "validation_loss": 0.2 + 0.01 * (epoch - 12) ** 2}
    )


def samples(names: tuple[str, ...] = NAMES, scale: float = 1.0, n: int = 30) -> pd.DataFrame:
    """Table "samples"."""
    rng, parts = np.random.default_rng(1), []
    for metric, (cycle, within, random) in METRICS.items():
        for pairing, mean in (("cycle", scale * cycle), ("within-class", within), ("random", random)):
            for name in names:
                values = mean * rng.lognormal(0, 0.3, n)
                rows = {"class": name, "sample_index": range(n), "metric": metric, "pairing": pairing, "value": values}
                parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Table "summary" of the table "samples"."""
    rows = []
    for metric in METRICS:
        row: dict[str, Any] = {"metric": metric, "unit": f"unit of {metric}"}
        for pairing in ("cycle", "within-class", "random"):
            values = column(where(table, metric=metric, pairing=pairing), "value")
            name, mean = pairing.replace("-", "_"), values.mean()
            row |= {name: mean, f"{name}_low": 0.97 * mean, f"{name}_high": 1.04 * mean, "n": len(values)}
        ratios = {f"ratio_{name}": row["cycle"] / row[name] for name in ("random", "within_class")}
        rows.append(row | ratios | {"p_random": 0.0, "p_within_class": 1e-5})
    return pd.DataFrame(rows)


def kept(names: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """Table "kept"."""
    share = np.append(0.8 + 0.05 * np.arange(len(names)), 0.875)
    return pd.DataFrame({"class": [*names, "all"], "kept": share, "low": share - 0.05, "high": share + 0.03, "n": 90})


def factors() -> pd.DataFrame:
    """Table "factors"; one does not vary, and has no R²."""
    return pd.DataFrame(
        {
            "factor": ["x", "head_size", "hue", "still"],
            "r2": [0.9, 0.8, 0.3, np.nan],
            "r2_within": [0.7, 0.5, 0.1, np.nan],
        }
    )


def components(names: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """Table "components": 5 components of 12 samples per class."""
    rng, parts = np.random.default_rng(2), []
    for name in names:
        for component in range(1, 6):
            original = rng.normal(size=12)
            rows = {"class": name, "sample_index": range(12), "component": component, "original": original}
            parts.append(pd.DataFrame(rows | {"cycled": 0.9 * original}))
    return pd.concat(parts, ignore_index=True)


def offsets() -> pd.DataFrame:
    """Table "offsets"."""
    offset = [0.01, -0.04, 0.0, 0.02, 0.03]
    return pd.DataFrame({"component": range(1, 6), "offset": offset, "spread": 0.4, "explained": 0.15})


def examples(count: int, per_class: int = 2, first: int = 0, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors "examples" of `count` classes, 16×16 pixels: the samples `first`, `first + 1`, … of each in a stream."""
    classes = torch.arange(count).repeat_interleave(per_class)
    index = first + torch.arange(per_class).repeat(count)
    image = torch.stack([_noise(seed, c, k) for c, k in zip(classes.tolist(), index.tolist(), strict=True)])
    return {"image": image, "cycled": image // 2, "class_index": classes, "sample_index": index}


def _noise(*address: int) -> torch.Tensor:
    """An image `[3, 16, 16]` that only this sample has."""
    return torch.from_numpy(np.random.default_rng(address).integers(0, 256, (3, 16, 16), dtype=np.uint8))


def make_job(
    folder: Path,
    link: str = "lr",
    scale: float = 1.0,
    shown: dict[str, torch.Tensor] | None = None,
    metrics: dict[str, float] | None = None,
    labels: dict[str, str] | None = None,
    **settings: object,
) -> Path:
    """As much of a run's folder as a comparison reads.

    Args:
        scale: multiplies the cycle's distances.
        shown: tensors "examples".
        metrics, labels: beside those that every job has.
        settings: parts of the flat configuration, by names that need no dot.
    """
    table = samples(scale=scale, n=8)
    known = {f"{row['metric']}/ratio_random": row["ratio_random"] for row in records(summary(table))}
    facts = {
        "labels": {"gan": "World", "classifier": "Net", "classes": "dogs", "link": link} | (labels or {}),
        "settings": {"seed": 0, "evaluation.examples": 2} | settings,
        "class_names": list(NAMES),
        "metrics": known | {"class_kept": 0.9} | (metrics or {}),
    }
    for stage in ("evaluation", "link"):
        (folder / "tables" / stage).mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(facts))
    (folder / "report.html").touch()
    table.to_parquet(folder / "tables/evaluation/samples.parquet")
    units().to_parquet(folder / "tables/link/units.parquet")
    save_file(shown or examples(2), folder / "tables/evaluation/examples.safetensors")
    return folder


def _link(draft: Draft, link: str) -> None:
    linear = link in ("lr", "ridge")
    draft.table("units", units(linear))
    if linear:
        draft.table("path", path(3 if link == "ridge" else 0))
    else:
        draft.table("curve", curve())
    facts = {"kind": link, "samples": 120, "units": 40, "w_dim": 64, "dead": 3, "near_dead": 2, "seconds": 0.5}
    draft.json("fit", facts | ({"rank": 37, "ridge": 0.0 if link == "lr" else 1e-2} if linear else {"epochs": 20}))


def _evaluation(draft: Draft, names: tuple[str, ...]) -> None:
    table = samples(names)
    tables = {"samples": table, "summary": summary(table), "kept": kept(names), "factors": factors()}
    for name, value in (tables | {"components": components(names), "offsets": offsets()}).items():
        draft.table(name, value)
    draft.tensors("examples", examples(len(names)))
    draft.json("left_out", {"lpips": "its weights <alex> are missing"})
