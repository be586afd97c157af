"""Measured beside true change, on changes whose order is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.perturbed import LABELS
from scipy.stats import spearmanr
from torch import Tensor

from lis.units.truth import COMPARED, Recovery, head_overlap, rank_correlation, summary


def recovery(measured: Tensor, true: Tensor) -> Recovery:
    return Recovery(torch.arange(len(true)), LABELS, torch.tensor([True, False, True]), measured, true)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def paired_means(measured: Tensor, true: Tensor, average: Any = np.mean) -> list[np.ndarray]:
    """Means `[units]` over the samples `[units, samples]` that have both."""
    pairs = torch.stack([measured, true], 2).tolist()
    rows = [[pair for pair in row if pair[0] == pair[0]] for row in pairs]
    return [np.array([average([pair[k] for pair in row]) if row else np.nan for row in rows]) for k in (0, 1)]


def axial(degrees: list[float]) -> float:
    """R times the mean direction."""
    mean = np.mean(np.exp(2j * np.radians(degrees)))
    return float(np.abs(mean) * np.degrees(np.angle(mean)) / 2)


def test_agreement_equals_plain_loops() -> None:
    true = random(30, 4, 3, 7)
    measured = true + random(30, 4, 3, 7, seed=1)
    measured[:, 0, 0] = torch.nan
    measured[3:6, :, 1] = torch.nan
    found: Any = recovery(measured, true)
    table = found.agreement.set_index(["label", "measure"])
    assert len(table) == 21 and (table["units"] == 30).all() and (table["seeds"] == 4).all()
    for k, label in enumerate(LABELS):
        for m, name in enumerate(COMPARED):
            average = axial if name == "angle" else np.mean
            pairs = [tuple(paired_means(measured[..., k, m], true[..., k, m], average))]
            pairs += [(measured[:, s, k, m].numpy(), true[:, s, k, m].numpy()) for s in range(4)]
            rho, heads = [], []
            for x, y in pairs:
                both = ~np.isnan(x)
                rho.append(spearmanr(x[both], y[both])[0] if both.any() else np.nan)
                first = set(np.argsort(-np.abs(np.nan_to_num(x)))[:10])
                heads.append(len(first & set(np.argsort(-np.abs(y))[:10])) if both.any() else np.nan)
            row = table.loc[(label, name)]
            assert row["interpreted"] == (label != "eye")
            assert row["spearman"] == pytest.approx(rho[0]) and row["overlap"] == heads[0]
            assert row["spearman_seed"] == pytest.approx(np.nanmean(rho[1:]))
            assert row["overlap_seed"] == pytest.approx(np.nanmean(heads[1:]))
    units: Any = found.units.set_index(["unit", "label", "measure"])
    assert units.loc[(7, "ear", "angle"), "true"] == pytest.approx(axial(true[7, 1:, 0, 6].tolist()), rel=1e-4)
    assert units.loc[(7, "ear", "angle"), "measured"] == pytest.approx(axial(measured[7, 1:, 0, 6].tolist()), rel=1e-4)


def test_the_truth_agrees_with_itself() -> None:
    true = random(12, 3, 3, 7)
    table: Any = recovery(true, true).agreement
    assert np.allclose(table[["spearman", "spearman_seed"]], 1)
    assert (table[["overlap", "overlap_seed"]] == 10).all(axis=None)
    against: Any = recovery(-true, true).agreement
    assert np.allclose(against["spearman"], -1) and (against["overlap"] == 10).all()


def test_angles_without_a_direction_are_not_ranked() -> None:
    """Measured or true; the linear mean of such angles ranked units by noise."""
    true = random(12, 9, 1, 7)
    measured = true.clone()
    measured[:3, :, 0, 6] = torch.tensor([-80.0, -60, -40, -20, 0, 20, 40, 60, 80])
    found = Recovery(torch.arange(12), ("ear",), torch.tensor([True]), measured, true)
    table: Any = found.agreement.set_index("measure")
    assert table.loc["angle", "ranked"] == 9 and table.loc["area", "ranked"] == 12
    assert table.loc["angle", "spearman"] == pytest.approx(1)


def test_where_nothing_can_be_said() -> None:
    nothing = torch.full((5, 2, 3, 7), torch.nan)
    table: Any = recovery(nothing, random(5, 2, 3, 7)).agreement
    assert table[["spearman", "overlap", "spearman_seed", "overlap_seed"]].isna().all(axis=None)
    assert np.isnan(rank_correlation(random(2, 3, 7), random(2, 3, 7))).all()
    assert (head_overlap(random(2, 3, 7), random(2, 3, 7)) == 2).all()


def test_means_over_interpreted_labels() -> None:
    true = random(30, 4, 3, 7)
    agreement: Any = recovery(true + random(30, 4, 3, 7, seed=1), true).agreement
    found = summary(agreement)
    assert list(found) == list(COMPARED)
    rows: Any = agreement[(agreement["measure"] == "entropy") & (agreement["label"] != "eye")]
    assert found["entropy"] == {"spearman": rows["spearman"].mean(), "overlap": rows["overlap"].mean()}
    assert np.isnan(summary(agreement.assign(interpreted=False))["area"]["spearman"])
