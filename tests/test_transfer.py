"""What units do from class to class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.perturbed import LABELS, tuned

from lis.quantify.measures import MEASURES
from lis.units.tuned import Tuned
from lis.units.unit_statistics import class_agreement, transfer

RANDOM = tuned(5, seed=1, classes=("ant", "bee", "cat"), directions=True)


def firsts(effects: Tuned) -> Any:
    return transfer(effects, effects, {"unit": effects.unit})


def test_transfer_of_the_leading_direction() -> None:
    """In the labels that are interpreted of the units."""
    effects, random = tuned(6), tuned(4, seed=1, directions=True)
    effects.measures[..., 1, 0] = 1e-5
    table: Any = transfer(random, effects, {"name": random.names})
    assert list(table) == ["label", "measure", "class", "name", "change"] and set(table["label"]) == {"ear", "tail"}
    row = table[(table["label"] == "tail") & (table["measure"] == "area")].iloc[0]
    assert row["name"] == random.names[int(random.average.ranked[:, 2, 0].abs().argmax())]
    none = tuned(0, directions=True)
    assert list(transfer(none, effects, {"name": none.names})) == ["label", "measure", "class", "name", "change"]


def test_transfer_of_the_leading_unit() -> None:
    effects = tuned(6, classes=("ant", "bee", "cat"))
    table: Any = firsts(effects)
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
    rows: Any = firsts(made).groupby(["label", "measure"]).size()
    assert ("ear", "angle") not in rows.index and ("eye", "angle") in rows.index and len(rows) == 14


def test_agreement_between_classes() -> None:
    effects = tuned(8, classes=("ant", "bee", "cat"), absent=0.3)
    table: Any = class_agreement(effects, RANDOM)
    assert len(table) == 3 * 3 * 5 and len(table.drop_duplicates(["class_a", "class_b"])) == 3
    for row in table.to_dict("records"):
        k, m = LABELS.index(row["label"]), MEASURES.index(row["measure"])
        a, b = (("ant", "bee", "cat").index(row[name]) for name in ("class_a", "class_b"))
        pair = effects.by_class.effect[:, [a, b], k, m].numpy()
        pair = pair[~np.isnan(pair).any(1)]
        assert a < b and row["r"] == pytest.approx(np.corrcoef(pair.T)[0, 1], abs=1e-5)
        pair = RANDOM.by_class.effect[:, [a, b], k, m].numpy()
        pair = pair[~np.isnan(pair).any(1)]
        assert row["control"] == pytest.approx(np.corrcoef(pair.T)[0, 1], abs=1e-5)


def test_a_single_class_agrees_with_none() -> None:
    effects = tuned(4, classes=("ant",))
    table: Any = class_agreement(effects, RANDOM)
    assert list(table) == ["label", "measure", "class_a", "class_b", "r", "control"] and len(table) == 0
    assert set(firsts(effects)["class"]) == {"ant"}


def test_small_labels_are_left_out() -> None:
    made = tuned(4)
    made.measures[..., 1, 0] = 1e-5
    assert set(firsts(made)["label"]) == set(class_agreement(made, RANDOM)["label"]) == {"ear", "tail"}
    made = replace(made, measures=torch.full_like(made.measures, 1e-5))
    assert len(firsts(made)) == len(class_agreement(made, RANDOM)) == 0
