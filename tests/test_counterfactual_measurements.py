"""What `experiments/counterfactuals/measure.py` adds to searches: w near the target's samples, how alike starts end."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.fakes import NAMES
from scipy.spatial.distance import mahalanobis
from test_counterfactuals import context
from torch.nn import functional as F

from experiments.counterfactuals.measure import NearTarget, Way, alike, attacked, joined
from lis.boundary.job import Job
from lis.boundary.searches import blocks, problems_of
from lis.linking.pairs import pairs


@pytest.mark.parametrize("per_class", ["false", "true"])
def test_the_loss_grows_with_the_distance_to_the_target_s_samples(tmp_path: Path, per_class: str) -> None:
    """SciPy's Mahalanobis distance, by the pseudo-inverse of the scatter (of the target), over its rank."""
    way = Way.parsed(f"image:adam:near=0.7:lambda2=2:per_class={per_class}")
    assert way.near == 0.7 and way.settings.lambda2 == 2 and way.settings.optimizer == "adam"
    ctx = context(tmp_path)
    job, train = Job.of(ctx), pairs(ctx, "train").tensors("pairs")
    problems = problems_of(job, blocks(job, 3, 1, way.settings)[0])
    near, plain, original = NearTarget.of(job, way), job.land(way.settings), job.codes(problems.r)
    shift = 0.1 * torch.randn(problems.r.shape, generator=torch.Generator().manual_seed(0))
    loss, expected = (land.loss(problems, shift, original)[0] for land in (near, plain))
    w, c = train["w"].double().numpy(), train["class_index"].numpy()
    means = np.stack([w[c == k].mean(0) for k in range(len(NAMES))])
    for k, code in enumerate(job.codes(problems.r + shift).numpy()):
        target = int(problems.target[k])
        counted = c == target if per_class == "true" else c >= 0
        scatter = np.cov((w - means[c])[counted], rowvar=False, bias=True)
        inverse = np.linalg.pinv(scatter, rcond=1e-8, hermitian=True)
        away, rank = mahalanobis(code, means[target], inverse), round(np.trace(inverse @ scatter))
        assert abs(float(loss[k] - expected[k]) - 0.7 * away**2 / rank) < 1e-3 * away**2


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
