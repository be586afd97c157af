"""The stage "bridge": names by activation and by cause against slow ones, planted truth, chance, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import make_context, stand_in
from helpers.tuned_findings import CLASSES, LABELS, SMALL, screen, tuned
from torch import nn

from lis.classifiers.cut import CutClassifier
from lis.classifiers.detectors import Detectors, detectors
from lis.classifiers.partnet import PartNet
from lis.classifiers.preprocessing import Preprocessing
from lis.context import Context
from lis.dissection.bridge import (
    BridgeConfig,
    bridge,
    by_activation,
    by_cause,
    common_parts,
    largest_change,
    pooled_layer,
    problems,
    scored,
    shares_table,
)
from lis.dissection.dissect import DissectConfig
from lis.generators.partworld import PartWorld
from lis.report.bridge import bridge as page
from lis.report.bridge import bridge_numbers, counts
from lis.report.tables import records, where
from lis.store import Artifact, Draft, Recipe
from lis.types import Classifier

PARTS = ["leg", "eye", "ear"]
UNITS = 36


def largest_slowly(effect: np.ndarray, control: np.ndarray) -> tuple[int, float, float]:
    """Of one unit: `effect [K]` beside `control [2 D, K]`."""
    scale = [
        np.sqrt((effect[k] ** 2 + sum(c[k] ** 2 for c in control)) / (1 + len(control))) for k in range(len(effect))
    ]
    size = [abs(effect[k]) / scale[k] for k in range(len(effect))]
    larger = sum(max(abs(c[k]) / scale[k] for k in range(len(effect))) >= max(size) for c in control)
    best = int(np.argmax(size))
    alone = np.sqrt(np.mean([c[best] ** 2 for c in control]))
    return best, abs(effect[best]) / alone, (1 + larger / 2) / (1 + len(control) / 2)


def test_the_largest_change_is_the_one_of_plain_loops() -> None:
    draw = torch.Generator().manual_seed(0)
    effect = torch.randn(9, 4, generator=draw, dtype=torch.float64)
    control = 0.1 * torch.randn(9, 12, 4, generator=draw, dtype=torch.float64) * torch.tensor([1.0, 5, 2, 9])
    best, ratio, p = largest_change(effect, control)
    for unit in range(9):
        expected = largest_slowly(effect[unit].numpy(), control[unit].numpy())
        assert (int(best[unit]), float(ratio[unit]), float(p[unit])) == pytest.approx(expected)


def test_units_that_do_what_random_directions_do_are_named_no_more_often_than_the_level() -> None:
    """Whatever the scale of parts, and though the largest of many is tested."""
    draw = torch.Generator().manual_seed(1)
    everything = torch.randn(4000, 39 * 2 + 1, 6, generator=draw) * torch.tensor([1.0, 2, 4, 8, 16, 32])
    p = largest_change(everything[:, 0], everything[:, 1:])[2]
    for level in (0.05, 0.2, 0.5):
        assert float((p <= level).double().mean()) == pytest.approx(level, abs=3.5 * (level / 4000) ** 0.5)


def test_a_unit_without_a_change_has_no_name() -> None:
    effect = torch.tensor([[torch.nan, torch.nan], [torch.nan, 1.0]])
    named = by_cause(effect, torch.ones(2, 4, 2), ["ear", "eye"])
    assert named["by_cause"].tolist() == ["", "eye"]
    assert np.isnan(named[["change", "ratio", "q_cause"]].to_numpy()[0]).all()


def agreement(units: int = UNITS, seed: int = 0) -> pd.DataFrame:
    """Every unit agrees with one of `LABELS`, the object more, and an absent part not at all."""
    rng = np.random.default_rng(seed)
    rows = []
    for unit in range(units):
        for k, name in enumerate([*LABELS, "object", "wing"]):
            best = k == unit % len(LABELS)
            iou = np.nan if name == "wing" else 0.9 if name == "object" else 0.4 * best + 0.1 * rng.random()
            kind = "object" if name == "object" else "part"
            met = 4 if name == "leg" and unit == 0 else 9
            row = {"layer": "detect", "unit": unit, "concept": name, "kind": kind, "iou": iou}
            rows.append(row | {"p": 0.001 if best else 0.6, "images_met": met})
    return pd.DataFrame(rows)


def test_by_activation_a_unit_is_named_by_the_best_part_that_it_meets_on_enough_images() -> None:
    named = by_activation(agreement(), [0, 2, 4, 1], PARTS)
    first, *rest = named["by_activation"].tolist()
    assert rest[:2] == ["eye", "ear"] and first in ("eye", "ear")  # unit 0 meets the leg on 4 images
    assert named["named_activation"].tolist() == [False, True, True, False]
    assert named["q_activation"].tolist()[1] == pytest.approx(0.003 * 4 / 2)
    absent = by_activation(where(agreement(), unit=2), [2, 3], PARTS)
    assert absent["by_activation"].tolist() == ["eye", ""] and np.isnan(absent["q_activation"].tolist()[1])


def test_chance_is_what_shuffled_names_give() -> None:
    table = pd.DataFrame({"by_activation": ["a", "a", "b", "b", "a"], "by_cause": ["a", "a", "b", "a", ""]})
    table = table.assign(unit=range(5), q_cause=0.01, own=[1.0, 1, 1, -1, 1], reached=False, named_activation=True)
    kinds, targets = ("part", "part", "part", "unplanted", "part"), ("a", "b", "b", "", "wing")
    table = scored(table, kinds, targets, ["a", "b"])
    shares = {(row["what"], row["kind"]): row for row in records(shares_table(table, 4000, np.random.default_rng(0)))}
    assert (shares["agree", ""]["count"], shares["agree", ""]["n"]) == (3, 4)
    assert shares["agree", ""]["chance"] == pytest.approx((2 / 4) * (3 / 4) + (2 / 4) * (1 / 4), abs=0.02)
    assert (shares["both", ""]["count"], shares["both", ""]["n"]) == (3, 3)
    assert (shares["activation_right", "part"]["count"], shares["activation_right", "part"]["n"]) == (2, 3)
    assert shares["cause_right", "part"]["chance"] == pytest.approx((2 * 1 + 1 * 2) / 9, abs=0.02)
    assert shares["named_cause", "unplanted"]["count"] == 0 and shares["named_activation", "unplanted"]["count"] == 1
    assert shares["agree", ""]["low"] < 0.75 < shares["agree", ""]["high"]


def context(root: Path, classifier: Classifier | None = None, **settings: Any) -> Context:
    world = PartWorld(list(CLASSES))
    ctx = make_context(root, generator=world, classifier=classifier or detectors(world, per_part=3, unplanted=9))
    config = replace(ctx.config, classes=replace(ctx.config.classes, names=list(CLASSES), labels=list(LABELS)))
    config.dissect = DissectConfig(**settings)  # pyright: ignore[reportAttributeAccessIssue]
    config.tuning.control_directions = 24
    config.bridge = BridgeConfig(shuffles=99)  # pyright: ignore[reportAttributeAccessIssue]
    return replace(ctx, config=config)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact, Artifact]:
    """The stage on a dissection and a tuning that are made up, of channels that are planted."""
    root = tmp_path_factory.mktemp("bridge")
    ctx = context(root)
    tuning = screen(root, tuned(UNITS), tuned(24, null=True))

    def dissected(draft: Draft) -> None:
        draft.table("agreement", agreement())
        concepts = {"layer": "detect", "unit": range(UNITS), "concept": "object"}
        draft.table("units", pd.DataFrame(concepts))
        draft.json("facts", {"layers": {"detect": [UNITS, 32, 32]}})

    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, "dissect", lambda ctx: ctx.store.make(Recipe("dissect", 1, {}), dissected))
        stand_in(patch, "tuning", lambda _: tuning)
        return ctx, bridge(ctx), tuning


def test_the_stage_holds_both_names_beside_what_is_planted(run: tuple[Context, Artifact, Artifact]) -> None:
    ctx, artifact, _ = run
    table, facts = artifact.table("bridge"), artifact.json("facts")
    assert isinstance(ctx.classifier, Detectors)
    assert facts["planted"] and facts["left_out"] == [SMALL] and facts["along"] == "link" and facts["directions"] == 24
    for row in records(table):
        kind, target = (getattr(ctx.classifier.planting, name)[row["unit"]] for name in ("kind", "target"))
        assert (row["kind"], row["target"]) == (kind, target) and row["concept"] == "object"
        assert row["scored"] == (kind == "part" and target in facts["parts"])
        assert row["cause_right"] == (row["scored"] and row["by_cause"] == target)
        assert row["agree"] == (row["by_activation"] == row["by_cause"])
        assert row["both"] <= row["named_cause"] <= (row["own"] > 0)
    assert table["named_activation"].to_numpy().any() and table["scored"].to_numpy().any()
    drawn = counts(table, facts["parts"])
    assert drawn.sum() == len(table) and drawn[:-1].sum() == table["named_activation"].sum()
    assert drawn[:-1, :-1].trace() == table["both"].sum()


def source_of(tables: dict[str, pd.DataFrame], facts: dict[str, Any]) -> Any:
    return SimpleNamespace(table=lambda _, name: tables[name], json=lambda *_: facts, has=lambda *_: True)


def test_the_page_says_what_was_measured_and_what_chance_is(run: tuple[Context, Artifact, Artifact]) -> None:
    _, artifact, _ = run
    source = source_of({name: artifact.table(name) for name in ("bridge", "shares")}, artifact.json("facts"))
    made = page(source)
    assert made is not None
    shares = where(artifact.table("shares"), what="cause_right")
    assert "planted for a part" in made.finding and "at chance" in made.finding
    assert f"Of {int(shares['n'].iloc[0])} units" in made.finding
    assert "nothing is planted" in made.lead and SMALL in made.notes[0]
    assert len(made.tables[1].rows) == len(artifact.table("bridge"))
    assert bridge_numbers(artifact)["bridge/cause_right/part"] == shares["share"].iloc[0]
    facts, table = artifact.json("facts") | {"directions": 9, "planted": False}, artifact.table("bridge")
    unknown = table.assign(kind="", target="", scored=False)
    tables = {"bridge": unknown, "shares": shares_table(unknown, 99, np.random.default_rng(0))}
    made = page(source_of(tables, facts))
    assert made is not None and "too few random directions (9)" in made.lead and "same part" in made.finding
    assert "planted" not in made.tables[1].columns


class Pooled(nn.Module):
    """r is the maximum of each of 4 maps, or the mean of two of the 4."""

    def __init__(self, pool: str) -> None:
        super().__init__()
        self.pool, self.maps, self.fc = pool, nn.Conv2d(3, 4, 3), nn.Linear(4 if pool == "max" else 2, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = self.maps(image)
        return self.fc(maps.amax((2, 3)) if self.pool == "max" else maps[:, :2].mean((2, 3)))


@pytest.mark.parametrize(
    ("pool", "message"), [("max", "they differ by .* expected at most"), ("two", "4 units and r 2")]
)
def test_a_layer_whose_mean_is_not_r_is_refused(pool: str, message: str, tmp_path: Path) -> None:
    network = CutClassifier(Pooled(pool), Preprocessing.as_drawn(64), ("a", "b"), name="pooled", weights="random")
    with pytest.raises(ValueError, match=f"unit u of maps, .*{message}.*dissect.layers"):
        pooled_layer(context(tmp_path, network))


def test_r_of_detectors_and_of_partnet_is_the_mean_of_a_layer(tmp_path: Path) -> None:
    assert pooled_layer(context(tmp_path)) == "detect"
    assert pooled_layer(context(tmp_path, PartNet())) == "body"
    with pytest.raises(ValueError, match=r"body\.2 has 16 units and r 256"):
        pooled_layer(context(tmp_path, PartNet(), layers=["body.2"]))


def test_what_cannot_be_named_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dissection meets the parts ear, tuning interprets .*: expected two or more"):
        common_parts(where(agreement(), concept="ear"), tuned(4))
    parts, left_out = common_parts(agreement(), tuned(4))
    assert sorted([*parts, *left_out]) == sorted(LABELS) and left_out == [SMALL]
    config = context(tmp_path).config
    config.tuning.control_directions = 0
    config.classes.labels = ["ear"]
    assert [each.partition(":")[0] for each in problems(config)] == [
        "bridge holds units against random directions",
        "bridge tells parts from each other",
    ]
