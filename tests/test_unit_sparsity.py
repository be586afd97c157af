"""Sparsity over labels and over units against the paper's equation, written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.perturbed import CLASSES, tuned

from lis.quantify.measures import MEASURES
from lis.units.unit_statistics import label_sparsity_table, unit_sparsity_table


def sparsity(x: Any) -> float:
    """Eq. 2 over the known entries."""
    x = np.array([value for value in np.ravel(x) if value == value], dtype=float)
    if len(x) < 2 or not x.any():
        return float("nan")
    root = np.sqrt(len(x))
    return float((root - np.abs(x).sum() / np.sqrt((x**2).sum())) / (root - 1))


def test_label_sparsity_of_units_and_of_random_directions() -> None:
    """Both divided by what is largest among the units; a label that is too small is left out."""
    made = tuned(6, absent=0.2)
    made.measures[..., 2, 0] = 1e-5
    own, null = made, tuned(4, seed=1, directions=True)
    tables = {
        "unit": (own, label_sparsity_table(own, own, {"unit": own.unit})),
        "name": (null, label_sparsity_table(null, own, {"name": null.names})),
    }
    scale = [np.nanmax(np.abs(own.median_by_class[:, :, :2, m].numpy())) for m in range(5)]
    for key, (effects, table) in tables.items():
        assert list(table) == [key, "class", "measure", "sparsity"]
        assert len(table) == len(effects.unit) * 2 * 6
        rows: Any = table.set_index([key, "class", "measure"])["sparsity"]
        names = effects.unit.tolist() if key == "unit" else effects.names
        for p, name in enumerate(names):
            for c, class_name in enumerate(CLASSES):
                x = effects.median_by_class[p, c, :2].double().numpy()
                expected = [sparsity(x[:, m]) for m in range(5)] + [sparsity(x / scale)]
                np.testing.assert_allclose(rows.loc[(name, class_name)], expected, atol=1e-5)
                assert rows.loc[(name, class_name)].index.tolist() == [*MEASURES, "all"]


def test_unit_sparsity_of_a_label() -> None:
    effects, random = tuned(7, per_class=3, absent=0.2), tuned(5, per_class=3, seed=1, directions=True)
    table: Any = unit_sparsity_table(effects, random, np.random.default_rng(0)).set_index(["label", "measure"])
    for k, label in enumerate(effects.labels):
        for m, measure in enumerate(MEASURES):
            by_sample = [sparsity(effects.change[:, s, k, m]) for s in range(6)]
            row = table.loc[(label, measure)]
            assert row["sparsity"] == pytest.approx(np.nanmean(by_sample), abs=1e-5)
            beside = [sparsity(random.change[:, s, k, m]) for s in range(6)]
            assert row["control"] == pytest.approx(np.nanmean(beside), abs=1e-5)
            assert row["low"] <= row["sparsity"] <= row["high"]
            assert row["high"] <= max(by_sample) + 1e-6


def test_one_unit_that_alone_changes_a_label() -> None:
    made = tuned(8, absent=0)
    made.measures[:, :, 1] = made.measures[:, :, 0]
    made.measures[3, :, 1, 0, 0] *= 2
    table: Any = unit_sparsity_table(made, made, np.random.default_rng(0)).set_index(["label", "measure"])
    assert table.loc[("ear", "area"), "sparsity"] == pytest.approx(1)
    assert table.loc[[("eye", "area"), ("ear", "angle")]].isna().all(axis=None)


def test_without_an_interpreted_label_nothing_is_said() -> None:
    made = tuned(3)
    made.measures[..., 0] = 1e-5
    assert np.isnan(label_sparsity_table(made, made, {"unit": made.unit})["sparsity"]).all()
    assert list(unit_sparsity_table(made, made, np.random.default_rng(0))) == [
        "label",
        "measure",
        "sparsity",
        "low",
        "high",
        "control",
    ]
    none = tuned(0, directions=True)
    assert len(label_sparsity_table(none, tuned(3), {"name": ()})) == 0
