"""What units do from class to class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from perturbed import LABELS, tuned

from lis.quantify.measures import MEASURES
from lis.units.effects import Effects
from lis.units.transfer import class_agreement, transfer


def test_transfer_of_the_leading_unit() -> None:
    effects = Effects.of(tuned(6, classes=("ant", "bee", "cat")))
    table: Any = transfer(effects)
    assert len(table) == 3 * 5 * 3
    for row in table.to_dict("records"):
        k, m = LABELS.index(row["label"]), MEASURES.index(row["measure"])
        size = effects.average.ranked[:, k, m].abs().nan_to_num(-1)
        unit = int(size.argmax())
        c = ("ant", "bee", "cat").index(row["class"])
        assert row["unit"] == unit + 10
        known = size.max() >= 0
        expected = effects.by_class.value[unit, c, k, m].item() if known else float("nan")
        assert row["change"] == pytest.approx(expected, nan_ok=True)


def test_agreement_between_classes() -> None:
    effects = Effects.of(tuned(8, classes=("ant", "bee", "cat"), absent=0.3))
    table: Any = class_agreement(effects)
    assert len(table) == 3 * 3 * 5 and len(table.drop_duplicates(["class_a", "class_b"])) == 3
    for row in table.to_dict("records"):
        k, m = LABELS.index(row["label"]), MEASURES.index(row["measure"])
        a, b = (("ant", "bee", "cat").index(row[name]) for name in ("class_a", "class_b"))
        pair = effects.by_class.effect[:, [a, b], k, m].numpy()
        pair = pair[~np.isnan(pair).any(1)]
        assert a < b and row["r"] == pytest.approx(np.corrcoef(pair.T)[0, 1], abs=1e-5)


def test_a_single_class_agrees_with_none() -> None:
    effects = Effects.of(tuned(4, classes=("ant",)))
    table: Any = class_agreement(effects)
    assert list(table) == ["label", "measure", "class_a", "class_b", "r"] and len(table) == 0
    assert set(transfer(effects)["class"]) == {"ant"}


def test_small_labels_are_left_out() -> None:
    made = tuned(4)
    made.measures[..., 1, 0] = 1e-5
    effects = Effects.of(made)
    assert set(transfer(effects)["label"]) == set(class_agreement(effects)["label"]) == {"ear", "tail"}
    made.measures[..., 0] = 1e-5
    effects = Effects.of(made)
    assert len(transfer(effects)) == len(class_agreement(effects)) == 0
