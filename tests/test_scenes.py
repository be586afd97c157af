"""Scenes of dissection: pairs of a run, and a user's own pictures with masks in three formats."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from helpers.fakes import make_context
from PIL import Image
from torch import Tensor, nn

from lis.classifiers.preprocessing import Preprocessing
from lis.context import Context
from lis.dissection.annotated import folder_contents, validate_pictures
from lis.dissection.scenes import MaskSource, Scenes, folder_scenes, scenes_of, visible
from lis.generators.partworld import PartWorld
from lis.images import to_uint8
from lis.labels.labelled import exact_masks
from lis.labels.png import label_palette, write_mask
from lis.store import Artifact, sha256
from lis.streams import Stream
from lis.units.parts import Background, Parts

CLASSES = ("pug", "weimaraner")
LABELS = ("head", "ear", "eye")
PER_CLASS = 4


@pytest.fixture(scope="module")
def world() -> PartWorld:
    return PartWorld(CLASSES)


@pytest.fixture(scope="module")
def drawn(world: PartWorld) -> tuple[Tensor, Tensor]:
    """Pictures `[n, 3, 64, 64]` uint8, true ones, and their masks `[n, 64, 64]` uint8; the classes take turns."""
    w = torch.cat([world.sample(k % 2, torch.tensor([k]), Stream("labels")) for k in range(2 * PER_CLASS)])
    return to_uint8(world.render(w)[0]), exact_masks(world, w, LABELS, 64)


def name_of(index: int) -> str:
    return f"{CLASSES[index % 2]}/{index:02d}"


@pytest.fixture
def pictures(tmp_path: Path, drawn: tuple[Tensor, Tensor]) -> Path:
    """A folder for each class."""
    return write_pictures(tmp_path / "pictures", drawn[0])


def write_pictures(folder: Path, images: Tensor) -> Path:
    """Into a folder for each class."""
    for index, image in enumerate(images):
        path = folder / f"{name_of(index)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return folder


def index_png(folder: Path, masks: Tensor) -> None:
    """Beside the pictures."""
    for index, mask in enumerate(masks):
        path = folder / f"{name_of(index)}.mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path, mask.numpy(), label_palette(LABELS))


def plain_png(folder: Path, masks: Tensor) -> None:
    """In a folder of masks, which are called like the pictures."""
    for index, mask in enumerate(masks):
        (folder / name_of(index)).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.numpy()).save(folder / f"{name_of(index)}.png")


def labelme(folder: Path, masks: Tensor) -> None:
    """Painted areas, one of each label."""
    for index, mask in enumerate(masks):
        shapes = [_painted(name, mask == k) for k, name in enumerate(LABELS, 1) if bool((mask == k).any())]
        saved = {"imagePath": f"{index:02d}.png", "shapes": shapes}
        saved |= {"imageWidth": mask.shape[1], "imageHeight": mask.shape[0]}
        (folder / name_of(index)).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name_of(index)}.json").write_text(json.dumps(saved))


def _painted(label: str, mask: Tensor) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.fromarray(mask.numpy().astype(np.uint8)).save(stream, "PNG")
    content = base64.b64encode(stream.getvalue()).decode()
    last = [mask.shape[1] - 1, mask.shape[0] - 1]
    return {"label": label, "shape_type": "mask", "points": [[0, 0], last], "mask": content}


def coco(folder: Path, masks: Tensor) -> None:
    """One file with run lengths, of which the first counts pixels outside."""
    rows = []
    for index, mask in enumerate(masks):
        for k in range(1, 1 + len(LABELS)):
            flat = (mask == k).T.flatten().int()
            borders = torch.cat([torch.tensor([0]), flat.diff().nonzero()[:, 0] + 1, torch.tensor([len(flat)])])
            counts = ([0] if flat[0] else []) + borders.diff().tolist()
            segmentation = {"size": [*mask.shape], "counts": counts}
            rows.append({"image_id": index, "category_id": k, "segmentation": segmentation, "iscrowd": 0})
    images = [{"id": k, "file_name": f"{k:02d}.png"} for k in range(len(masks))]
    images = [image | {"width": masks.shape[2], "height": masks.shape[1]} for image in images]
    categories = [{"id": k, "name": name} for k, name in enumerate(LABELS, 1)]
    folder.mkdir(exist_ok=True)
    (folder / "annotations.json").write_text(
        json.dumps({"images": images, "categories": categories, "annotations": rows})
    )


def context(tmp_path: Path, images: Path | None, masks: Path | None, seed: int = 0) -> Context:
    ctx = make_context(tmp_path, images=None if images is None else str(images), seed=seed)
    classes = replace(ctx.config.classes, labels=list(LABELS))
    labels = replace(ctx.config.labels, folder=None if masks is None else str(masks))
    classifier: Any = ctx.classifier
    classifier.preprocessing = Preprocessing.as_drawn(64)
    return replace(ctx, config=replace(ctx.config, classes=classes, labels=labels))


def contents(scenes: Scenes) -> dict[str, tuple[Tensor, Tensor, int]]:
    """Image, mask and class of everything, in 8 bits, by the half and row."""
    result = {}
    for half_name, half in (("fit", scenes.fit), ("score", scenes.score)):
        batch = half.batch(torch.arange(len(half)))
        assert batch.class_index.tolist() == half.class_index.tolist()
        for row in range(len(half)):
            result[f"{half_name} {row}"] = (to_uint8(batch.image)[row], batch.parts[row], int(batch.class_index[row]))
    return result


@pytest.mark.parametrize("write", [index_png, plain_png, labelme, coco])
def test_masks_of_every_format_are_those_that_were_drawn(
    tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor], write: Callable[[Path, Tensor], None]
) -> None:
    masks = pictures if write is index_png else tmp_path / "masks"
    write(masks, drawn[1])
    scenes = folder_scenes(context(tmp_path, pictures, masks))
    assert (scenes.source, scenes.labels, scenes.class_names, scenes.factor_names) == ("folder", LABELS, CLASSES, ())
    read = list(contents(scenes).values())
    index = [next(k for k, image in enumerate(drawn[0]) if torch.equal(image, one[0])) for one in read]
    assert sorted(index) == list(range(2 * PER_CLASS))
    for k, (_, mask, class_index) in zip(index, read, strict=True):
        assert mask.dtype == torch.int64 and torch.equal(mask, drawn[1][k].long())
        assert class_index == k % 2


def test_halves_are_stratified_and_follow_from_the_seed_alone(
    tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor]
) -> None:
    index_png(pictures, drawn[1])
    scenes = [folder_scenes(context(tmp_path, pictures, pictures, seed)) for seed in (0, 0, 1)]
    for one in scenes:
        assert one.fit.class_index.tolist() == one.score.class_index.tolist() == [0] * 2 + [1] * 2
    first, again, other = (torch.stack([image for image, _, _ in contents(one).values()]) for one in scenes)
    assert torch.equal(first, again) and not torch.equal(first, other)
    rows = torch.tensor([3, 1])
    batch, whole = scenes[0].score.batch(rows), scenes[0].score.batch(torch.arange(4))
    assert torch.equal(batch.image, whole.image[rows]) and torch.equal(batch.parts, whole.parts[rows])


def test_pictures_without_a_folder_inside_are_one_class(tmp_path: Path, drawn: tuple[Tensor, Tensor]) -> None:
    for index in range(3):
        Image.fromarray(drawn[0][index].permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.jpg")
        write_mask(tmp_path / f"{index}.mask.png", drawn[1][index].numpy(), label_palette(LABELS))
    (tmp_path / ".hidden.png").write_bytes(b"")
    scenes = folder_scenes(context(tmp_path, tmp_path, tmp_path))
    assert scenes.class_names == (tmp_path.name,) and (len(scenes.fit), len(scenes.score)) == (2, 1)


def test_pictures_without_a_mask_are_left_out(
    tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    index_png(pictures, drawn[1])
    (pictures / f"{name_of(0)}.mask.png").unlink()
    ctx = context(tmp_path, pictures, pictures)
    scenes = checked_scenes(ctx)
    assert len(scenes.fit) + len(scenes.score) == 2 * PER_CLASS - 1
    assert "1 of 8 pictures of images=" in caplog.text and "are left out: they have no mask" in caplog.text
    assert [name for name, *_ in folder_contents(ctx.config)] == [f"{name_of(k)}.png" for k in (2, 4, 6, 1, 3, 5, 7)]


def test_contents_change_with_a_picture_and_with_a_mask(
    tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor]
) -> None:
    index_png(pictures, drawn[1])
    config = context(tmp_path, pictures, pictures).config
    before = folder_contents(config)
    write_mask(pictures / f"{name_of(0)}.mask.png", drawn[1][1].numpy(), label_palette(LABELS))
    Image.fromarray(drawn[0][0].permute(1, 2, 0).numpy()).save(pictures / f"{name_of(2)}.png")
    after = folder_contents(config)
    assert [(a[2] == b[2], a[3] == b[3]) for a, b in zip(before, after, strict=True)][:3] == [
        (True, False),
        (False, True),
        (True, True),
    ]


def test_contents_change_with_the_class_of_a_picture(tmp_path: Path, drawn: tuple[Tensor, Tensor]) -> None:
    """The class of a picture in no folder inside is called like the whole folder, which orders the classes."""
    results = []
    for name in ("aaa", "zzz"):
        folder = tmp_path / name
        for index, stem in enumerate(("0", "1", "m/2", "m/3")):
            path = folder / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn[0][index].permute(1, 2, 0).numpy()).save(path)
            write_mask(folder / f"{stem}.mask.png", drawn[1][index].numpy(), label_palette(LABELS))
        ctx = context(tmp_path, folder, folder)
        results.append((folder_scenes(ctx).class_names, folder_contents(ctx.config)))
    assert [names for names, _ in results] == [("aaa", "m"), ("m", "zzz")]
    assert results[0][1] != results[1][1]


def test_a_file_with_the_masks_of_many_pictures_is_hashed_once(
    tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    coco(tmp_path / "masks", drawn[1])
    hashed = []
    for module in ("annotated", "user_pictures"):
        monkeypatch.setattr(f"lis.dissection.{module}.sha256", lambda path: hashed.append(path) or sha256(path))
    rows = folder_contents(context(tmp_path, pictures, tmp_path / "masks").config)
    assert {row[3] for row in rows} == {sha256(tmp_path / "masks" / "annotations.json")}
    assert sorted(path.name for path in hashed) == ["00.png", "01.png", "02.png", "03.png", "04.png", "05.png",
                                                    "06.png", "07.png", "annotations.json"]  # fmt: skip


def test_a_picture_that_is_called_like_another_is_no_mask(
    tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor]
) -> None:
    """In one folder for both, `00.png` beside `00.jpg` is another picture."""
    index_png(pictures, drawn[1])
    Image.fromarray(drawn[0][0].permute(1, 2, 0).numpy()).save(pictures / f"{name_of(0)}.jpg")
    (pictures / f"{name_of(2)}.png").rename(pictures / f"{name_of(2)}x.png")
    Image.fromarray(drawn[0][2].permute(1, 2, 0).numpy()).save(pictures / f"{name_of(2)}.jpg")
    ctx = context(tmp_path, pictures, pictures)
    names = [name for name, *_ in folder_contents(ctx.config) if name.startswith(CLASSES[0])]
    assert names == [f"{CLASSES[0]}/{file}" for file in ("00.jpg", "00.png", "02.jpg", "04.png", "06.png")]
    folder_scenes(ctx)


def test_a_misspelt_mask_in_a_folder_of_masks_is_refused(
    tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor]
) -> None:
    masks = tmp_path / "masks"
    plain_png(masks, drawn[1])
    (masks / "pug" / ".thumbnail.png").write_bytes(b"")
    folder_contents(context(tmp_path, pictures, masks).config)
    (masks / "pug" / "02.png").rename(masks / "pug" / "02x.png")
    refused(tmp_path, pictures, masks, r"02x\.png is the mask of no picture: rename .* did you mean pug/02\?")


def test_a_picture_of_a_coco_file_without_annotations_is_all_background(
    tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor]
) -> None:
    coco(tmp_path / "masks", drawn[1])
    path = tmp_path / "masks" / "annotations.json"
    saved = json.loads(path.read_text())
    saved["annotations"] = [row for row in saved["annotations"] if row["image_id"] != 3]
    path.write_text(json.dumps(saved))
    masks = dict(enumerate(drawn[1])) | {3: torch.zeros_like(drawn[1][3])}
    read = list(contents(folder_scenes(context(tmp_path, pictures, tmp_path / "masks"))).values())
    assert len(read) == 2 * PER_CLASS
    for image, mask, _ in read:
        k = next(k for k, other in enumerate(drawn[0]) if torch.equal(image, other))
        assert torch.equal(mask, masks[k].long())


def test_pictures_inside_the_folder_of_masks_are_refused(tmp_path: Path, pictures: Path) -> None:
    refused(tmp_path, pictures, tmp_path, "images=.*pictures lies inside labels.folder=.*every picture is a mask")


def refused(tmp_path: Path, images: Path | None, masks: Path | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_scenes(context(tmp_path, images, masks))


def checked_scenes(ctx: Context) -> Scenes:
    """As of a run, which reads everything once before any work."""
    validate_pictures(ctx.config)
    return folder_scenes(ctx)


def test_missing_folders_labels_pictures_and_masks_are_refused(tmp_path: Path, pictures: Path) -> None:
    refused(tmp_path, None, pictures, "images=None: expected a folder")
    refused(tmp_path, pictures, None, "labels.folder=None: expected a folder")
    refused(tmp_path, pictures, tmp_path / "none", "labels.folder=.*none: expected a folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path, tmp_path / "empty", pictures, "empty has 0 pictures: expected 1 to 10,000")
    refused(tmp_path, pictures, tmp_path / "empty", r"no mask of any of the 8 pictures.*expected pug/00\.mask\.png")
    ctx = context(tmp_path, pictures, pictures)
    with pytest.raises(ValueError, match=r"classes\.labels has 0 names"):
        folder_scenes(replace(ctx, config=replace(ctx.config, classes=replace(ctx.config.classes, labels=[]))))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((32, 32), np.uint8), r"00\.mask\.png has 32 × 32 pixels: expected 64 × 64"),
        (
            np.full((64, 64), 4, np.uint8),
            r"00\.mask\.png: the pixel at x=0, y=0 is 4: expected 0 \(background\), 1 hea",
        ),
    ],
)
def test_a_mask_of_another_size_or_with_an_unknown_label_is_refused(
    tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor], mask: np.ndarray, message: str
) -> None:
    index_png(pictures, drawn[1])
    Image.fromarray(mask).save(pictures / f"{name_of(0)}.mask.png")
    refused(tmp_path, pictures, pictures, message)


def test_unknown_names_and_other_sizes_in_json_are_refused(
    tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor]
) -> None:
    labelme(tmp_path / "masks", drawn[1])
    path = tmp_path / "masks" / f"{name_of(0)}.json"
    path.write_text(path.read_text().replace('"head"', '"hat"'))
    refused(tmp_path, pictures, tmp_path / "masks", "unknown label 'hat': expected one of head, ear, eye")
    coco(tmp_path / "coco", drawn[1])
    path = tmp_path / "coco" / "annotations.json"
    path.write_text(path.read_text().replace('"width": 64', '"width": 60'))
    refused(tmp_path, pictures, tmp_path / "coco", "drawn on an image of 60 × 64 pixels: expected 64 × 64")


def test_a_class_of_one_picture_is_refused(tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor]) -> None:
    index_png(pictures, drawn[1])
    for index in range(2, 2 * PER_CLASS, 2):
        (pictures / f"{name_of(index)}.png").unlink()
        (pictures / f"{name_of(index)}.mask.png").unlink()
    refused(tmp_path, pictures, pictures, r"class 'pug' has one picture with a mask \(pug/00.png\): expected two")


def test_two_masks_of_a_picture_and_masks_of_none_are_refused(
    tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor]
) -> None:
    index_png(pictures, drawn[1])
    labelme(pictures, drawn[1][:1])
    refused(tmp_path, pictures, pictures, r"00\.png has masks in .*00\.mask\.png and .*00\.json: keep one")
    (pictures / f"{name_of(0)}.mask.png").rename(pictures / "pug" / "0O.mask.png")
    refused(tmp_path, pictures, pictures, r"0O\.mask\.png is the mask of no picture: .* did you mean pug/0\d\?")


def test_a_damaged_picture_and_a_mask_of_another_shape_are_refused(
    tmp_path: Path, pictures: Path, drawn: tuple[Tensor, Tensor]
) -> None:
    index_png(pictures, drawn[1])
    (pictures / f"{name_of(0)}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGB", (64, 48)).save(pictures / f"{name_of(1)}.png")
    message = r"(?s)00\.png: .*01\.mask\.png has 64 × 64 pixels: expected 64 × 48, the size of its image"
    refused(tmp_path, pictures, pictures, message)


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "high"])
@pytest.mark.parametrize("write", [index_png, plain_png, labelme, coco])
def test_pictures_of_any_shape_are_cut_with_their_masks_to_the_centred_square(
    tmp_path: Path,
    drawn: tuple[Tensor, Tensor],
    write: Callable[[Path, Tensor], None],
    turned: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The sides that are cut off, 16 and 17 pixels, are noise in the pictures, and ear in the masks."""
    sides = (0, 0, 16, 17) if turned else (16, 17, 0, 0)
    masks = nn.functional.pad(drawn[1], sides, value=2)
    pictures = torch.randint(256, (len(masks), 3, *masks.shape[1:]), generator=torch.Generator().manual_seed(0))
    inner = slice(16, 80), slice(0, 64)
    rows, columns = inner if turned else inner[::-1]
    pictures[:, :, rows, columns] = drawn[0].long()
    folder = write_pictures(tmp_path / "pictures", pictures.to(torch.uint8))
    beside = folder if write is index_png else tmp_path / "masks"
    write(beside, masks)
    read = list(contents(checked_scenes(context(tmp_path, folder, beside))).values())
    assert "8 × picture that is not square, cut with its mask to the centred square" in caplog.text
    assert len(read) == len(masks)
    for image, mask, _ in read:
        k = next(k for k, other in enumerate(drawn[0]) if torch.equal(image, other))
        assert torch.equal(mask, drawn[1][k].long())


def pair_scenes(
    world: PartWorld, tmp_path: Path, labels: list[str], per_class: int, masks: MaskSource = "auto"
) -> tuple[Scenes, Tensor]:
    """Scenes of pairs of part world whose test pairs are as the train pairs, and w of the first of each class."""
    w = torch.cat([world.sample(c, torch.arange(5), Stream("labels")) for c in range(2)])
    tensors = {"w": w, "class_index": torch.arange(2).repeat_interleave(5)}
    artifact = cast(Artifact, SimpleNamespace(tensors=lambda _: tensors))
    ctx = make_context(tmp_path, generator=world, classifier=SimpleNamespace())
    classes = replace(ctx.config.classes, names=list(CLASSES), labels=labels)
    scenes = scenes_of(replace(ctx, config=replace(ctx.config, classes=classes)), per_class, artifact, artifact, masks)
    return scenes, w.unflatten(0, (2, 5))[:, :per_class].flatten(0, 1)


def test_pairs_have_the_exact_masks_and_factors_of_their_style_codes(tmp_path: Path, world: PartWorld) -> None:
    scenes, w = pair_scenes(world, tmp_path, list(LABELS), 3)
    assert scenes.source == "exact" and scenes.factor_names == world.factor_names
    assert scenes.score.class_index.tolist() == [0] * 3 + [1] * 3
    rows = torch.tensor([4, 0])
    batch = scenes.score.batch(rows)
    assert torch.equal(batch.image, world.synthesize(w[rows])) and torch.equal(batch.image, batch.visible)
    assert torch.equal(batch.parts, exact_masks(world, w[rows], LABELS, 64).long())
    factors = world.true_factors(w)
    assert batch.factors is not None
    assert torch.equal(batch.factors, (factors > factors.sort(0).values[2])[rows])
    assert batch.class_index.tolist() == [1, 0]


def test_masks_of_the_segmenter_are_asked_for_of_a_generator_that_knows_its_parts(
    tmp_path: Path, world: PartWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = Parts(LABELS, Background(("b16.1",)), ())
    monkeypatch.setattr(Parts, "of", lambda ctx: nothing)
    scenes, _ = pair_scenes(world, tmp_path, list(LABELS), 3, "segmenter")
    assert scenes.source == "segmenter" and scenes.factor_names == world.factor_names
    batch = scenes.score.batch(torch.arange(2))
    assert batch.parts.eq(0).all() and batch.factors is not None
    assert pair_scenes(world, tmp_path, [], 3, "segmenter")[0].source == "none"


def test_pairs_without_labels_have_no_parts(tmp_path: Path, world: PartWorld) -> None:
    scenes, _ = pair_scenes(world, tmp_path, [], 9)
    assert scenes.source == "none" and len(scenes.fit) == 10
    assert scenes.fit.batch(torch.arange(2)).parts.eq(0).all()


def test_masks_follow_the_classifiers_crop() -> None:
    classifier: Any = SimpleNamespace(preprocessing=Preprocessing(12, 8, (0.5,) * 3, (0.5,) * 3))
    image = torch.rand(2, 3, 24, 24) * 2 - 1
    parts = torch.arange(6)[None, :, None] * 6 + torch.arange(6)
    assert torch.allclose(visible(image, classifier), classifier.preprocessing(image), atol=1e-6)
    expected = parts.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, 2:-2, 2:-2]
    assert torch.equal(visible(parts, classifier), expected)
    assert visible(parts, cast(Any, SimpleNamespace())) is parts
