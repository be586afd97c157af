"""All statistics over units as one stage, down to the smallest sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes_units import LABELS, NAMES, FakeGenerator, tuning_context, use_fake_segmenter

from lis.context import Context
from lis.quantify.measures import MEASURES
from lis.store import Artifact
from lis.units.tuned import Tuned
from lis.units.tuning import tuning
from lis.units.unit_statistics import UnitStatisticsConfig, unit_statistics

COLUMNS = {
    "ranking": {"unit", "label", "measure", "change", "rank", "low", "high", "p_control", "mean_area", "interpreted"}
    | {"relative", "resultant", "n", "samples", "q", "q_by", "reached", "larger", "head", "crossfit"},
    "heads": {"label", "measure", "units", "chosen", "crossfit"},
    "overlap": {"label", "measure_a", "measure_b", "overlap"},
    "distribution": {"measure", "n", "statistic", "p_normal", "skew", "kurtosis"},
    "label_sparsity": {"unit", "class", "measure", "sparsity"},
    "label_sparsity_control": {"name", "class", "measure", "sparsity"},
    "unit_sparsity": {"label", "measure", "sparsity", "low", "high", "control"},
    "map": {"unit", "x", "y", "label", "cluster", "strength"},
    "clusters": {"cluster", "units", "label", *LABELS},
    "relevance": {"unit", "class", "change", "relevance", "relevant", "flipped", "p_control"}
    | {"q", "q_by", "reached", "larger", "control"},
    "relevance_control": {"name", "class", "change"},
    "relevance_seeds": {"unit", "class", "sample_index", "change"},
    "relevance_correlation": {"class_a", "class_b", "r"},
    "shared": {"unit", "classes", "relevance"},
    "robustness": {"class", "mean", "median", "relevant", "larger", "control", "flipped"},
    "transfer": {"unit", "label", "measure", "class", "change"},
    "transfer_control": {"name", "label", "measure", "class", "change"},
    "agreement": {"label", "measure", "class_a", "class_b", "r", "control"},
    "faithfulness": {
        "unit",
        "reencoded_share",
        "own",
        "others",
        "more",
        "beyond",
        "step_norm",
        "selectivity",
        "own_control",
        "reencoded_control",
        "length_control",
        *("p_reached", "q_reached", "q_by_reached", "reached"),
        *("selectivity_p", "selectivity_q", "selectivity_q_by", "selective", "selectivity_control"),
    },
}


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_segmenter(monkeypatch)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    with pytest.MonkeyPatch.context() as patch:
        use_fake_segmenter(patch)
        ctx = tuning_context(tmp_path_factory.mktemp("run"), tuning__units=12, tuning__control_directions=9)
        return ctx, unit_statistics(ctx)


def tables(artifact: Artifact) -> dict[str, pd.DataFrame]:
    return {name: artifact.table(name) for name in COLUMNS}


def test_what_the_artifact_holds(run: tuple[Context, Artifact]) -> None:
    artifact = run[1]
    found = tables(artifact)
    assert {name: set(table) for name, table in found.items()} == COLUMNS
    size = {name: len(table) for name, table in found.items()}
    assert (
        size["ranking"] == 12 * 2 * 5
        and size["heads"] == 2 * 5
        and size["overlap"] == 2 * 10
        and size["distribution"] == 5
    )
    assert size["label_sparsity"] == 12 * 3 * 6 and size["label_sparsity_control"] == 2 * 9 * 3 * 6
    assert size["unit_sparsity"] == 2 * 5 and size["map"] == size["faithfulness"] == 12
    assert size["relevance"] == 36 and size["relevance_control"] == 2 * 27 and size["robustness"] == 3
    table: Any = found["ranking"]
    ranked = table[table["change"].notna()].drop_duplicates(["label", "measure"])
    assert 2 * 3 <= len(ranked) < 2 * 5  # scattered pixels have no entropy, and not all have an angle
    assert size["transfer"] == len(ranked) * 3 and size["agreement"] == 2 * 5 * 3 and size["relevance_correlation"] == 9
    scaled = artifact.tensors("scaled")
    assert set(scaled) == set(MEASURES) and not len(scaled.pop("entropy"))  # of scattered pixels
    assert all(values.abs().max() == 1 for values in scaled.values())
    tree = artifact.json("tree")
    assert len(tree["linkage"]) == 11 and sorted(tree["order"]) == list(range(12))
    control = artifact.json("control")
    assert control.pop("length_ratio") == pytest.approx(1) and control.pop("clipped") >= 0
    assert control.pop("class_ratio") == pytest.approx(dict.fromkeys(NAMES, 1.0)) and control.pop("short") == 0
    tails = control.pop("tails")
    assert set(tails) == {"larger", "relevant", "selective", "reached"}
    assert all(tail["counted"] == 1 and "largest" not in tail and not tail["decided"] for tail in tails.values())
    assert tails["relevant"]["tests"] == 36 and tails["reached"]["tests"] == 12
    assert control == {"directions": 9, "lengths": 2, "samples": 9, "smallest": 0.1}
    assert set(found["relevance"]["class"]) == set(NAMES) and all(found["ranking"]["interpreted"])


def test_the_numbers_are_those_of_the_screen(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    effects = Tuned.of(tuning(ctx))
    rows: Any = artifact.table("ranking").set_index(["unit", "label", "measure"])["change"]
    for p, unit in enumerate(effects.unit.tolist()):
        assert rows[(unit, "dark", "luminance")] == pytest.approx(effects.average.value[p, 1, 1].item(), nan_ok=True)
    change: Any = artifact.table("relevance").set_index(["unit", "class"])["change"]
    own = effects.probability_change
    expected = own[4, effects.class_index == 1].mean().item()
    assert change[(int(effects.unit[4]), "bee")] == pytest.approx(expected, abs=1e-6)


def test_it_is_the_same_again(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    """Whatever the blocks; but for places on the map, which follow the last digits."""
    again = unit_statistics(
        tuning_context(tmp_path, tuning__units=12, tuning__control_directions=9, tuning__unit_block=5)
    )
    assert again.key == run[1].key
    for name, table in tables(again).items():
        ours, theirs = (one.drop(columns=["x", "y"], errors="ignore") for one in (table, run[1].table(name)))
        pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3, atol=1e-4)


def test_settings_are_part_of_the_key(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    ctx.config.unit_statistics = UnitStatisticsConfig(relevant=0.0, top=3)
    other = unit_statistics(ctx)
    ctx.config.unit_statistics = UnitStatisticsConfig()
    assert other.key != artifact.key and unit_statistics(ctx).key == artifact.key
    assert all(other.table("relevance")["relevant"]) and max(other.table("overlap")["overlap"]) <= 3


@pytest.mark.parametrize(
    "sizes",
    [
        {"tuning__units": 6, "tuning__seeds": 2, "tuning__control_directions": 4},
        {"tuning__units": 1, "tuning__seeds": 1, "tuning__control_directions": 1},
        {"tuning__units": 2, "tuning__seeds": 2, "tuning__control_directions": 0},
        {"class_names": ("bee",), "tuning__units": 4, "tuning__seeds": 1},
        {"generator": FakeGenerator(conditional=False)},
    ],
)
def test_small_runs(tmp_path: Path, sizes: dict[str, Any]) -> None:
    """Whatever cannot be computed is NaN."""
    artifact = unit_statistics(tuning_context(tmp_path, **sizes))
    for name, table in tables(artifact).items():
        assert set(table) == COLUMNS[name]
    assert artifact.tensors("scaled").keys() == set(MEASURES)
    if sizes.get("tuning__control_directions") == 0:
        assert np.isnan(artifact.table("ranking")["p_control"]).all()
    if sizes.get("tuning__seeds") == 1:
        few = artifact.table("relevance_seeds")
        assert len(few) and all(np.isfinite(few["change"]))


def test_no_part_is_large_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lis.quantify.measures.MINIMUM_AREA", 2.0)
    artifact = unit_statistics(tuning_context(tmp_path))
    assert not any(artifact.table("ranking")["interpreted"])
    assert set(artifact.table("clusters")) == {"cluster", "units", "label"}
    assert all(np.isnan(artifact.table("map")[name]).all() for name in ("x", "y", "strength"))
    assert all(torch.equal(values, torch.empty(0)) for values in artifact.tensors("scaled").values())
