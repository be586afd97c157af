"""Rankings of units against sorting by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from helpers.perturbed import LABELS, tuned

from lis.quantify.measures import MEASURES
from lis.units.ranking import overlap, ranking, top


def own(table: Any, label: str, measure: str) -> Any:
    return table[(table["label"] == label) & (table["measure"] == measure)].reset_index(drop=True)


def test_a_ranking_equals_sorting_by_hand() -> None:
    effects = tuned(6)
    null = tuned(4, seed=1, directions=True)
    table: Any = ranking(effects, null, np.random.default_rng(0))
    assert len(table) == 6 * 3 * 5
    for (k, label), (m, measure) in product(enumerate(LABELS), enumerate(MEASURES)):
        rows, size = own(table, label, measure), effects.average.ranked[:, k, m].abs().nan_to_num(-1)
        assert rows["rank"].tolist() == [1, 2, 3, 4, 5, 6]
        assert rows["unit"].tolist() == sorted(range(10, 16), key=lambda unit: -size[unit - 10])
        mean = effects.average.value[:, k, m]
        for row in rows.to_dict("records"):
            place = row["unit"] - 10
            assert row["change"] == pytest.approx(mean[place].item(), nan_ok=True)
            assert row["interpreted"] and row["samples"] == 8
            assert row["n"] == int((~effects.change[place, :, k, m].isnan()).sum())
            assert np.isnan(row["relative"]) == (measure != "area") or np.isnan(row["change"])
            if np.isnan(row["change"]):
                assert measure == "angle" and np.isnan([row["low"], row["p_control"], row["resultant"]]).all()
                continue
            assert row["low"] <= row["change"] <= row["high"]
            own_size = abs(effects.average.effect[place, k, m]) / effects.step_norm[place, 0]
            random = null.average.effect[:, k, m].abs() / null.step_norm[:, 0]
            assert row["p_control"] == pytest.approx((1 + int((random >= own_size).sum())) / 5)
            assert row["mean_area"] == pytest.approx(effects.mean_area[k].item())


def test_a_longer_step_alone_is_no_finding() -> None:
    """Twice the change over twice the length is as rare as before."""
    effects, null = tuned(6), tuned(9, seed=1, directions=True)
    stretched = replace(effects, step_norm=2 * effects.step_norm)
    twice = effects.change * torch.tensor([2.0, 2, 2, 2, 1])  # an angle cannot be stretched
    vars(stretched)["change"] = twice  # as if it had been computed from measures
    tables = (ranking(one, null, np.random.default_rng(0)) for one in (effects, stretched))
    first, second = (table[table["measure"] != "angle"] for table in tables)
    np.testing.assert_allclose(first["p_control"], second["p_control"])
    np.testing.assert_allclose(2 * first["change"], second["change"], rtol=1e-5)


def test_angles_that_point_everywhere_do_not_lead() -> None:
    """Their mean may be 90°; a unit that turns every sample by 10° is before them, one without an angle has no rank."""
    made = tuned(3, absent=0)
    angle = MEASURES.index("angle")
    made.measures[..., 0, angle] = 0.0
    made.measures[0, :, 1, 0, angle] = torch.tensor([-80.0, -60, -30, -10, 10, 30, 60, 90])
    made.measures[1, :, 1, 0, angle] = 10.0
    made.measures[2, :, 1, 0, angle] = torch.tensor([-70.0, 88, 75, -85, 80, -80, 45, -45])
    table: Any = ranking(made, tuned(4, seed=1), np.random.default_rng(0))
    rows: Any = own(table, "ear", "angle").set_index("unit")
    assert np.isnan(rows.loc[10, "change"]) and rows.loc[10, "rank"] == 3
    assert rows.loc[11, "resultant"] == pytest.approx(1) and rows.loc[11, "change"] == pytest.approx(10, abs=1e-3)
    assert rows.loc[12, "resultant"] < 0.9 and abs(rows.loc[12, "change"]) > 80
    assert max(overlap(made, 3)["overlap"]) <= 3


def test_absent_labels_are_stated() -> None:
    made = tuned(2, absent=0)
    made.measures[0, :5, 1, 0] = torch.nan
    rows = own(ranking(made, tuned(3, seed=1), np.random.default_rng(0)), "ear", "area")
    assert rows.set_index("unit")["n"].to_dict() == {10: 3, 11: 8} and set(rows["samples"]) == {8}


def test_a_unit_without_a_change_comes_last() -> None:
    made = tuned(4, absent=0)
    made.measures[0, :, :, 1] = torch.nan
    made.measures[:, :, :, 2] = torch.nan
    table: Any = ranking(made, tuned(3, seed=1), np.random.default_rng(0))
    last: Any = own(table, "eye", "area").iloc[-1]
    assert last["unit"] == 10 and last[["change", "low", "high", "p_control"]].isna().all()
    absent: Any = own(table, "tail", "area")
    assert absent["unit"].tolist() == [10, 11, 12, 13] and absent["change"].isna().all()
    assert not absent["interpreted"].any() and absent["mean_area"].isna().all()


def test_overlaps_equal_intersections() -> None:
    made = tuned(9)
    made.measures[:8, :, :, 0] = torch.nan
    table = overlap(made, 4)
    assert len(table) == 3 * 10
    for row in table.to_dict("records"):
        heads = []
        for name in (row["measure_a"], row["measure_b"]):
            mean = made.average.ranked[:, LABELS.index(row["label"]), MEASURES.index(name)].tolist()
            known = [unit for unit in range(9) if mean[unit] == mean[unit]]
            heads.append(set(sorted(known, key=lambda unit: -abs(mean[unit]))[:4]))
        assert row["overlap"] == len(heads[0] & heads[1])
    pairs = set(zip(table["measure_a"], table["measure_b"], strict=True))
    assert pairs == set(combinations(MEASURES, 2))


def test_the_head_of_a_ranking() -> None:
    assert top(torch.tensor([1.0, -3.0, torch.nan, 2.0]), 2).tolist() == [False, True, False, True]
    assert top(torch.tensor([1.0, torch.nan]), 5).tolist() == [True, False]
    assert max(overlap(tuned(3), 10)["overlap"]) <= 3
