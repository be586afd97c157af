"""Class relevance against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.perturbed import CLASSES, null, reached, tuned

from lis.statistics import benjamini_hochberg
from lis.units.class_relevance import (
    control_relevance,
    relevance,
    relevance_correlation,
    robustness,
    seeds_of_relevant,
    shared,
)
from lis.units.tuned import Tuned


def moved(own: Tuned, unit: int, class_index: int) -> list[float]:
    """Δp of the samples of a class, each for its own class."""
    rows = [s for s in range(len(own.class_index)) if own.class_index[s] == class_index]
    p = own.probability[unit, rows][:, :, class_index]
    return (p[:, -1] - p[:, 0]).tolist()


def test_relevance_equals_plain_loops() -> None:
    own, beside = tuned(6), tuned(4, seed=1, directions=True)
    table: Any = relevance(own, null(6, beside), torch.arange(6) > 0, 0.15).set_index(["unit", "class"])
    random: Any = control_relevance(beside)
    np.testing.assert_allclose(table["q"], benjamini_hochberg(table["p_control"].to_numpy()))
    assert len(table) == 12 and len(random) == 8 and random["name"].iloc[0] == "random 10"
    for p, unit in enumerate(own.unit.tolist()):
        for c, name in enumerate(CLASSES):
            row, change = table.loc[(unit, name)], float(np.mean(moved(own, p, c)))
            assert row["change"] == pytest.approx(change, abs=1e-6)
            assert row["relevance"] == pytest.approx(abs(change), abs=1e-6)
            assert row["relevant"] == (abs(change) >= 0.15)
            rows = own.class_index == c
            flips = own.prediction[p, rows, -1] != own.prediction[p, rows, 0]
            assert row["flipped"] == pytest.approx(flips.float().mean().item())
            others = [abs(np.mean(moved(beside, n, c))) for n in range(4)]
            larger = sum(other >= abs(change) for other in others)
            assert row["p_control"] == pytest.approx((1 + larger / 2) / 3)  # two are a direction and its opposite
            assert row["control"] == pytest.approx(sum(other >= 0.15 for other in others) / 4)
            assert row["reached"] == (p > 0) and row["larger"] == (row["q"] <= 0.05 and p > 0)


def test_changes_of_the_leading_units_sample_by_sample() -> None:
    own = tuned(9)
    table: Any = seeds_of_relevant(own, 2)
    change = np.array([[np.mean(moved(own, p, c)) for c in range(2)] for p in range(9)])
    heads = {int(p) + 10 for c in range(2) for p in np.argsort(-np.abs(change[:, c]))[:2]}
    units = list(dict.fromkeys(table["unit"]))
    assert set(units) == heads
    assert units == sorted(units, key=lambda unit: -np.abs(change[unit - 10]).max())
    assert len(table) == 8 * len(heads)
    for (unit, name), rows in table.groupby(["unit", "class"]):
        place: Any = unit
        c = CLASSES.index(str(name))
        np.testing.assert_allclose(rows["change"], moved(own, place - 10, c), atol=1e-6)
        assert rows["sample_index"].tolist() == own.sample_index[own.class_index == c].tolist()


def test_correlation_between_classes() -> None:
    own = tuned(9)
    table: Any = relevance_correlation(own).set_index(["class_a", "class_b"])["r"]
    change = np.array([[np.mean(moved(own, p, c)) for c in range(2)] for p in range(9)])
    assert len(table) == 4
    assert table["ant", "bee"] == pytest.approx(np.corrcoef(*change.T)[0, 1], abs=1e-5)
    assert table["ant", "bee"] == pytest.approx(table["bee", "ant"])
    assert table["ant", "ant"] == pytest.approx(1)


def test_shared_units_and_robust_classes() -> None:
    own = tuned(40, per_class=3)
    table: Any = relevance(own, null(40, tuned(3, seed=1)), reached(40), 0.15)
    wide: Any = table.pivot_table(index="unit", columns="class", values="relevance")
    expected = []
    for unit, row in wide.iterrows():
        relevant = [x for x in row if x >= 0.15]
        if relevant:
            expected.append((unit, len(relevant), np.mean(relevant)))
    expected.sort(key=lambda found: (-found[1], -found[2]))
    found: Any = shared(table)
    assert list(found) == ["unit", "classes", "relevance"]
    assert found["unit"].tolist() == [unit for unit, _, _ in expected]
    assert found["classes"].tolist() == [count for _, count, _ in expected]
    np.testing.assert_allclose(found["relevance"], [mean for _, _, mean in expected], rtol=1e-5)
    robust: Any = robustness(table, CLASSES).set_index("class")
    assert robust.index.tolist() == list(CLASSES)
    for c, name in enumerate(CLASSES):
        assert robust.loc[name, "mean"] == pytest.approx(wide[name].mean())
        assert robust.loc[name, "median"] == pytest.approx(wide[name].median())
        assert robust.loc[name, "relevant"] == (wide[name] >= 0.15).sum()
        mine: Any = table[table["class"] == name]
        assert robust.loc[name, "control"] == pytest.approx(mine["control"].mean())
        assert robust.loc[name, "larger"] == (mine["larger"] & mine["relevant"]).sum()
        flips = own.flipped[:, own.class_index == c]
        assert robust.loc[name, "flipped"] == pytest.approx(flips.float().mean().item())


def test_no_unit_is_relevant() -> None:
    own = tuned(3)
    own.probability[:] = 0.2
    table: Any = relevance(own, null(3, tuned(0, directions=True)), reached(3), 0.15)
    assert not table["relevant"].any() and table["p_control"].isna().all()
    assert len(shared(table)) == 0 and robustness(table, CLASSES)["relevant"].tolist() == [0, 0]
    assert np.isnan(relevance_correlation(own)["r"]).all()
    assert len(control_relevance(tuned(0, directions=True))) == 0


def test_a_class_without_samples() -> None:
    own = tuned(3)
    own.class_index.zero_()
    table: Any = relevance(own, null(3, tuned(2, seed=1, directions=True)), reached(3), 0.15)
    empty: Any = table[table["class"] == "bee"]
    assert empty["change"].isna().all() and not empty["relevant"].any() and empty["p_control"].isna().all()
    assert len(seeds_of_relevant(own, 2)) == 2 * 8
