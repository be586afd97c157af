"""What tuning leaves behind, read back: names, answers and changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lis.quantify.change import change
from lis.store import Artifact, Recipe, Store
from lis.units.tuned import Tuned

P, S, T, K, M, C = 3, 4, 3, 2, 5, 2


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def tensors(count: int) -> dict[str, Tensor]:
    measures = random(count, S, T, K, M)
    measures[:1, 0, 0, 1] = torch.nan
    return {
        "unit": torch.arange(count),
        "value": random(count, T),
        "measures": measures,
        "probability": random(count, S, T, C, seed=1),
        "prediction": (7 * random(count, S, T, seed=2)).long(),
        "position": random(count, S, T),
        "reencoded_share": random(count, S),
        "own": random(count, S),
        "others": random(count, S),
        "more": random(count, S),
        "beyond": random(count, S).round(),
        "step_norm": random(count, S),
        "class_index": torch.tensor([0, 0, 1, 1]),
        "sample_index": torch.tensor([0, 2, 1, 5]),
    }


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    facts = {
        "names": {"tuning": ["4", "5", "9"], "control": []},
        "labels": ["ear", "leg"],
        "class_names": ["pug", "collie"],
    }

    def build(draft) -> None:
        draft.tensors("tuning", tensors(P))
        draft.json("facts", facts)

    return Store(tmp_path).make(Recipe("tuning", 1, {}), build)


def test_what_was_written_is_read(artifact: Artifact) -> None:
    tuned = Tuned.of(artifact)
    assert (tuned.names, tuned.labels, tuned.class_names) == (("4", "5", "9"), ("ear", "leg"), ("pug", "collie"))
    for name, value in tensors(P).items():
        torch.testing.assert_close(getattr(tuned, name), value, equal_nan=True)


def test_changes_go_from_the_first_to_the_last_step(artifact: Artifact) -> None:
    tuned = Tuned.of(artifact)
    assert tuned.change.shape == (P, S, K, M)
    for p in range(P):
        for s in range(S):
            expected = change(tuned.measures[p, s, 0], tuned.measures[p, s, -1])
            torch.testing.assert_close(tuned.change[p, s], expected, equal_nan=True)
            own = tuned.class_index[s]
            answers = tuned.probability[p, s, :, own]
            assert torch.equal(tuned.class_probability[p, s], answers)
            assert tuned.probability_change[p, s] == answers[-1] - answers[0]
            assert tuned.flipped[p, s] == (tuned.prediction[p, s, -1] != tuned.prediction[p, s, 0])
    assert tuned.change[0, 0, 1].isnan().all() and tuned.change[1:].isfinite().all()
    assert tuned.flipped.dtype == torch.bool and tuned.flipped.any() and not tuned.flipped.all()
