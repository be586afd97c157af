"""What units do from class to class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.perturbed import LABELS, tuned

from lis.quantify.measures import MEASURES
from lis.units.unit_statistics import class_agreement, transfer


def test_transfer_of_the_leading_unit() -> None:
    effects = tuned(6, classes=("ant", "bee", "cat"))
    table: Any = transfer(effects)
    there = ~effects.average.ranked.isnan().all(0)  # angles may have no mean
    assert 40 <= len(table) == 3 * int(there.sum())
    for row in table.to_dict("records"):
        k, m = LABELS.index(row["label"]), MEASURES.index(row["measure"])
        size = effects.average.ranked[:, k, m].abs().nan_to_num(-1)
        unit = int(size.argmax())
        c = ("ant", "bee", "cat").index(row["class"])
        assert row["unit"] == unit + 10
        assert row["change"] == pytest.approx(effects.by_class.value[unit, c, k, m].item(), nan_ok=True)


def test_where_no_unit_has_a_mean_angle_none_leads() -> None:
    made = tuned(3, absent=0)
    made.measures[..., MEASURES.index("angle")] = 0.0
    made.measures[:, :, 1, 0, MEASURES.index("angle")] = torch.tensor([-67.5, -45, -22.5, 0, 22.5, 45, 67.5, 90])
    rows: Any = transfer(made).groupby(["label", "measure"]).size()
    assert ("ear", "angle") not in rows.index and ("eye", "angle") in rows.index and len(rows) == 14


def test_agreement_between_classes() -> None:
    effects = tuned(8, classes=("ant", "bee", "cat"), absent=0.3)
    table: Any = class_agreement(effects)
    assert len(table) == 3 * 3 * 5 and len(table.drop_duplicates(["class_a", "class_b"])) == 3
    for row in table.to_dict("records"):
        k, m = LABELS.index(row["label"]), MEASURES.index(row["measure"])
        a, b = (("ant", "bee", "cat").index(row[name]) for name in ("class_a", "class_b"))
        pair = effects.by_class.effect[:, [a, b], k, m].numpy()
        pair = pair[~np.isnan(pair).any(1)]
        assert a < b and row["r"] == pytest.approx(np.corrcoef(pair.T)[0, 1], abs=1e-5)


def test_a_single_class_agrees_with_none() -> None:
    effects = tuned(4, classes=("ant",))
    table: Any = class_agreement(effects)
    assert list(table) == ["label", "measure", "class_a", "class_b", "r"] and len(table) == 0
    assert set(transfer(effects)["class"]) == {"ant"}


def test_small_labels_are_left_out() -> None:
    made = tuned(4)
    made.measures[..., 1, 0] = 1e-5
    assert set(transfer(made)["label"]) == set(class_agreement(made)["label"]) == {"ear", "tail"}
    made = replace(made, measures=torch.full_like(made.measures, 1e-5))
    assert len(transfer(made)) == len(class_agreement(made)) == 0
