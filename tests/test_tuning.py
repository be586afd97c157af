"""Tuning every unit: against one image at a time, whatever the blocks and batches, and when it is interrupted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes_units import (
    LABELS,
    NAMES,
    FakeClassifier,
    FakeGenerator,
    look,
    slow_screen,
    spread,
    tuning_context,
    use_fake_segmenter,
)
from torch import Tensor

from lis.config import MLPConfig
from lis.context import Context
from lis.linking.link import link, load_link
from lis.linking.pairs import pairs
from lis.quantify.measures import MEASURES
from lis.store import Artifact
from lis.streams import Stream
from lis.units.arrival import Arrival
from lis.units.controls import Controls
from lis.units.directions import Directions
from lis.units.perturbation import Perturbation
from lis.units.tuned import Tuned
from lis.units.tuning import tuning

FIELDS = ("measures", "probability", "prediction", "reencoded_share", "own", "others", "more", "step_norm", "position")
SAMPLES = 9


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    """The stage on the fakes with a linear link, in three steps."""
    with pytest.MonkeyPatch.context() as patch:
        use_fake_segmenter(patch)
        ctx = tuning_context(tmp_path_factory.mktemp("run"), tuning__steps=3)
        return ctx, tuning(ctx)


@pytest.fixture
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_segmenter(monkeypatch)


fake = pytest.mark.usefixtures("_fake")


def same(ours: Artifact, theirs: Artifact) -> None:
    """Equal to float tolerance."""
    for name in ("tuning", "control", "seeds"):
        both = [one.tensors(name) for one in (ours, theirs)]
        if name == "control":  # in half precision
            torch.testing.assert_close(*(one.pop("reencoded").float() for one in both), rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(*both, rtol=1e-4, atol=1e-4, equal_nan=True)
    for name in ("units", "seeds"):
        pd.testing.assert_frame_equal(ours.table(name), theirs.table(name))
    assert ours.json("facts") == theirs.json("facts")


def test_every_number_equals_plain_loops(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    tuned = Tuned.of(artifact)
    for k, seed in [(0, 0), (2, 4), (5, 8), (3, 3)]:
        expected = slow_screen(ctx, artifact, int(tuned.unit[k]), seed)
        found = {name: getattr(tuned, name)[k, seed] for name in FIELDS}
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4, equal_nan=True)
    assert tuned.measures.isfinite().any() and tuned.measures[..., 0].isnan().any()  # some labels are absent
    assert tuned.reencoded_share.std() > 0 and tuned.others.min() > 0


def test_what_an_artifact_holds(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    tuned, seeds = Tuned.of(artifact), artifact.tensors("seeds")
    assert tuned.measures.shape == (6, SAMPLES, 3, 2, 5) and tuned.probability.shape == (6, SAMPLES, 3, 3)
    assert (tuned.labels, tuned.class_names) == (LABELS, NAMES)
    assert artifact.json("facts")["measures"] == list(MEASURES)
    table = link(ctx).table("units")
    assert tuned.names == tuple(str(u) for u in tuned.unit.tolist()) and tuned.unit.tolist() == sorted(tuned.unit)
    lowest, highest = (table[name].to_numpy()[tuned.unit] for name in ("minimum", "maximum"))
    np.testing.assert_allclose(tuned.value, np.stack([lowest, (lowest + highest) / 2, highest], 1), rtol=1e-5)
    drawn = pairs(ctx, "tuning").tensors("pairs")
    assert torch.equal(tuned.class_index, drawn["class_index"])
    assert torch.equal(tuned.sample_index, drawn["sample_index"])
    assert seeds["r"].equal(drawn["r"]) and seeds["w"].shape == (SAMPLES, 6)
    torch.testing.assert_close(seeds["w"], load_link(link(ctx))(drawn["r"]))
    measures, probability, _ = look(ctx, seeds["w"][5])
    torch.testing.assert_close(seeds["measures"][5], measures, rtol=1e-3, atol=1e-4, equal_nan=True)
    torch.testing.assert_close(seeds["probability"][5], probability)
    rows: Any = artifact.table("seeds")
    assert rows["class"].tolist() == [name for name in NAMES for _ in range(3)]
    assert rows["class_index"].tolist() == tuned.class_index.tolist()
    assert rows["sample_index"].tolist() == tuned.sample_index.tolist()


def test_the_units_with_the_largest_steps_are_tuned(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    units: Any = artifact.table("units")
    known: Any = link(ctx).table("units")
    assert units["unit"].tolist() == list(range(16)) and units["tuned"].sum() == 6
    np.testing.assert_allclose(units["step_norm"], known["step_norm"].where(known["status"] == "live"), rtol=1e-6)
    assert units[units["tuned"]]["step_norm"].min() >= units[~units["tuned"]]["step_norm"].max()
    assert set(units[~units["tuned"]]["reason"]) == {"small step"} and set(units[units["tuned"]]["reason"]) == {""}
    assert Tuned.of(artifact).unit.tolist() == units[units["tuned"]]["unit"].tolist()


def test_random_directions_go_to_places_on_both_sides(run: tuple[Context, Artifact]) -> None:
    """As far as the units and samples that go farthest, and with what is read off each image, one by one."""
    ctx, artifact = run
    control, units, seeds = controls(artifact), artifact.table("units"), artifact.tensors("seeds")
    assert control.names == ("random 0", "random 1", "random 2", "random 3")
    assert control.measures.shape == (4, SAMPLES, 5, 2, 5) and control.reencoded.shape == (4, 3, 5, 16)
    tuned: Any = units[units["tuned"]]
    far = 0.0
    for row in tuned.to_dict("records"):
        value = seeds["r"][:, row["unit"]].numpy()
        sides = np.maximum(value - row["minimum"], row["maximum"] - value) / (row["maximum"] - row["minimum"])
        far = max(far, float(sides.max()) * row["step_norm"])
    assert float(Tuned.of(artifact).position.abs().max()) == pytest.approx(far, rel=1e-4)
    assert control.position.shape == (4, SAMPLES, 5) and (control.position[..., 2] == 0).all()
    torch.testing.assert_close(control.position[..., -1], torch.full((4, SAMPLES), far), rtol=1e-4, atol=0)
    torch.testing.assert_close(control.position, -control.position.flip(-1), rtol=1e-3, atol=1e-5)
    assert (control.position.diff(dim=-1) > 0).all()
    made = load_link(link(ctx))
    live = torch.from_numpy((link(ctx).table("units")["status"] == "live").to_numpy().copy())
    std = torch.from_numpy(spread(ctx)).float().where(live, 0.0)
    direction = Stream("null directions", ctx.config.seed).normal(None, torch.tensor([2]), 16)[0] * std
    delta = made(torch.stack([torch.zeros(16), direction])).diff(dim=0)[0]
    encoded = []
    for s in range(3):
        for at in (0, 2, 4):
            w = seeds["w"][s] + control.position[2, s, at] * delta / delta.norm()
            measures, probability, r = look(ctx, w)
            torch.testing.assert_close(control.measures[2, s, at], measures, rtol=1e-2, atol=1e-3, equal_nan=True)
            torch.testing.assert_close(control.probability[2, s, at], probability, rtol=1e-3, atol=1e-3)
            encoded.append(r)
    change = torch.stack(encoded).view(3, 3, 16).mean(0) / std.where(std > 0, torch.inf)
    expected = change - change[1]
    torch.testing.assert_close(control.reencoded[2, 0, [0, 2, 4]].float(), expected, rtol=1e-2, atol=1e-2)


def controls(artifact: Artifact) -> Controls:
    return Controls.of(artifact, np.random.default_rng(0))


def test_what_arrives_of_a_direction() -> None:
    """Against a plain loop: the share along d, and what the rest is in standard deviations."""
    first, last = (torch.randn(3, 4, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    spread = torch.tensor([1.0, 2.0, torch.inf, 0.5])
    d = torch.tensor([0.5, 0.5, 0.5, 0.5])
    move = Perturbation.along("d", d, -1.0, 3.0)
    arrival = Arrival.of(move, first, last, spread, along=2.0)
    for k in range(3):
        change = last[k] - first[k]
        rest = change - (change @ d) * d
        scaled = [float(rest[u] / spread[u]) ** 2 for u in (0, 1, 3)]
        assert float(arrival.own[k]) == pytest.approx(float(change @ d) / 2, rel=1e-5)
        assert float(arrival.reencoded_share[k]) == pytest.approx(float(change @ d) / 4, rel=1e-5)
        assert float(arrival.others[k]) == pytest.approx(np.sqrt(sum(scaled) / 2), rel=1e-5)
    assert arrival.more.isnan().all()
    alone = Arrival.of(Perturbation.of_unit(0, 1.0, 1.0), first, last, torch.tensor([1.0] + 3 * [torch.inf]), 1.0)
    assert all(values.isnan().all() for values in (alone.reencoded_share, alone.others, alone.more))


@fake
@pytest.mark.parametrize(
    "sizes",
    [
        {"tuning__unit_block": 3, "tuning__seed_block": 1, "tuning__batch_size": 2},
        {"tuning__unit_block": 50, "tuning__seed_block": 50, "tuning__batch_size": 1000},
        {"tuning__unit_block": 5, "batch_size": 3},
    ],
)
def test_blocks_and_batches_do_not_matter(run: tuple[Context, Artifact], tmp_path: Path, sizes: dict[str, int]) -> None:
    other = tuning(tuning_context(tmp_path, tuning__steps=3, **sizes))
    assert other.key == run[1].key
    same(other, run[1])


@fake
def test_a_second_call_reads_what_the_first_made(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    assert tuning(ctx).manifest["created"] == artifact.manifest["created"]


@fake
@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("kind", [None, MLPConfig(hidden=8, max_epochs=2)], ids=["linear", "mlp"])
def test_every_link_and_generator_is_tuned(tmp_path: Path, kind: Any, conditional: bool) -> None:
    more = {} if kind is None else {"link": kind}
    ctx = tuning_context(tmp_path, FakeGenerator(conditional=conditional), **more)
    artifact = tuning(ctx)
    tuned = Tuned.of(artifact)
    assert tuned.measures.shape == (6, SAMPLES, 2, 2, 5)
    assert controls(artifact).measures.shape == (4, SAMPLES, 5, 2, 5)
    expected = slow_screen(ctx, artifact, int(tuned.unit[1]), 4)
    found = {name: getattr(tuned, name)[1, 4] for name in FIELDS}
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4, equal_nan=True)
    r = pairs(ctx, "tuning").tensors("pairs")["r"]
    moved = Directions(load_link(link(ctx))).moved(r, Perturbation.of_unit(int(tuned.unit[0]), 0, 0), tuned.value[0])
    torch.testing.assert_close(tuned.step_norm[0], (moved[:, 1] - moved[:, 0]).norm(dim=1), rtol=1e-3, atol=1e-5)


@fake
def test_all_units_and_no_random_directions(tmp_path: Path) -> None:
    artifact = tuning(tuning_context(tmp_path, tuning__units=None, tuning__control_directions=0))
    null = controls(artifact)
    assert artifact.table("units")["tuned"].tolist() == 16 * [True] and Tuned.of(artifact).measures.shape[0] == 16
    assert null.names == () and null.measures.shape == (0, SAMPLES, 5, 2, 5)


@fake
def test_a_run_with_fewer_classes_in_another_order(tmp_path: Path) -> None:
    """Probabilities are those of the run's classes, predictions positions among the classifier's."""
    artifact = tuning(ctx := tuning_context(tmp_path, classes__names=["cat", "ant"], tuning__units=2))
    tuned = Tuned.of(artifact)
    expected = slow_screen(ctx, artifact, int(tuned.unit[1]), 4)
    torch.testing.assert_close(tuned.probability[1, 4], expected["probability"], rtol=1e-3, atol=1e-4)
    assert tuned.prediction[1, 4].tolist() == expected["prediction"].tolist()
    assert tuned.class_names == ("cat", "ant") and (tuned.probability.sum(-1) < 1.0001).all()


class Counted(FakeGenerator):
    """Counts the images that are drawn with their maps, and may stop."""

    def __init__(self, stop: int = 10**9) -> None:
        super().__init__()
        self.stop, self.images, self.most = stop, 0, 0

    def synthesize(self, w: Tensor, features: bool = False) -> Any:
        if features and getattr(self, "images", None) is not None:
            self.images += len(w)
            self.most = max(self.most, len(w))
            if self.images > self.stop:
                raise KeyboardInterrupt
        return super().synthesize(w, features)


@fake
def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    expected = tuning(tuning_context(tmp_path / "unbroken", Counted()))
    with pytest.raises(KeyboardInterrupt):
        tuning(tuning_context(tmp_path, Counted(stop=100)))
    done = (tmp_path / "store" / "tuning-shard").iterdir()
    kept = sum(Artifact(path, "", {}).tensors("block")["prediction"].numel() for path in done)
    again = Counted()
    same(tuning(tuning_context(tmp_path, again)), expected)
    assert 0 < kept < 100
    total = SAMPLES * (1 + 2 * 6 + 4 * 4)
    assert again.images == total - kept + 1  # one image was drawn to choose the batch


@fake
def test_more_samples_start_from_the_shards_that_are_there(tmp_path: Path) -> None:
    few = tuning(tuning_context(tmp_path, tuning__seeds=2))
    more = Counted()
    artifact = tuning(tuning_context(tmp_path, more, tuning__seeds=3))
    ours, theirs = Tuned.of(artifact), Tuned.of(few)
    torch.testing.assert_close(ours.measures[:, [0, 1]], theirs.measures[:, [0, 1]], equal_nan=True)
    assert more.images == 3 * (1 + 2 * 6 + 4 * 4) + 1


class Cramped(Counted):
    """Has memory for a few images at once."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room, self.error = room, error

    def synthesize(self, w: Tensor, features: bool = False) -> Any:
        if features and len(w) > self.room:
            raise self.error
        return super().synthesize(w, features)


@fake
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB."),
    ],
    ids=["python", "cpu", "gpu"],
)
def test_batches_are_halved_when_memory_runs_out(
    run: tuple[Context, Artifact], tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    generator = Cramped(3, error)
    same(tuning(tuning_context(tmp_path, generator, tuning__steps=3, tuning__batch_size=16)), run[1])
    assert generator.most == 2
    assert "memory runs out with 16 images at once: going on with 8" in caplog.text


@fake
def test_no_room_for_a_single_image(tmp_path: Path) -> None:
    ctx = tuning_context(tmp_path, Cramped(0, MemoryError("no room")), tuning__batch_size=4)
    with pytest.raises(ValueError, match=r"single image \(no room\): expected room for one; use a smaller generator"):
        tuning(ctx)


@fake
def test_other_errors_are_passed_on(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="another error"):
        tuning(tuning_context(tmp_path, Cramped(0, RuntimeError("another error")), tuning__batch_size=4))


@fake
def test_a_link_that_is_not_finite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lis.units import directions as ways

    def broken(artifact: Artifact) -> Any:
        model: Any = load_link(artifact)
        model.coef[3] = torch.nan
        return model

    monkeypatch.setattr(ways, "load_link", broken)
    with pytest.raises(ValueError, match=r"no finite w for unit 3 between .*link=ridge"):
        tuning(tuning_context(tmp_path))


class Silent(FakeClassifier):
    """Gives no answer to an image that is generated from a link's code."""

    asked = False

    def head(self, r: Tensor) -> Tensor:
        return super().head(r) * (torch.nan if self.asked else 1)


@fake
def test_an_answer_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    generator = FakeGenerator()
    ctx = tuning_context(tmp_path, generator, classifier := Silent(generator))
    link(ctx)
    pairs(ctx, "tuning")
    classifier.asked = True
    with pytest.raises(ValueError, match="answer to a generated image is not finite"):
        tuning(ctx)


@fake
def test_a_class_that_is_never_accepted_is_named(tmp_path: Path) -> None:
    """As for pairs, on the stream of tuning."""

    class Blind(FakeClassifier):
        def head(self, r: Tensor) -> Tensor:
            logits = super().head(r)
            logits[:, 1] = -torch.inf
            return logits

    generator = FakeGenerator()
    with pytest.raises(ValueError, match=r"'bee'.* 0\.00% of 500 .*pairs\.min_acceptance"):
        pairs(tuning_context(tmp_path, generator, Blind(generator)), "tuning")


def test_seeds_are_samples_of_their_own(tmp_path: Path) -> None:
    """Accepted ones of the stream `tuning`: the first of each class, none of them a pair."""
    ctx = tuning_context(tmp_path, tuning__seeds=5)
    table = pairs(ctx, "tuning").tensors("pairs")
    assert table["class_index"].tolist() == [c for c in range(3) for _ in range(5)]
    known = torch.cat([pairs(ctx, split).tensors("pairs")["w"] for split in ("train", "test")])
    assert torch.cdist(table["w"], known).min() > 1e-4
    assert all((table["sample_index"].view(3, 5).diff(dim=1) > 0).flatten().tolist())


PEAKS = """
import resource, tempfile
from pathlib import Path
import pytest, torch
from helpers.fakes_units import FakeClassifier, FakeGenerator, tuning_context, use_fake_segmenter
from lis.units.tuning import tuning

torch.set_num_threads(1)
use_fake_segmenter(pytest.MonkeyPatch())
generator = FakeGenerator(resolution=32)
classifier = FakeClassifier(generator, units=600)
for units, seeds in ((20, 2), (300, 2), (20, 30)):
    with tempfile.TemporaryDirectory() as folder:
        sizes = dict(tuning__units=units, tuning__seeds=seeds, tuning__unit_block=20, tuning__batch_size=50)
        tuning(tuning_context(Path(folder), generator, classifier, **sizes))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_units_and_samples() -> None:
    """But for the results, some 300 bytes per unit and sample: the images of one run would take 40 MB."""
    command = [sys.executable, "-c", PEAKS]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
    few, units, seeds = (int(line) / 1024 for line in done.stdout.split())
    assert units - few < 12 and seeds - few < 12
