"""The map of units on units with planted labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.perturbed import tuned
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist

from lis.units.tuned import Tuned
from lis.units.unit_map import cluster_table, map_table, plane, tree, vectors


def planted(units: int = 30) -> Tuned:
    """Unit p changes label p mod 3 only."""
    made = tuned(units, absent=0)
    made.measures[:, :, 1] = made.measures[:, :, 0]
    for p in range(units):
        made.measures[p, :, 1, p % 3] *= 1.2 + 0.01 * p / units
    return made


def test_units_lie_beside_those_that_change_the_same() -> None:
    effects = planted()
    x = vectors(effects).reshape(30, -1)
    grown = tree(x, 3)
    places = plane(x, 5.0)
    table: Any = map_table(effects, places, grown.cluster)
    assert table["label"].tolist() == [("ear", "eye", "tail")[p % 3] for p in range(30)]
    assert table.groupby("label")["cluster"].nunique().tolist() == [1, 1, 1]
    assert table["cluster"].nunique() == 3
    distances = cdist(places, places) + np.diag(np.full(30, np.inf))
    assert (distances.argmin(1) % 3 == np.arange(30) % 3).all()
    clusters: Any = cluster_table(effects, grown.cluster)
    assert clusters["units"].tolist() == [10, 10, 10] and set(clusters["label"]) == {"ear", "eye", "tail"}
    for row in clusters.to_dict("records"):
        others = [row[label] for label in ("ear", "eye", "tail") if label != row["label"]]
        assert row[row["label"]] > 0.3 and max(others) == 0


def test_strength_is_the_mean_of_scaled_changes() -> None:
    made = tuned(5)
    made.measures[1, :, :, 0] = torch.nan
    scale = [np.nanmax(np.abs(made.average.effect[..., m].numpy())) for m in range(5)]
    table: Any = map_table(made, np.zeros((5, 2)), np.ones(5, dtype=int))
    for p, row in enumerate(table.to_dict("records")):
        strength = np.nan_to_num(np.abs(made.average.effect[p].numpy() / scale)).mean(1)
        assert row["label"] == ("ear", "eye", "tail")[strength.argmax()]
        assert row["strength"] == pytest.approx(strength.max(), rel=1e-5)
    means: Any = cluster_table(made, np.array([1, 2, 1, 2, 2])).set_index("cluster")
    own = np.nan_to_num(np.abs(made.average.effect.numpy() / scale)).mean(2)
    np.testing.assert_allclose(means.loc[1, ["ear", "eye", "tail"]].astype(float), own[[0, 2]].mean(0), rtol=1e-5)


def test_the_map_is_the_same_again() -> None:
    x = vectors(planted(12)).reshape(12, -1)
    assert np.array_equal(plane(x, 30.0), plane(x, 30.0))


@pytest.mark.parametrize("units", [6, 25, 120])
def test_rounding_does_not_rearrange_the_map(units: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_t(3, (units, 40)) * np.where(np.arange(40) < 5, 0.2, 0.06)
    places, other = (plane(values, 30.0) for values in (x, x + 1e-6 * rng.normal(size=x.shape)))
    assert np.abs(places - other).max() < 5e-3 * np.ptp(places)


def test_a_tree_is_scipys() -> None:
    x = np.random.default_rng(0).normal(size=(20, 4))
    grown = tree(x, 4)
    assert sorted(grown.order) == list(range(20))
    assert grown.cluster.tolist() == fcluster(linkage(x, "ward"), 4, "maxclust").tolist()
    assert grown.facts["linkage"] == linkage(x, "ward").tolist()


@pytest.mark.parametrize("units", [1, 2, 3, 4, 6])
def test_few_units(units: int) -> None:
    effects = tuned(units)
    x = vectors(effects).reshape(units, -1)
    places, grown = plane(x, 30.0), tree(x, 8)
    assert places.shape == (units, 2) and np.isnan(places).all() == (units < 4)
    assert len(grown.facts["linkage"]) == units - 1 and sorted(grown.facts["order"]) == list(range(units))
    assert sum(cluster_table(effects, grown.cluster)["units"]) == units
    assert len(map_table(effects, places, grown.cluster)) == units


@pytest.mark.parametrize("value", [0.5, 1e-5, float("nan")])
def test_units_that_change_nothing(value: float) -> None:
    made = tuned(6, absent=0)
    made.measures[:] = value
    x = vectors(made).reshape(6, -1)
    places, grown = plane(x, 30.0), tree(x, 8)
    assert np.isnan(places).all()
    table: Any = map_table(made, places, grown.cluster)
    assert len(table) == 6 and (table["label"] == ("ear" if value == 0.5 else "")).all()
    assert sum(cluster_table(made, grown.cluster)["units"]) == 6
