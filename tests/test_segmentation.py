"""What the parts are held against, and how: masks, IoU, the evaluation's tables and its section in the report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import make_context
from helpers.painted import LABELS, NAMES, SIZE, Painted, painted_context
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor
from torchmetrics.functional.classification import multiclass_jaccard_index

from lis.config import FewShotConfig
from lis.context import Context
from lis.generators.partworld import PartWorld
from lis.generators.partworld.world import SETS
from lis.labels.export import export
from lis.labels.labelled import draw, exact_masks, folder_digest, labelled, reduced_masks
from lis.report.html import show
from lis.report.segmentation import Example, ious, left_out_ious, mask_examples, panels, parts
from lis.report.source import source
from lis.report.style import label_colours
from lis.report.tables import records, where
from lis.report.wording import number
from lis.segmentation.segmentation import ALL, RANKS, confusions, iou, ranked, segmentation
from lis.segmentation.segmenter import load_segmenter, segment, segmenter
from lis.store import Artifact
from lis.streams import Stream

pytestmark = pytest.mark.usefixtures("page_style")


def random_masks(n: int, labels: int, seed: int = 0, side: int = 6) -> Tensor:
    return torch.randint(0, labels + 1, (n, side, side), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact, Artifact]:
    """Both stages, with a class that was not trained on."""
    ctx = painted_context(tmp_path_factory.mktemp("run"), labels__left_out="cat")
    return ctx, segmenter(ctx), segmentation(ctx)


def test_pixels_are_counted_by_both_values() -> None:
    true, found = random_masks(4, 3), random_masks(4, 3, seed=1)
    expected = torch.zeros(4, 4, 4, dtype=torch.int64)
    for image, row, column in np.ndindex(4, 6, 6):
        expected[image, true[image, row, column], found[image, row, column]] += 1
    assert torch.equal(confusions(true.to(torch.uint8), found, 3), expected)


def test_iou_is_intersection_over_union() -> None:
    true, found = random_masks(5, 3), random_masks(5, 3, seed=1)
    true[true == 2], found[found == 2] = 0, 1
    value = iou(confusions(true, found, 3).sum(0))
    for label in (1, 2, 3):
        a, b = true == label, found == label
        if label == 2:
            assert value[1].isnan()
        else:
            assert value[label - 1] == pytest.approx(float((a & b).sum() / (a | b).sum()))
    reference = multiclass_jaccard_index(found, true, num_classes=4, average="none")
    torch.testing.assert_close(value[[0, 2]].float(), reference[[1, 3]])
    single = iou(confusions(true, found, 3))
    torch.testing.assert_close(single[2], iou(confusions(true[2:3], found[2:3], 3))[0], equal_nan=True)


def test_masks_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[2, 6, 6\] and \[3, 6, 6\]"):
        confusions(random_masks(2, 1), random_masks(3, 1), 1)
    with pytest.raises(ValueError, match="values from 0 to 3: expected 0 to 2"):
        confusions(random_masks(2, 3), random_masks(2, 2), 2)


def test_exact_masks_equal_plain_loops() -> None:
    generator = Painted()
    w = generator.mean_w
    shares = generator.render(w)[1]
    masks = exact_masks(generator, w, ["spot", "disc"], SIZE // 2)
    assert masks.dtype == torch.uint8
    for image, row, column in np.ndindex(3, SIZE // 2, SIZE // 2):
        block = shares[image, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((1, 2))
        assert masks[image, row, column] == torch.stack([1 - block.sum(), block[1], block[0]]).argmax()
    only = exact_masks(generator, w, ["spot"], SIZE)
    assert set(only.unique().tolist()) == {0, 1} and (only == 0)[shares[:, 0] > 0.5].all()


def test_a_persons_masks_are_reduced_by_majority() -> None:
    masks = random_masks(3, 2, side=6).to(torch.uint8)
    small = reduced_masks(masks, 2, 2)
    for image, row, column in np.ndindex(3, 2, 2):
        block = masks[image, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
        assert small[image, row, column] == torch.bincount(block.flatten().long(), minlength=3).argmax()
    assert reduced_masks(masks, 2, 6) is masks


def test_samples_come_from_streams_of_their_own(tmp_path: Path) -> None:
    ctx = painted_context(tmp_path)
    drawn = {split: draw(ctx, split, 7) for split in ("train", "test", "exact")}
    for split, stream in (("train", "labels"), ("test", "labels test"), ("exact", "exact masks")):
        own = drawn[split]
        assert own.class_index.tolist() == [0, 0, 0, 1, 1, 2, 2]
        assert own.sample_index.tolist() == [0, 1, 2, 0, 1, 0, 1]
        expected = ctx.generator.sample(1, torch.arange(2), Stream(stream, 0))
        torch.testing.assert_close(own.w[3:5], expected)
    rows = torch.cat([own.w for own in drawn.values()])
    assert len(rows.unique(dim=0)) == 21
    assert (draw(ctx, "exact", 4).w[:2] == drawn["exact"].w[:2]).all()


def test_few_samples_of_many_classes(tmp_path: Path) -> None:
    ctx = painted_context(tmp_path)
    assert draw(ctx, "exact", 2).class_index.tolist() == [0, 1]


def test_labelled_images_are_the_generators(tmp_path: Path) -> None:
    ctx = painted_context(tmp_path)
    images = labelled(ctx, "test", 16)
    assert len(images) == 12 and images.image.shape == (12, 3, SIZE, SIZE) and images.masks.shape == (12, 16, 16)
    assert torch.equal(images.masks, exact_masks(ctx.generator, images.w, LABELS, 16))
    shown = (127.5 * (ctx.generator.synthesize(images.w) + 1)).round()
    assert (images.image - shown).abs().max() <= 1
    some = images.rows(images.class_index == 1)
    assert len(some) == 4 and torch.equal(some.masks, images.masks[4:8])


def test_the_digest_follows_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    (folder / "check").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"1")
    found = [folder_digest(str(folder))]
    (folder / "a.png").write_bytes(b"2")
    found.append(folder_digest(str(folder)))
    (folder / "a.png").rename(folder / "b.png")
    found.append(folder_digest(str(folder)))
    (folder / "check" / "a.png").write_bytes(b"what `python -m lis.labels check` draws")
    assert len(set(found)) == 3 and found[2] == folder_digest(str(folder)) and folder_digest(None) is None


def test_the_tables_equal_plain_loops(run: tuple[Context, Artifact, Artifact]) -> None:
    ctx, trained, artifact = run
    model, table = load_segmenter(ctx, trained), artifact.table("iou")
    images = artifact.table("images")
    assert len(table) == 2 * 4 * 2 and len(images) == 12 + 30
    for kind, drawn in (("labelled", draw(ctx, "test", 12)), ("exact", draw(ctx, "exact", 30))):
        found = segment(model, ctx.generator.synthesize(drawn.w, features=True)[1])
        true = exact_masks(ctx.generator, drawn.w, LABELS, 16).long()
        for name in (*NAMES, ALL):
            rows = drawn.class_index != 2 if name == ALL else drawn.class_index == NAMES.index(name)
            for label, text in enumerate(LABELS, 1):
                a, b = (masks[rows] == label for masks in (true, found))
                (row,) = records(where(table, kind=kind, label=text, **{"class": name}))
                assert row["iou"] == pytest.approx(float((a & b).sum() / (a | b).sum()))
                assert row["n"] == (a | b).flatten(1).any(1).sum() and row["left_out"] == (name == "cat")
        own = where(images, kind=kind)
        for k in range(len(true)):
            shares = []
            for label in (1, 2):
                a, b = true[k] == label, found[k] == label
                shares += [float((a & b).sum() / (a | b).sum())] if (a | b).any() else []
            assert own["iou"].iloc[k] == pytest.approx(np.mean(shares))
        assert own["sample_index"].tolist() == drawn.sample_index.tolist()
        assert own["class"].tolist() == [NAMES[c] for c in drawn.class_index]


def test_the_summary_is_the_mean_over_labels(run: tuple[Context, Artifact, Artifact]) -> None:
    table, summary = run[2].table("iou"), run[2].json("summary")
    for kind in ("labelled", "exact"):
        for key, name in (("iou", ALL), ("left_out", "cat")):
            rows: Any = table[(table["kind"] == kind) & (table["class"] == name)]
            assert summary[kind][key] == pytest.approx(rows["iou"].mean())
    assert summary["labels"] == list(LABELS) and summary["left_out"] == "cat"
    assert (summary["labelled"]["images"], summary["exact"]["images"]) == (12, 30)
    assert 0.9 < summary["exact"]["iou"] < summary["exact"]["accuracy"] <= 1


def test_examples_are_the_ends_and_the_middle(run: tuple[Context, Artifact, Artifact]) -> None:
    ctx, _, artifact = run
    found, table = artifact.tensors("examples"), artifact.table("images")
    images = labelled(ctx, "test", 16)
    assert found["rank"].tolist() == [0, 1, 2] * 3 and found["class_index"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    for k in range(9):
        name = NAMES[found["class_index"][k]]
        own: Any = table[(table["kind"] == "labelled") & (table["class"] == name)].reset_index()
        row = own[own["sample_index"] == int(found["sample_index"][k])].iloc[0]
        assert row["iou"] == pytest.approx(float(found["iou"][k]))
        if RANKS[found["rank"][k]] != "average":
            assert row["iou"] == {"worst": own["iou"].min(), "best": own["iou"].max()}[RANKS[found["rank"][k]]]
        assert torch.equal(found["image"][k], images.image[row["index"]])
        assert torch.equal(found["true"][k], images.masks[row["index"]])
        counts = confusions(found["true"][k : k + 1], found["predicted"][k : k + 1], 2)
        assert float(iou(counts).nanmean()) == pytest.approx(float(found["iou"][k]))


def test_each_image_is_shown_once() -> None:
    assert ranked(np.array([0.5, 0.9])) == {0: 0, 2: 1}
    assert ranked(np.array([np.nan])) == {} and ranked(np.array([np.nan, 0.2])) == {1: 1}
    assert ranked(np.array([0.0, 0.1, 0.9, 1.0])) == {0: 0, 1: 1, 2: 3}


def test_a_second_call_reads_what_the_first_made(run: tuple[Context, Artifact, Artifact]) -> None:
    ctx, _, artifact = run
    assert segmentation(ctx).manifest["created"] == artifact.manifest["created"]


def test_a_generator_without_classes(tmp_path: Path) -> None:
    ctx = painted_context(tmp_path, Painted(conditional=False))
    artifact = segmentation(ctx)
    assert set(artifact.table("iou")["class"]) == set(artifact.table("images")["class"]) == {ALL}
    section = parts(source(ctx, {"segmentation": artifact}))
    assert section is not None and "best for disc" in section.lead and len(section.figures) == 2


def test_a_folder_and_no_exact_masks(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    own = painted_context(tmp_path)
    export(folder, own.config, own.generator, masks=True)
    ctx = painted_context(tmp_path, labels__folder=str(folder), labels__exact=0)
    artifact = segmentation(ctx)
    assert set(artifact.table("iou")["kind"]) == {"labelled"}
    assert artifact.json("summary")["labelled"]["iou"] > 0.85
    section = parts(source(ctx, {"segmenter": segmenter(ctx), "segmentation": artifact}))
    assert section is not None and "against 12 labelled test images" in section.lead


def texts(figure: Figure) -> list[str]:
    return [artist.get_text() for artist in figure.findobj(Text) if isinstance(artist, Text)]


def test_the_section_states_what_the_tables_hold(run: tuple[Context, Artifact, Artifact], tmp_path: Path) -> None:
    ctx, trained, artifact = run
    section = parts(source(ctx, {"segmenter": trained, "segmentation": artifact}))
    assert section is not None and section.title == "Parts"
    summary = artifact.json("summary")["exact"]
    assert f"mean IoU of {number(summary['iou'], 3)} against the exact masks of 30 new images" in section.lead
    assert f"On cat, whose labels were not trained on, it is {number(summary['left_out'], 3)}" in section.lead
    assert "18 channels of 3 layers" in section.notes[0] and "10 labelled images" in section.notes[0]
    assert [picture.name for picture in section.figures] == ["iou", "iou-left-out", "masks"]
    assert section.tables[0].columns == ["", *NAMES, ALL] and [row[0] for row in section.tables[0].rows] == [*LABELS]
    show(section, tmp_path)
    assert (tmp_path / "masks.png").stat().st_size > 10_000
    assert {*RANKS, *NAMES, *LABELS, "differs"} <= set(texts(section.figures[2].figure))
    assert "cat, without labels" in texts(section.figures[1].figure)


def test_no_artifact_no_section(tmp_path: Path) -> None:
    assert parts(source(painted_context(tmp_path), {})) is None


def table(kinds: tuple[str, ...] = ("labelled", "exact")) -> pd.DataFrame:
    names = [("a", False), ("b", True), ("all", False)]
    rows = [
        (kind, name, out, label, 0.5 + 0.1 * k + 0.03 * len(name) + 0.01 * len(kind), 3)
        for kind in kinds
        for name, out in names
        for k, label in enumerate(("cap", "stem"))
    ]
    return pd.DataFrame(rows, columns=["kind", "class", "left_out", "label", "iou", "n"])


def places(figure: Figure, marker: str) -> list[tuple[float, float]]:
    lines = [line for line in figure.axes[0].lines if line.get_marker() == marker]
    points: list[Any] = [point for line in lines for point in np.asarray(line.get_xydata())]
    return sorted((round(float(x), 6), float(y)) for x, y in points if np.isfinite(x))


def test_the_figures_place_every_value() -> None:
    colours = label_colours(["cap", "stem"])
    figure = ious(where(table(), left_out=False), colours)
    frame = table()
    for at, label in enumerate(colours):
        for marker, name in (("o", "all"), (".", "a")):
            own = where(frame, label=label, **{"class": name})
            expected = sorted(own["iou"] if name == "all" else where(own, kind="exact")["iou"])
            assert [x for x, y in places(figure, marker) if y == at] == pytest.approx(expected)
    only = ious(table(("labelled",)), colours)
    assert "exact masks" not in texts(only) and "labelled images" in texts(only)
    beside = left_out_ious(table(), colours, "b")
    exact_rows = frame[(frame["kind"] == "exact") & (frame["class"] == "b")]["iou"]
    assert [x for x, _ in places(beside, "D")] == pytest.approx(exact_rows.tolist())


def test_the_difference_is_red_where_masks_differ() -> None:
    image = np.full((8, 8, 3), 90, np.uint8)
    true, found = np.zeros((2, 4, 4), np.uint8)
    found[1, 2] = 1
    whole, _, tinted, differs = panels(Example(image, true, found, 0.5), ["#00ff00"])
    side = len(whole)
    red = (differs == (193, 39, 45)).all(2)
    step = side // 4
    expected = np.zeros((side, side), bool)
    expected[step : 2 * step, 2 * step : 3 * step] = True
    assert (red == expected).all() and (differs[~red].std(1) == 0).all()
    middle = tinted[step + step // 2, 2 * step + step // 2]
    assert middle[1] > middle[0] and (whole == 90).all()


def test_images_lie_inside_the_sheet_where_a_rank_is_missing() -> None:
    one = Example(np.zeros((8, 8, 3), np.uint8), np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8), 0.0)
    rows = {"ant": {"worst": one, "average": one, "best": one}, "bee_eater": {"worst": one, "best": one}}
    figure = mask_examples(rows, label_colours(["cap"]))
    for axis in figure.axes:
        box = axis.get_position()
        assert 0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1
    assert sum(bool(axis.images) for axis in figure.axes) == 5 and "bee eater" in texts(figure)


def partworld_context(root: Path, figures: str, names: list[str], **overrides: Any) -> Context:
    """Part world with the default network; nothing is asked of the classifier."""
    labels = list(SETS[figures].labels)
    fit = FewShotConfig(network="projected", hidden=32, learning_rate=0.003, epochs=overrides.pop("epochs", 100))
    settings = {"segmenter": fit, "classes__labels": labels, "labels__train": 5, "labels__test": 5}
    generator: Any = PartWorld(names)
    return make_context(root, generator, object(), class_names=tuple(names), batch_size=100, **settings | overrides)


@pytest.mark.slow
def test_two_classes_of_part_world_in_few_epochs(tmp_path: Path) -> None:
    ctx = partworld_context(tmp_path, "dogs", ["pug", "weimaraner"], epochs=60, labels__exact=60)
    summary = segmentation(ctx).json("summary")
    assert summary["exact"]["iou"] > 0.7 and summary["labelled"]["iou"] > 0.7


@pytest.mark.full
@pytest.mark.parametrize(("figures", "least"), [("dogs", 0.82), ("fungi", 0.92), ("birds", 0.82)])
def test_the_parts_of_part_world_are_found(tmp_path: Path, figures: str, least: float) -> None:
    """The bounds of the default network: mean IoU on 1,000 exact masks, and a minute of training."""
    ctx = partworld_context(tmp_path, figures, list(SETS[figures].classes), labels__exact=1000)
    start = time.process_time()
    fitted = segmenter(ctx)
    assert time.process_time() - start < 60 and fitted.json("fit")["seconds"] < 60
    summary = segmentation(ctx).json("summary")
    assert summary["exact"]["iou"] >= least and summary["exact"]["images"] == 1000
