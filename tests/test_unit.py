"""One unit and one direction: against plain loops, on links of every kind, as tables, pictures and a section."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context, stand_in
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from lis.config import LeastSquaresConfig, MLPConfig
from lis.context import Context
from lis.linking.link import link, load_link
from lis.linking.pairs import pairs
from lis.quantify.change import change, turned
from lis.quantify.measures import MEASURES, measure
from lis.report import unit as unit_module
from lis.report.animations import animation_names, frames, gif, write_animations
from lis.report.layouts import overlay
from lis.report.page import write_report
from lis.report.source import source
from lis.segmentation.segmenter import segmenter as segmenter_stage
from lis.stage import REGISTRY, closure
from lis.store import Artifact
from lis.units.direction import check_direction, class_pair, direction_view, find_direction, of_direction, read_vector
from lis.units.directions import directions, load_directions
from lis.units.parts import Parts
from lis.units.perturbation import Perturbation
from lis.units.unit import Traversal, affected_table, of_unit, unit_view

LABELS = ("bright", "dark")
SIZES = {"view__samples": 2, "view__steps": 3, "unit": 5, "classes__labels": list(LABELS)}
MLP = MLPConfig(hidden=8, max_epochs=2)


def masks(maps: dict[str, Tensor]) -> Tensor:
    """Bright pixels are 1, dark ones 2, the rest is background."""
    grey = maps["only"].mean(1)
    return torch.where(grey > 0.02, 1, torch.where(grey < -0.02, 2, 0))


@pytest.fixture(scope="module", autouse=True)
def segmenter() -> Iterator[None]:
    """A segmenter that needs no training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lis.units.parts.segmenter", lambda _: SimpleNamespace(key="parts"))
        stand_in(patch, "segmenter", lambda _: SimpleNamespace(key="parts"))
        patch.setattr("lis.units.parts.load_segmenter", lambda *_: SimpleNamespace(labels=LABELS, layers=("only",)))
        patch.setattr("lis.segmentation.segmenter.segment", lambda _, maps: masks(maps))
        yield


@pytest.fixture(scope="module")
def run(segmenter: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    """The stage "unit" on the fakes, for one class."""
    ctx = make_context(tmp_path_factory.mktemp("unit"), **SIZES, class_name="bee")
    return ctx, unit_view(ctx)


@pytest.fixture(scope="module")
def along(segmenter: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    """The stage "direction" on the fakes, a sample of each class."""
    ctx = make_context(tmp_path_factory.mktemp("along"), **SIZES, direction="classes:ant-cat")
    return ctx, direction_view(ctx)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plainly(ctx: Context, r: Tensor, d: Tensor, v: float) -> dict[str, Any]:
    """One sample at one value, step by step: r' = r + (v − r·d) d, then the whole way round."""
    w = load_link(link(ctx))((r + (v - r @ d) * d)[None])
    image, maps = ctx.generator.synthesize(w, features=True)
    mask = masks(maps)
    again = ctx.classifier.features(image)
    return {
        "w": w[0],
        "image": 127.5 * (image[0] + 1),
        "mask": mask[0],
        "measures": measure(mask, image, 2)[0],
        "probability": ctx.classifier.head(again).softmax(1)[0],
        "r": again[0],
    }


@pytest.mark.parametrize("kind", [LeastSquaresConfig(), MLP], ids=["linear", "mlp"])
@pytest.mark.parametrize("unit", [True, False], ids=["unit", "direction"])
def test_a_traversal_equals_plain_loops(tmp_path: Path, kind: Any, unit: bool) -> None:
    ctx = make_context(tmp_path, link=kind, **SIZES)
    test = {name: x[::13] for name, x in pairs(ctx, "test").tensors("pairs").items()}
    d = torch.nn.functional.one_hot(torch.tensor(5), 16).float() if unit else random(16) / random(16).norm()
    moved = Perturbation.of_unit(5, 0.0, 2.0) if unit else Perturbation.along("d", 7 * d, 0.0, 2.0)
    std = random(16, seed=3).abs() + 0.1
    made = replace(load_directions(ctx, link(ctx), directions(ctx)), along="link")
    found = Traversal.of(ctx, made, Parts.of(ctx), moved, test, std, 3.0)
    torch.testing.assert_close(found.projection, test["r"] @ d)
    assert found.value.tolist() == pytest.approx([0, 1, 2])
    for k, r in enumerate(test["r"]):
        steps = [plainly(ctx, r, d, float(v)) for v in found.value]
        for t, step in enumerate(steps):
            assert (found.image[k, t] - step["image"]).abs().max() <= 0.51
            assert (found.mask[k, t] == step["mask"]).all()
            torch.testing.assert_close(found.measures[k, t], step["measures"], equal_nan=True, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(found.probability[k, t], step["probability"], rtol=1e-3, atol=1e-5)
            assert found.prediction[k, t] == step["probability"].argmax()
        torch.testing.assert_close(found.step_norm[k], (steps[-1]["w"] - steps[0]["w"]).norm(), rtol=1e-3, atol=1e-4)
        moved_r = steps[-1]["r"] - steps[0]["r"]
        torch.testing.assert_close(found.reencoded_share[k], moved_r @ d / 2, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.own[k], moved_r @ d / 3, rtol=1e-3, atol=1e-4)
        rest = (moved_r - (moved_r @ d) * d) / std
        torch.testing.assert_close(found.others[k], (rest.square().sum() / 15).sqrt(), rtol=1e-3, atol=1e-4)


def test_an_axis_turns_step_by_step() -> None:
    angle = 180 * torch.rand(5, 7, 3, generator=torch.Generator().manual_seed(0)) - 90
    angle[torch.rand(angle.shape, generator=torch.Generator().manual_seed(1)) < 0.2] = torch.nan
    found = turned(angle)
    for n, k in np.ndindex(5, 3):
        total, last = 0.0, float(angle[n, 0, k])
        for t in range(7):
            now = float(angle[n, t, k])
            if np.isnan(now) or np.isnan(last):
                assert found[n, t, k].isnan()
                continue
            total += min((now - last + 180 * turn for turn in (-1, 0, 1)), key=abs)
            last = now
            assert found[n, t, k] == pytest.approx(total, abs=1e-3)


def test_with_two_steps_the_change_is_that_of_a_screen(run: tuple[Context, Artifact]) -> None:
    found = Traversal(**run[1].tensors("traversal"))
    both = Traversal(**vars(found) | {"measures": found.measures[:, [0, -1]]})
    torch.testing.assert_close(both.change[:, 1], change(found.measures[:, 0], found.measures[:, -1]), equal_nan=True)


def test_the_affected_labels_are_ranked_within_each_measure() -> None:
    measures = torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(0)) + 0.5
    measures[0, :, 1] = torch.nan  # absent in one sample
    measures[:, :, 2] = torch.nan  # in all
    measures[:, :, 3, 0] = 0.001  # too small
    found: Any = SimpleNamespace(measures=measures, change=change(measures[:, :1].expand_as(measures), measures))
    table: Any = affected_table(found, ["a", "b", "c", "d"]).set_index(["label", "measure"])
    moved = change(measures[:, 0], measures[:, 1])
    for label, name in (("a", "area"), ("b", "luminance"), ("d", "entropy")):
        own = moved[:, "abcd".index(label), MEASURES.index(name)]
        own = own[~own.isnan()].double()
        row = table.loc[(label, name)]
        assert row["change"] == pytest.approx(float(own.mean())) and row["n"] == len(own)
        assert (row["lowest"], row["highest"]) == pytest.approx((float(own.min()), float(own.max())))
    assert table.loc["b"]["mean_area"].iloc[0] == pytest.approx(float(measures[1:, :, 1, 0].mean()))
    assert np.isnan(table.loc[("c", "area"), "change"]) and table.loc["c"]["rank"].eq(0).all()
    assert not table.loc["d"]["interpreted"].any() and table.loc["d"]["rank"].eq(0).all()
    for name in MEASURES:
        size = table.xs(name, level="measure").loc[["a", "b"]]
        expected = size["change"].abs().rank(ascending=False).fillna(0)  # two samples have no mean angle
        assert size["rank"].tolist() == expected.tolist()


def test_a_unit_goes_through_its_range_on_samples_of_its_class(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    facts, found = artifact.json("facts"), Traversal(**artifact.tensors("traversal"))
    row = link(ctx).table("units").set_index("unit").loc[5]
    assert (facts["unit"], facts["name"], facts["status"]) == (5, "5", "live")
    assert (facts["low"], facts["high"]) == pytest.approx((row["minimum"], row["maximum"]))
    assert facts["step_norm"] == pytest.approx(row["step_norm"], rel=1e-4)
    assert facts["reencoded_share"] == pytest.approx(float(found.reencoded_share.mean()))
    assert facts["labels"] == list(LABELS) and facts["class_names"] == list(NAMES)
    test = pairs(ctx, "test").tensors("pairs")
    own = test["class_index"] == 1
    assert found.class_index.tolist() == [1] * 2
    assert found.sample_index.tolist() == test["sample_index"][own][:2].tolist()
    torch.testing.assert_close(found.projection, test["r"][own][:2, 5])


def test_a_direction_goes_through_the_projections_of_the_training_pairs(along: tuple[Context, Artifact]) -> None:
    ctx, artifact = along
    train, facts = pairs(ctx, "train").tensors("pairs"), artifact.json("facts")
    d = train["r"][train["class_index"] == 2].mean(0) - train["r"][train["class_index"] == 0].mean(0)
    at = train["r"] @ (d / d.norm())
    assert (facts["low"], facts["high"]) == pytest.approx((float(at.min()), float(at.max())), rel=1e-4)
    assert (facts["mean"], facts["std"]) == pytest.approx((float(at.mean()), float(at.std(correction=0))), rel=1e-4)
    assert (facts["unit"], facts["name"]) == (-1, "classes:ant-cat")
    found = Traversal(**artifact.tensors("traversal"))
    assert found.class_index.tolist() == [0, 1, 2]
    assert found.class_probability[0, -1] < found.class_probability[0, 0]
    assert found.class_probability[2, -1] > found.class_probability[2, 0]


def test_tables_hold_what_the_tensors_do(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    found = Traversal(**artifact.tensors("traversal"))
    steps: Any = artifact.table("steps")
    assert len(steps) == 6 and set(steps["class"]) == {"bee"}
    known = np.asarray(ctx.classifier.class_names)
    for _, row in steps.iterrows():
        k, t = found.sample_index.tolist().index(row["sample_index"]), row["step"]
        assert row["value"] == found.value[t] and row["projection"] == found.projection[k]
        assert row["probability"] == row["probability_bee"] == found.probability[k, t, 1]
        assert row["prediction"] == known[found.prediction[k, t]]
        assert row["flipped"] == (found.prediction[k, t] != found.prediction[k, 0])
    table: Any = artifact.table("measures")
    place = {"sample_index": int(found.sample_index[1]), "step": 2, "label": "dark", "measure": "entropy"}
    row = table[(table[list(place)] == list(place.values())).all(axis=1)]
    assert len(table) == 2 * 3 * 2 * 5 and len(row) == 1
    expected = [found.measures[1, 2, 1, 2], found.change[1, 2, 1, 2]]
    np.testing.assert_allclose(row[["measured", "change"]].to_numpy()[0], expected)


def test_a_second_call_reads_what_the_first_made(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    ctx, artifact = run
    assert unit_view(ctx).manifest["created"] == artifact.manifest["created"]
    for changes in ({"unit": 6}, {"class_name": "ant"}, {"class_name": None}, {"view__steps": 5}):
        other = make_context(tmp_path, **SIZES | {"class_name": "bee"} | changes)
        assert unit_view(other).key != artifact.key


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("labels", [list(LABELS), []], ids=["parts", "no parts"])
def test_every_generator_ends_in_a_section(tmp_path: Path, conditional: bool, labels: list[str]) -> None:
    """With parts and without, which is what an unlabelled generator has."""
    sizes = SIZES | {"classes__labels": labels, "direction": "pc:2"}
    ctx = make_context(tmp_path, FakeGenerator(conditional=conditional), **sizes)
    artifacts = {"unit": unit_view(ctx), "direction": direction_view(ctx)}
    found = source(ctx, artifacts)
    for section in (unit_module.unit(found), unit_module.direction(found)):
        assert section is not None and len(section.figures) == 2
        assert len(section.tables) == (3 if labels else 2)  # the unit, what arrives, and the parts
        assert ("what changes most is the" in section.lead) == bool(labels)


def test_components_are_those_of_the_samples() -> None:
    r = random(50, 6) * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.0])
    index = torch.arange(50) % 2
    _, _, axes = np.linalg.svd((r - r.mean(0)).numpy().astype(np.float64))
    for k in (1, 3):
        found = find_direction(f"pc:{k}", r, index, ["a", "b"])
        assert abs(float(found.double() @ torch.tensor(axes[k - 1]))) == pytest.approx(1, abs=1e-4)
    with pytest.raises(ValueError, match="pc:6: the samples do not vary along that component"):
        find_direction("pc:6", r, index, ["a", "b"])
    with pytest.raises(ValueError, match="all training pairs lie at 0 along it"):
        of_direction("last", torch.eye(6)[5], r)


def test_class_names_with_hyphens() -> None:
    names = ["a", "a-b", "b-c", "c"]
    assert class_pair("a-b-c", ["a-b", "c", "d"]) == (0, 1)
    with pytest.raises(ValueError, match="classes:a-b-c: expected <from>-<to>"):
        class_pair("a-b-c", names)  # a to b-c, or a-b to c


@pytest.mark.parametrize("ending", [".npy", ".safetensors"])
def test_a_vector_comes_from_a_file(tmp_path: Path, ending: str) -> None:
    vector, path = random(6).double(), tmp_path / f"d{ending}"
    np.save(path, vector.numpy()) if ending == ".npy" else save_file({"d": vector}, path)
    torch.testing.assert_close(read_vector(path, 6), vector.float())
    check_direction(str(path), NAMES, 6)
    torch.testing.assert_close(find_direction(str(path), random(4, 6), torch.zeros(4), NAMES), vector.float())


def npy(path: Path, array: Any) -> None:
    np.save(path, array, allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.npy", lambda path: npy(path, np.zeros(7)), "7 numbers"),
        ("a.npy", lambda path: npy(path, np.ones((2, 6))), "2×6 numbers"),
        ("a.npy", lambda path: npy(path, np.float64(3)), "a single number"),
        ("a.npy", lambda path: npy(path, np.zeros(6)), "not all 0"),
        ("a.npy", lambda path: npy(path, np.full(6, np.nan)), "finite"),
        ("a.npy", lambda path: npy(path, np.array([{}] * 6)), "cannot be used"),
        ("a.npy", lambda path: npy(path, np.ones(6) * 1j), "no array of numbers"),
        ("a.npy", lambda path: path.write_bytes(b"PK\x03\x04"), "cannot be used"),
        ("a.npy", lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "cannot be used"),
        ("a.npy", lambda path: path.write_bytes(b""), "cannot be used"),
        ("a.npy", lambda path: None, "there is no such file"),
        ("a.safetensors", lambda path: save_file({"a": random(6), "b": random(6)}, path), "2 tensors: a, b"),
        ("a.safetensors", lambda path: save_file({}, path), "0 tensors"),
        ("a.safetensors", lambda path: save_file({"a": random(5)}, path), "5 numbers"),
        ("a.safetensors", lambda path: path.write_bytes(b"\xff" * 40), "cannot be used"),
        ("a.safetensors", lambda path: path.mkdir(), "there is no such file"),
        ("a.pt", lambda path: torch.save(random(6), path), "unknown kind of direction"),
        ("pug", lambda path: None, r"expected pc:<k>, classes:<from>-<to>, units:<u>\+<v>, or the path"),
    ],
)
def test_files_that_are_no_vector(tmp_path: Path, name: str, write: Any, message: str) -> None:
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message) as error:
        check_direction(str(tmp_path / name), NAMES, 6)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("ending", [".npy", ".safetensors"])
def test_damaged_vectors_never_end_in_another_error(tmp_path: Path, ending: str) -> None:
    path, rng = tmp_path / f"d{ending}", np.random.default_rng(0)
    np.save(path, np.ones(6)) if ending == ".npy" else save_file({"d": random(6)}, path)
    good = path.read_bytes()
    for _ in range(150):
        bad = bytearray(good)
        for place in rng.integers(len(bad), size=2):
            bad[place] = rng.integers(256)
        path.write_bytes(bad)
        with suppress(ValueError):
            read_vector(path, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit": None}, r"which unit\? Give one, from unit=0 to unit=15"),
        ({"unit": 16}, "unit=16: expected 0 to 15"),
        ({"class_name": "bea"}, r"class_name=bea: expected one of ant, bee, cat; did you mean bee\?"),
        ({"view__samples": 21}, "view.samples=21: expected at most pairs.test=20"),
        ({"direction": None}, r"which direction\? Give direction=pc:1"),
        ({"direction": "pc:0"}, "direction=pc:0: expected pc:1 to pc:16"),
        ({"direction": "pc:17"}, "direction=pc:17"),
        ({"direction": "pc:-1"}, "direction=pc:-1"),
        ({"direction": "pc:²"}, "direction=pc:²"),
        ({"direction": "pc:" + "9" * 5000}, "direction=pc:999"),
        ({"direction": "units:3"}, "direction=units:3: expected two or more different units of 0 to 15"),
        ({"direction": "units:3+3"}, "two or more different units"),
        ({"direction": "units:3+16"}, "of 0 to 15, as units:3"),
        ({"direction": "units:3+"}, "two or more different units"),
        ({"direction": "units:3+²"}, "two or more different units"),
        ({"direction": "classes:ant-dog"}, "two different classes of ant, bee, cat, as classes:ant-cat"),
        ({"direction": "classes:ant-ant"}, "two different classes"),
        ({"direction": "classes:"}, "two different classes"),
        ({"direction": ""}, "unknown kind of direction"),
    ],
)
def test_bad_input_is_found_before_any_work(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    stages = ["direction"] if "direction" in changes else ["unit"]
    ctx = make_context(tmp_path, **SIZES | {"analysis__stages": stages} | changes)
    with pytest.raises(ValueError, match=message):
        REGISTRY[stages[0]].require(ctx)
    with pytest.raises(ValueError, match=message):
        (direction_view if "direction" in changes else unit_view)(ctx)
    assert not (tmp_path / "store" / "pairs-test").exists()


@pytest.mark.parametrize("stage", [unit_view, direction_view])
def test_parts_that_cannot_be_learned_are_found_before_any_work(tmp_path: Path, stage: Any) -> None:
    ctx = make_context(tmp_path, **SIZES, direction="pc:1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REGISTRY, "segmenter", segmenter_stage)
        with pytest.raises(ValueError, match="does not know its parts: export some with"):
            stage(ctx)
    assert not (tmp_path / "store" / "pairs-train").exists()


def test_what_is_not_asked_for_is_not_checked(tmp_path: Path) -> None:
    ctx = make_context(tmp_path, **SIZES | {"unit": 99, "direction": "nonsense"})
    for stage in closure(["link"], ctx):
        stage.require(ctx)


def test_a_dead_unit_is_refused_with_others_to_take() -> None:
    units = pd.DataFrame(
        {"unit": range(4), "status": ["live", "dead", "near-dead", "live"], "step_norm": [1.0, 0, 9, 2]}
    )
    units = units.assign(minimum=0.0, maximum=1.0, mean=0.5, std=0.1, step_norm_low=np.nan, step_norm_high=np.nan)
    with pytest.raises(ValueError, match=r"unit=1 is dead: .* such as 3, 0$"):
        of_unit(units, 1)
    _, known = of_unit(units, 2)
    assert known["status"] == "near-dead" and known["step_norm_low"] is None


class Dull(FakeClassifier):
    """Its unit 5 never answers."""

    def features(self, image: Tensor) -> Tensor:
        """`r [n, units]`."""
        r = super().features(image)
        r[:, 5] = 0
        return r


def test_a_dead_unit_stops_before_pictures_are_made(tmp_path: Path) -> None:
    ctx = make_context(tmp_path, classifier=Dull(FakeGenerator()), **SIZES)
    with pytest.raises(ValueError, match="unit=5 is dead"):
        unit_view(ctx)
    assert not (tmp_path / "store" / "unit").exists()


def texts(figure: Figure) -> list[str]:
    return [artist.get_text() for artist in figure.findobj(Text) if isinstance(artist, Text)]


def test_the_section_states_what_the_tables_hold(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    section = unit_module.unit(source(ctx, {"unit": artifact}))
    assert section is not None and section.title == "Unit 5"
    found, affected = Traversal(**artifact.tensors("traversal")), artifact.table("affected")
    first: Any = affected[(affected["rank"] == 1) & (affected["measure"] == "entropy")].iloc[0]
    assert f"entropy of the {first['label']} ({first['change']:+.2f} bit)".replace("-", "−") in section.lead
    moved = float((found.class_probability[:, -1] - found.class_probability[:, 0]).mean())
    assert (
        f"changes by {moved:+.2f}".replace("-", "−").replace("−0.00", "0.00").replace("+0.00", "0.00") in section.lead
    )
    assert f"flips for {int(found.flipped[:, -1].sum())} of 2 samples" in section.lead
    strips, curves = (picture.figure for picture in section.figures)
    p = found.class_probability
    assert f"p {p[1, 0]:.2f} → {p[1, -1]:.2f}" in texts(strips) and texts(strips).count("bee") == 2
    titles = [axis.get_title(loc="left") for axis in curves.axes if axis.get_visible()]
    assert titles == [*dict.fromkeys(affected[affected["rank"] > 0]["measure"]), "probability"]
    line = next(line for line in [a for a in curves.axes if a.get_visible()][-1].lines if line.get_label() == "bee")
    np.testing.assert_allclose(np.asarray(line.get_ydata()), p.mean(0), atol=1e-6)
    assert any("unit-bee-" in name for name in section.figures[0].others)
    assert section.tables[0].rows[0][1].startswith("0 to ")


def test_the_section_is_on_the_page(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    ctx, artifact = run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lis.report.section.MAKERS", {"run": {110: unit_module.unit, 120: unit_module.direction}})
        page = write_report(ctx, {"unit": artifact}, tmp_path).read_text()
    assert 'id="unit-5"' in page and (tmp_path / "figures" / "unit-curves.png").exists()
    assert (tmp_path / "tables" / "unit" / "affected.parquet").exists()


def test_no_artifact_no_section(tmp_path: Path) -> None:
    found = source(make_context(tmp_path), {})
    assert unit_module.unit(found) is None and unit_module.direction(found) is None
    assert write_animations(found, tmp_path / "figures") == [] and not (tmp_path / "figures").exists()


def test_an_animation_runs_forth_and_back(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    ctx, artifact = run
    found = source(ctx, {"unit": artifact})
    files = write_animations(found, tmp_path / "figures")
    assert [file.name for file in files] == animation_names(found, "unit") and len(set(files)) == 2
    with Image.open(files[0]) as image:
        assert (image.n_frames, image.size, image.info["loop"]) == (4, (384, 192), 0)  # pyright: ignore[reportAttributeAccessIssue]


def test_frames_show_every_step_in_order() -> None:
    """Grey pictures; without labels no second picture stands beside."""
    image = np.stack([np.full((8, 8, 3), 40 * t, np.uint8) for t in range(4)])
    mask = np.zeros((4, 4, 4), np.uint8)
    pictures = frames(image, mask, {})
    with Image.open(io.BytesIO(gif(pictures))) as moving:
        seen = []
        for k in range(moving.n_frames):  # pyright: ignore[reportAttributeAccessIssue]
            moving.seek(k)
            seen.append(int(np.asarray(moving.convert("RGB")).mean().round()))
    assert pictures[0].shape == (192, 192, 3) and seen == [0, 40, 80, 120, 80, 40]
    assert frames(image, mask, {"a": "red"})[0].shape == (192, 384, 3)


def test_an_overlay_draws_the_outline_in_the_colour_of_the_label() -> None:
    image, mask = np.full((64, 64, 3), 100, np.uint8), np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 2
    drawn = overlay(image, mask, ["#00ff00", "#ff0000"])
    red = (drawn == (255, 0, 0)).all(-1)
    assert drawn.shape == (192, 192, 3) and 0 < red.sum() < 96 * 96 / 4
    assert red[96, 48] and not red[96, 96] and (drawn[96, 96] == 100).all() and (drawn[10, 10] == 100).all()
    assert (drawn[~red] == 100).all()
    tinted = overlay(image, mask, ["#00ff00", "#ff0000"], fill=0.5)
    assert tinted[96, 96].tolist() == [178, 50, 50] and (tinted[10, 10] == 100).all()
    assert (overlay(image, np.zeros((1, 1), np.uint8), []) == 100).all()


def test_each_unit_of_a_group_moves_by_its_own_standard_deviation() -> None:
    r = random(50, 6).abs() * torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0, 1.0])
    d = find_direction("units:3+1", r, torch.zeros(50), NAMES)
    along, known = of_direction("units:3+1", d, r)
    assert along.exact == (3, 1) and known["status"] == "live"
    std, length = [r[:, u].double().std(correction=0).item() for u in (1, 3)], float(d.norm())
    moved = along.applied(torch.zeros(1, 6), torch.tensor([length]))[0, 0]
    torch.testing.assert_close(moved, torch.tensor([0.0, std[0], 0.0, std[1], 0.0, 0.0]))
    at = (r @ d) / length
    assert (along.low, along.high) == pytest.approx((float(at.min()), float(at.max())))
    assert torch.equal(along.held(torch.ones(6), torch.ones(6, dtype=torch.bool)), torch.eye(6)[[3, 1]])


def test_a_group_with_a_dead_unit_is_refused() -> None:
    r = random(50, 6)
    r[:, 2] = 0.0
    with pytest.raises(ValueError, match="unit 2 is dead"):
        find_direction("units:0+2", r, torch.zeros(50), NAMES)


def test_a_direction_with_a_huge_header_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    """A header may have 100 MB, which take many times as much."""
    (tmp_path / "a.safetensors").write_bytes((2**20).to_bytes(8, "little") + b" " * 2**20)
    with pytest.raises(ValueError, match=r"a\.safetensors cannot be used \(a header of 1,048,576 bytes"):
        read_vector(tmp_path / "a.safetensors", 4)
