"""What tells an effect from an artefact, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.perturbed import tuned

from lis.units.unit_statistics import faithfulness, selectivity


def share(areas: list[float]) -> float:
    known = [abs(x) for x in areas if x == x]
    return max(known) / sum(known)


def test_honesty_equals_plain_loops() -> None:
    made = tuned(6)
    made.measures[..., 2, 0] = 1e-5
    made.reencoded_share[0, :3] = torch.nan
    own, null = made, tuned(4, seed=1, directions=True)
    random = [share(null.average.effect[n, :2, 0].tolist()) for n in range(4)]
    for p, row in enumerate(faithfulness(own, null).to_dict("records")):
        assert row["unit"] == p + 10
        assert row["reencoded_share"] == pytest.approx(np.nanmean(made.reencoded_share[p].numpy()), rel=1e-5)
        assert row["off_target"] == pytest.approx(made.off_target[p].mean().item(), rel=1e-5)
        assert row["step_norm"] == pytest.approx(made.step_norm[p].mean().item(), rel=1e-5)
        expected = share(own.average.effect[p, :2, 0].tolist())
        assert row["selectivity"] == pytest.approx(expected, rel=1e-5)
        assert row["selectivity_p"] == pytest.approx((1 + sum(x >= expected for x in random)) / 5)


def test_a_unit_of_a_single_label() -> None:
    made = tuned(2, absent=0)
    made.measures[:, :, 1] = made.measures[:, :, 0]
    made.measures[0, :, 1, 1, 0] *= 2
    found = selectivity(made, made.interpreted_index)
    assert found[0] == 1 and found[1].isnan()
    assert selectivity(made, []).isnan().all()
