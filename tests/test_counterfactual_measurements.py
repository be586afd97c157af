"""What `experiments/counterfactuals/measure.py` adds to searches: ways, how alike starts end, steps in pixels."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from test_counterfactuals import context
from torch.nn import functional as F

from experiments.counterfactuals.measure import alike, attacked, joined, parsed
from lis.boundary.job import Job
from lis.boundary.searches import blocks


def test_a_way_is_the_settings_of_a_search() -> None:
    settings = parsed("image:adam:near=0.7:lambda2=2")
    assert (settings.near, settings.lambda2, settings.optimizer, settings.max_steps) == (0.7, 2, "adam", 100)


def test_rows_are_alike_as_plain_loops_have_it() -> None:
    rows, success = torch.randn(12, 5, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 5 > 0
    groups = [[k for k in range(start, start + 4) if success[k]] for start in (0, 4, 8)]
    cosines = [F.cosine_similarity(rows[a], rows[b], dim=0) for group in groups for a, b in combinations(group, 2)]
    assert abs(alike(rows, success, 4) - float(torch.stack(cosines).mean())) < 1e-6
    assert np.isnan(alike(rows, success[:1].expand(12), 4))


def test_steps_in_pixels_reach_what_was_asked_for(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    job = Job.of(ctx)
    told = joined([attacked(job, block, 0.6) for block in blocks(job, 2, 1)])
    assert told["success"].any() and (told["probability"][told["success"]] >= 0.6).all()
    assert not told["w_distance"].any() and not any(name.startswith("witness") for name in told)
