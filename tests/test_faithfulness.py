"""What tells an effect from an artefact, against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.perturbed import null, tuned

from lis.units.unit_statistics import faithfulness, selectivity


def share(areas: list[float]) -> float:
    known = [abs(x) for x in areas if x == x]
    return max(known) / sum(known)


def test_honesty_equals_plain_loops() -> None:
    made = tuned(6)
    made.measures[..., 2, 0] = 1e-5
    made.own[1] -= made.own[1].mean()  # a unit that moves, and not on average
    made.reencoded_share[:] = made.own * (std := 0.1 * torch.arange(1, 7))[:, None]  # over the range that was asked
    made.reencoded_share[0, :3] = torch.nan
    own, control = made, tuned(4, seed=1, directions=True)
    random = [share(control.average.effect[n, :2, 0].tolist()) for n in range(4)]
    for p, row in enumerate(faithfulness(own, null(6, control, own=0.4)).to_dict("records")):
        assert row["unit"] == p + 10
        assert row["reencoded_share"] == pytest.approx(np.nanmean(made.reencoded_share[p].numpy()), rel=1e-5, abs=1e-6)
        assert row["others"] == pytest.approx(made.others[p].mean().item(), rel=1e-5)
        assert row["step_norm"] == pytest.approx(made.step_norm[p].mean().item(), rel=1e-5)
        expected = share(own.average.effect[p, :2, 0].tolist())
        assert row["selectivity"] == pytest.approx(expected, rel=1e-5)
        # two of the four are a direction and its opposite
        assert row["selectivity_p"] == pytest.approx((1 + sum(x >= expected for x in random) / 2) / 3)
        assert row["selectivity_control"] == pytest.approx(np.mean(random), rel=1e-5)
        assert row["own_control"] == pytest.approx(0.4)
        assert row["reencoded_control"] == pytest.approx(0.4 * std[p].item(), rel=1e-5)
        assert row["length_control"] == 1


def test_a_unit_is_reached_where_it_moves_more_than_by_random_directions() -> None:
    """And the way it was asked."""
    made = tuned(4)
    control = tuned(200, seed=1, directions=True)
    made.own[:] = torch.tensor([0.5, 9.0, -9.0, 0.0])[:, None]
    beside = null(4, control)
    beside.own[:] = torch.randn(4, 200, generator=torch.Generator().manual_seed(0))
    table: Any = faithfulness(made, beside)
    assert table["reached"].tolist() == [False, True, False, False]
    assert table["q_reached"].le(0.05).tolist() == [False, True, True, False]
    assert (table["q_by_reached"] >= table["q_reached"]).all() and not table["selective"][~table["reached"]].any()


def test_a_unit_of_a_single_label() -> None:
    made = tuned(2, absent=0)
    made.measures[:, :, 1] = made.measures[:, :, 0]
    made.measures[0, :, 1, 1, 0] *= 2
    found = selectivity(made.average.effect)
    assert found[0] == 1 and found[1].isnan()
    assert selectivity(made.average.effect[:, :0]).isnan().all()
