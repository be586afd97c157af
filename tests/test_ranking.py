"""Rankings of units against sorting by hand."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from helpers.perturbed import LABELS, null, reached, tuned

from lis.quantify.measures import MEASURES
from lis.statistics import benjamini_hochberg, benjamini_yekutieli
from lis.units.ranking import crossfit, halves, heads, overlap, ranking, top
from lis.units.tuned import Tuned


def ranked(effects: Tuned, random: Tuned) -> Any:
    n, rng = len(effects.unit), np.random.default_rng(0)
    return ranking(effects, null(n, random), reached(n), halves(effects.class_index, rng), 2, rng)


def own(table: Any, label: str, measure: str) -> Any:
    return table[(table["label"] == label) & (table["measure"] == measure)].reset_index(drop=True)


def test_a_ranking_equals_sorting_by_hand() -> None:
    effects = tuned(6)
    random = tuned(4, seed=1, directions=True)
    table: Any = ranked(effects, random)
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
            larger = int((random.average.effect[:, k, m].abs() >= abs(effects.average.effect[place, k, m])).sum())
            assert row["p_control"] == pytest.approx((1 + larger / 2) / 3)  # two are a direction and its opposite
            assert row["mean_area"] == pytest.approx(effects.mean_area[k].item())


def test_what_is_larger_is_so_among_all_and_reached() -> None:
    """q over units, interpreted labels and measures."""
    effects = tuned(6, absent=0)
    effects.measures[..., 2, 0] = 1e-5
    beside = tuned(200, seed=1, directions=True)
    effects.measures[0, :, 1, 0, 0] = 50 * effects.measures[0, :, 0, 0, 0]
    rng = np.random.default_rng(0)
    first = halves(effects.class_index, rng)
    table: Any = ranking(effects, null(6, beside), torch.arange(6) != 3, first, 2, rng)
    seen = table[table["interpreted"] & table["p_control"].notna()]
    for name, adjusted in (("q", benjamini_hochberg), ("q_by", benjamini_yekutieli)):
        np.testing.assert_allclose(seen[name], adjusted(seen["p_control"].to_numpy()))
    assert table[~table["interpreted"]]["q"].isna().all() and set(table[~table["reached"]]["unit"]) == {13}
    assert (table["larger"] == ((table["q"] <= 0.05) & table["reached"])).all()
    assert own(table, "ear", "area").iloc[0][["unit", "larger"]].tolist() == [10, True]


def test_heads_are_estimated_where_they_were_not_chosen() -> None:
    effects = tuned(8, per_class=6, absent=0)
    first = halves(effects.class_index, np.random.default_rng(3))
    assert first.sum() == 6 and first[effects.class_index == 0].sum() == 3
    head, estimate = crossfit(effects, first, 2)
    sizes: Any = heads(effects, first, 2).set_index(["label", "measure"])
    for k, m in product(range(3), range(4)):
        means = [effects.change[:, half, k, m].mean(1) for half in (first, ~first)]
        chosen = [set(np.argsort(-mean.abs().numpy())[:2].tolist()) for mean in means]
        at = [(half, unit) for half in (0, 1) for unit in chosen[half]]
        row = sizes.loc[(LABELS[k], MEASURES[m])]
        assert row["units"] == 4
        assert row["chosen"] == pytest.approx(np.mean([means[h][u].abs() for h, u in at]), abs=1e-6)
        left = [means[1 - h][u] * means[h][u].sign() for h, u in at]
        assert row["crossfit"] == pytest.approx(np.mean(left), abs=1e-6)
        for unit in range(8):
            both = [means[1 - half][unit] * means[half][unit].sign() for half in (0, 1)]
            others = [both[half].item() for half in (0, 1) if unit in chosen[half]]
            assert head[unit, k, m] == len(others)
            expected = np.mean(others) if others else np.nan
            assert estimate[unit, k, m].item() == pytest.approx(float(expected), abs=1e-6, nan_ok=True)


def test_a_head_of_noise_has_no_size_left() -> None:
    """On average over many labels: what was chosen for its size is 0 on other samples."""
    size = (200, 8, 30, 5)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(0))
    effects = tuned(200, absent=0)
    vars(effects)["change"] = noise
    first = halves(effects.class_index, np.random.default_rng(0))
    head, estimate = crossfit(effects, first, 10)
    chosen = noise.mean(1)[head > 0].abs().mean()
    sizes = (estimate * head)[..., :4][head[..., :4] > 0]
    assert abs(float(sizes.mean())) < 0.05 * float(chosen) and (head.sum(0)[..., :4] == 20).all()


def test_the_head_of_noise_that_both_halves_choose_is_not_told_by_single_units() -> None:
    """Only the mean over the heads of both halves is 0; a unit that both choose has the size of all samples."""
    effects = tuned(200, absent=0)
    noise = torch.randn(effects.change.shape, generator=torch.Generator().manual_seed(0))
    vars(effects)["change"] = noise
    first = halves(effects.class_index, np.random.default_rng(0))
    head, estimate = crossfit(effects, first, 100)
    both = (head == 2)[..., :4]
    naive = noise.mean(1)[..., :4][both].abs()
    same = [noise[:, half].mean(1)[..., :4][both].sign() for half in (first, ~first)]
    agree = same[0] == same[1]
    torch.testing.assert_close(estimate[..., :4][both][agree], naive[agree])
    table: Any = heads(effects, first, 100)
    left = table[table["measure"] != "angle"]
    assert (left["units"] == 200).all()
    assert abs(left["crossfit"].mean()) < 0.1 * left["chosen"].mean()


@pytest.mark.parametrize("sizes", [[1], [2], [3, 1], [5, 4]])
def test_halves_of_few_samples(sizes: list[int]) -> None:
    index = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    first = halves(index, np.random.default_rng(0))
    for c, n in enumerate(sizes):
        assert n // 2 <= int(first[index == c].sum()) <= (n + 1) // 2


def test_angles_that_point_everywhere_do_not_lead() -> None:
    """Their mean may be 90°; a unit that turns every sample by 10° is before them, one without an angle has no rank."""
    made = tuned(3, absent=0)
    angle = MEASURES.index("angle")
    made.measures[..., 0, angle] = 0.0
    made.measures[0, :, 1, 0, angle] = torch.tensor([-80.0, -60, -30, -10, 10, 30, 60, 90])
    made.measures[1, :, 1, 0, angle] = 10.0
    made.measures[2, :, 1, 0, angle] = torch.tensor([-70.0, 88, 75, -85, 80, -80, 45, -45])
    table: Any = ranked(made, tuned(4, seed=1))
    rows: Any = own(table, "ear", "angle").set_index("unit")
    assert np.isnan(rows.loc[10, "change"]) and rows.loc[10, "rank"] == 3
    assert rows.loc[11, "resultant"] == pytest.approx(1) and rows.loc[11, "change"] == pytest.approx(10, abs=1e-3)
    assert rows.loc[12, "resultant"] < 0.9 and abs(rows.loc[12, "change"]) > 80
    assert max(overlap(made, 3)["overlap"]) <= 3


def test_absent_labels_are_stated() -> None:
    made = tuned(2, absent=0)
    made.measures[0, :5, 1, 0] = torch.nan
    rows = own(ranked(made, tuned(3, seed=1)), "ear", "area")
    assert rows.set_index("unit")["n"].to_dict() == {10: 3, 11: 8} and set(rows["samples"]) == {8}


def test_a_unit_without_a_change_comes_last() -> None:
    made = tuned(4, absent=0)
    made.measures[0, :, :, 1] = torch.nan
    made.measures[:, :, :, 2] = torch.nan
    table: Any = ranked(made, tuned(3, seed=1))
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
