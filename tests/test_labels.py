"""Labelled images: out as PNG, back as index PNG, labelme or COCO; the round trip, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fakes import FakeClassifier, FakeGenerator, make_config, make_context
from helpers.hanging import no_hang
from helpers.pickled import forget_peak, peak_memory
from PIL import Image
from safetensors.torch import save_file
from scipy.spatial import ConvexHull
from skimage.draw import polygon2mask

from lis.generators.partworld import PartWorld
from lis.images import to_uint8
from lis.labels import read
from lis.labels.__main__ import configuration, main
from lis.labels.coco import decode_runs, read_coco
from lis.labels.export import export
from lis.labels.labelled import folder_digest
from lis.labels.labelled import labelled as labelled_images
from lis.labels.labelme import check_image, read_labelme
from lis.labels.manifest import Manifest, Sample
from lis.labels.png import label_palette
from lis.labels.polygons import Budget, Shape, area, draw, inside, outline_of
from lis.report.labelled import check
from lis.streams import Stream

SIZE = 8
LABELS = ("ear", "eye", "tail")
NAMES = ("ant", "bee", "cat")
FIRST = "train_ant_00"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images per class to train on and one to test, exported and not labelled."""
    export(tmp_path / "labels", small(tmp_path), FakeGenerator())
    return tmp_path / "labels"


@pytest.fixture
def labelled(folder: Path) -> Path:
    """The same, every image with an index mask of its own."""
    for place, sample in enumerate(Manifest.load(folder).samples):
        put(folder / f"{sample.stem}.mask.png", some_mask(place))
    return folder


def small(root: Path, **changes: Any) -> Any:
    return make_config(root, **{"classes__labels": list(LABELS), "labels__train": 2, "labels__test": 1} | changes)


def some_mask(seed: int, most: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most + 1, (SIZE, SIZE), dtype=np.uint8)


def put(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(path)


def load(folder: Path, split: str = "train", **changes: Any) -> Any:
    known = {"labels": LABELS, "class_names": NAMES, "generator": FakeGenerator().fingerprint}
    return read(folder, split=split, **known | changes)


def labelme(*shapes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    saved = {"shapes": list(shapes), "imagePath": f"{FIRST}.png", "imageHeight": SIZE, "imageWidth": SIZE}
    return saved | {"imageData": None} | changes


def shape(label: Any, *points: tuple[float, float], kind: str = "polygon") -> dict[str, Any]:
    return {"label": label, "points": [list(point) for point in points], "shape_type": kind}


def coco(*annotations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    image = {"id": 7, "file_name": f"images/{FIRST}.png", "width": SIZE, "height": SIZE}
    categories = [{"id": 30 + place, "name": name} for place, name in enumerate(LABELS)]
    return {"images": [image], "categories": categories, "annotations": list(annotations)} | changes


def annotation(category: int, *outlines: list[float], image: int = 7) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "segmentation": list(outlines), "iscrowd": 0}


def write(path: Path, value: Any) -> None:
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def png(bits: int, values: np.ndarray, width: int = SIZE, height: int = SIZE) -> bytes:
    """A greyscale PNG of few bits, written by hand."""
    packed = [np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:]).tobytes() for row in values]
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in packed))
    chunks = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def painted(label: str, mask: Any, first: tuple[float, float] = (1, 1)) -> dict[str, Any]:
    """A shape of labelme's kind `mask` that spans 4 × 4 pixels; of a mask `[h, w]`, or of any text."""
    stream = io.BytesIO()
    if not isinstance(mask, str):
        Image.fromarray(mask.astype(np.uint8)).save(stream, "PNG")
        mask = base64.b64encode(stream.getvalue()).decode()
    return shape(label, first, (first[0] + 3, first[1] + 3), kind="mask") | {"mask": mask}


SQUARE = [(1.0, 1.0), (5.0, 1.0), (5.0, 5.0), (1.0, 5.0)]
SHARES = [(x / SIZE, y / SIZE) for x, y in SQUARE]
INNER = [(2.0, 2.0), (4.0, 2.0), (4.0, 4.0), (2.0, 4.0)]


def in_square() -> np.ndarray:
    """What `SQUARE` covers with `INNER` as an eye."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[1:5, 1:5] = 1
    mask[2:4, 2:4] = 2
    return mask


def test_an_export_holds_the_samples_of_its_streams(folder: Path, tmp_path: Path) -> None:
    generator, manifest = FakeGenerator(), Manifest.load(folder)
    files = [
        f"{split}_{name}_{k:02d}.png" for split, n in (("train", 2), ("test", 1)) for name in NAMES for k in range(n)
    ]
    assert [sample.file for sample in manifest.samples] == files
    assert (manifest.labels, manifest.generator, manifest.size) == (LABELS, generator.fingerprint, (SIZE, SIZE))
    for sample, w in zip(manifest.samples, manifest.w, strict=True):
        stream = Stream("labels" if sample.file.startswith("train") else "labels test")
        place = NAMES.index(str(sample.class_name))
        torch.testing.assert_close(w[None], generator.sample(place, torch.tensor([sample.sample_index]), stream))
        image = torch.tensor(np.asarray(Image.open(folder / sample.file)))
        assert (image.permute(2, 0, 1) == to_uint8(generator.synthesize(w[None]))[0]).all()
    text = (folder / "README.txt").read_text()
    assert "9 images" in text and "   2 = eye" in text and f"labels.folder={folder}" in text
    assert str(tmp_path) not in (folder / "manifest.json").read_text()


def test_nothing_is_overwritten(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not empty: expected a new folder"):
        export(folder, small(tmp_path), FakeGenerator())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes__labels": []}, "classes.labels has 0 names: expected 1 to 255"),
        ({"classes__labels": ["ear", "ear"]}, "expected each name once"),
        ({"classes__labels": ["background"]}, "none named background"),
        ({"classes__names": ["ant", "bea"]}, "does not know 'bea'; did you mean bee?"),
    ],
)
def test_an_impossible_export_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        export(tmp_path / "labels", small(tmp_path, **changes), FakeGenerator())
    assert not (tmp_path / "labels").exists()


def test_masks_of_a_generator_that_does_not_know_its_parts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not know"):
        export(tmp_path / "labels", small(tmp_path), FakeGenerator(), masks=True)
    assert not (tmp_path / "labels").exists()


def test_without_classes_there_are_as_many_images(tmp_path: Path) -> None:
    generator = FakeGenerator(conditional=False)
    manifest = export(tmp_path / "labels", small(tmp_path), generator)
    assert [sample.file for sample in manifest.samples][5:] == [
        "train_image_05.png",
        *(f"test_image_0{k}.png" for k in range(3)),
    ]
    for sample in manifest.samples:
        put(tmp_path / "labels" / f"{sample.stem}.mask.png", some_mask(1))
    found = load(tmp_path / "labels", generator=generator.fingerprint)
    assert len(found.w) == 6 and found.sample_index.tolist() == list(range(6))


def test_names_that_are_no_file_names(tmp_path: Path) -> None:
    names = ("../a", "b/c", "..")
    manifest = export(tmp_path / "labels", small(tmp_path, classes__names=list(names)), FakeGenerator(names))
    assert manifest.samples[0].file == "train_class_0_00.png" and manifest.samples[0].class_name == "../a"


def test_index_images_come_back_in_order(labelled: Path) -> None:
    for split, count in (("train", 2), ("test", 1)):
        found = load(labelled, split)
        samples = [sample for sample in Manifest.load(labelled).samples if sample.file.startswith(split)]
        assert found.class_index.tolist() == [c for c in range(3) for _ in range(count)]
        assert found.sample_index.tolist() == [sample.sample_index for sample in samples]
        expected = [np.asarray(Image.open(labelled / f"{sample.stem}.mask.png")) for sample in samples]
        assert (found.masks.numpy() == expected).all() and found.masks.dtype == torch.uint8
        assert (found.image == to_uint8(FakeGenerator().synthesize(found.w))).all()


def test_the_run_chooses_and_orders_labels_and_classes(labelled: Path) -> None:
    whole = load(labelled)
    found = load(labelled, labels=("tail", "ear"), class_names=("cat", "ant"))
    assert found.class_index.tolist() == [0, 0, 1, 1]
    new = torch.tensor([0, 2, 0, 1], dtype=torch.uint8)
    assert (found.masks == new[whole.masks[[4, 5, 0, 1]].long()]).all()
    assert (found.w == whole.w[[4, 5, 0, 1]]).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_greyscale_of_any_depth_keeps_its_values(labelled: Path, bits: int) -> None:
    mask = some_mask(5, min(3, 2**bits - 1))
    if bits == 16:
        Image.fromarray(mask.astype(np.uint16)).save(labelled / f"{FIRST}.mask.png")
    else:
        (labelled / f"{FIRST}.mask.png").write_bytes(png(bits, mask))
    assert (load(labelled).masks[0].numpy() == mask).all()


@pytest.mark.parametrize("bits", [2, 8])
def test_a_palette_keeps_its_values(labelled: Path, bits: int) -> None:
    image = Image.frombytes("P", (SIZE, SIZE), some_mask(5).tobytes())
    image.putpalette([9, 9, 9, 9, 9, 9, 200, 0, 0, 0, 200, 0])
    image.save(labelled / f"{FIRST}.mask.png", bits=bits)
    assert (load(labelled).masks[0].numpy() == some_mask(5)).all()


def is_inside(x: float, y: float, outline: np.ndarray) -> bool:
    """A ray to the left, edge by edge."""
    crossed = False
    for (x1, y1), (x2, y2) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if (y1 > y) != (y2 > y) and x1 + (y - y1) * (x2 - x1) / (y2 - y1) < x:
            crossed = not crossed
    return crossed


@pytest.mark.parametrize("seed", range(6))
def test_inside_is_what_a_ray_says(seed: int) -> None:
    """Outlines that cross themselves and leave the image."""
    outline = np.random.default_rng(seed).uniform(-3, 15, (7, 2))
    for height, width in ((12, 12), (8, 12), (12, 7)):
        expected = [[is_inside(x + 0.5, y + 0.5, outline) for x in range(width)] for y in range(height)]
        assert (inside(outline, (height, width)) == expected).all()


def test_inside_equals_scikit_image() -> None:
    angle = np.linspace(0, 2 * np.pi, 60)[:-1]
    outline = 16 + (9 + 4 * np.sin(5 * angle))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    assert (inside(outline, (32, 32)) == polygon2mask((32, 32), outline[:, ::-1] - 0.5)).all()
    assert abs(inside(outline, (32, 32)).sum() - area(outline)) < 20


def convex(rng: np.random.Generator) -> np.ndarray:
    points = rng.uniform(-3, 35, (int(rng.integers(3, 30)), 2))
    return points[ConvexHull(points).vertices]


def star(rng: np.random.Generator) -> np.ndarray:
    angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 40))))
    return 16 + rng.uniform(3, 18, len(angle))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def crossing_itself(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-3, 35, (int(rng.integers(4, 20)), 2))


def on_outline(outline: np.ndarray, size: int) -> np.ndarray:
    """Pixels `[size, size]` bool whose centre lies on an edge, exact for corners on halves of pixels."""
    y, x = np.mgrid[:size, :size][..., None] + 0.5
    (x1, y1), (x2, y2) = outline.T, np.roll(outline, -1, axis=0).T
    between = (np.abs(2 * x - x1 - x2) <= np.abs(x1 - x2)) & (np.abs(2 * y - y1 - y2) <= np.abs(y1 - y2))
    return (between & ((x - x1) * (y2 - y1) == (y - y1) * (x2 - x1))).any(-1)


@pytest.mark.parametrize("kind", [convex, star, crossing_itself])
@pytest.mark.parametrize("offset", [None, 0.0, 0.5], ids=["anywhere", "on corners of pixels", "on centres of pixels"])
def test_inside_differs_from_scikit_image_only_on_the_outline(kind: Any, offset: float | None) -> None:
    """30 of each: scikit-image counts a centre on the outline as inside, here one of two neighbours has it."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        outline = kind(rng)
        outline = outline if offset is None else np.round(outline) + offset
        same = inside(outline, (32, 32)) == polygon2mask((32, 32), outline[:, ::-1] - 0.5)
        assert (same | on_outline(outline, 32)).all()
        assert offset is not None or same.all()


def test_neighbours_that_meet_on_centres_of_pixels_share_none() -> None:
    corners = np.array([[0.5, 0.5], [4.5, 0.5], [4.5, 4.5], [0.5, 4.5]])
    left, right = inside(corners, (10, 10)), inside(corners + [4, 0], (10, 10))
    assert left.sum() == right.sum() == area(corners) and not (left & right).any()


def test_larger_shapes_lie_below() -> None:
    shapes = [Shape(2, (np.array(INNER),)), Shape(1, (np.array(SQUARE),))]
    assert (draw(shapes, (SIZE, SIZE)) == in_square()).all() and (draw(shapes[::-1], (SIZE, SIZE)) == in_square()).all()
    same = [Shape(1, (np.array(INNER),)), Shape(3, (np.array(INNER),))]
    assert draw(same, (SIZE, SIZE)).max() == 3


def test_labelme_and_coco_say_the_same(folder: Path) -> None:
    """A polygon, a hole in it, and a part of two pieces."""
    outlines = {"ear": [SQUARE], "eye": [INNER], "tail": [[(6, 0), (8, 0), (8, 2), (6, 2)], [(6, 6), (8, 6), (8, 8)]]}
    shapes = [shape(name, *points) for name, pieces in outlines.items() for points in pieces]
    write(folder / f"{FIRST}.json", labelme(*shapes))
    first = check(folder).labelled[f"{FIRST}.png"].mask
    (folder / f"{FIRST}.json").unlink()
    flat = [[float(x) for point in points for x in point] for pieces in outlines.values() for points in pieces]
    write(folder / "mine.coco.json", coco(annotation(30, flat[0]), annotation(31, flat[1]), annotation(32, *flat[2:])))
    found = check(folder)
    assert (found.labelled[f"{FIRST}.png"].mask == first).all() and not found.problems
    assert (first[1:5, 1:5] == in_square()[1:5, 1:5]).all() and first[7, 7] == 3 == first[0, 7]
    assert found.parts == {"ear": 1, "eye": 1, "tail": 1} and len(found.missing) == 8


def test_other_shapes_of_labelme(folder: Path) -> None:
    shapes = [shape("ear", (5, 1), (1, 5), kind="rectangle"), shape("background", *INNER)]
    write(folder / f"{FIRST}.json", labelme(*shapes, shape("eye", (6.5, 6.5), (7.6, 6.5), kind="circle")))
    mask, expected = check(folder).labelled[f"{FIRST}.png"].mask, np.where(in_square() == 1, 1, 0)
    expected[5:8, 5:8] = [[0, 2, 0], [2, 2, 2], [0, 2, 0]]
    assert (mask == expected).all()


def refused(folder: Path, *parts: str) -> None:
    with pytest.raises(ValueError, match=re.escape(parts[0])) as error:
        load(folder)
    assert all(part in str(error.value) for part in parts), error.value


MASK_FILES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "another size": (np.zeros((SIZE, 9), np.uint8), ("9 × 8 pixels: expected 8 × 8",)),
    "a value that is no label": (np.full((SIZE, SIZE), 4, np.uint8), ("x=0, y=0 is 4", "1 ear, 2 eye, 3 tail")),
    "in colour": (np.zeros((SIZE, SIZE, 3), np.uint8), ("in colour (RGB)", "palette or in greyscale")),
    "nothing drawn": (np.zeros((SIZE, SIZE), np.uint8), ("labels nothing",)),
    "no picture": (b"hello", ("cannot be read", "expected a PNG")),
    "an empty file": (b"", ("cannot be read",)),
    "half a file": (png(8, np.ones((SIZE, SIZE), np.uint8))[:50], ("cannot be read", "save it again")),
    "a huge picture": (png(8, np.ones((SIZE, SIZE), np.uint8), 60_000, 60_000), ("expected",)),
}


@pytest.mark.parametrize("case", MASK_FILES)
def test_index_images_that_are_refused(labelled: Path, case: str) -> None:
    content, parts = MASK_FILES[case]
    path = labelled / f"{FIRST}.mask.png"
    path.write_bytes(content) if isinstance(content, bytes) else put(path, content)
    refused(labelled, f"{FIRST}.mask.png", *parts)


def test_a_jpeg_is_no_index_image(labelled: Path) -> None:
    Image.fromarray(some_mask(0)).save(labelled / f"{FIRST}.mask.png", format="JPEG")
    refused(labelled, f"{FIRST}.mask.png cannot be read", "expected a PNG file")


LABELME_FILES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "no JSON": ("{", ("cannot be read", "expected JSON")),
    "bytes": ("\x00\x01", ("cannot be read",)),
    "a list": ([], ("holds list", "expected a JSON object")),
    "nested too deep": ("[" * 200_000, ("cannot be read", "too deeply nested")),
    "nothing": ({}, ("imageWidth is missing: expected a whole number",)),
    "another image": (labelme(shape("ear", *SQUARE), imagePath="b.png"), ("is about 'b.png'", "train_ant_00.png")),
    "another size": (labelme(shape("ear", *SQUARE), imageWidth=256), ("256 × 8 pixels: expected 8 × 8",)),
    "size as text": (labelme(shape("ear", *SQUARE), imageWidth="8"), ("imageWidth is '8'",)),
    "size as truth": (labelme(shape("ear", *SQUARE), imageWidth=True), ("imageWidth is True",)),
    "unknown label": (labelme(shape("Ears", *SQUARE)), ("shape 0: unknown label 'Ears'", "did you mean ear?")),
    "label is a number": (labelme(shape(3, *SQUARE)), ("label is 3: expected a text",)),
    "a long label": (labelme(shape("ear" * 9999, *SQUARE)), ("unknown label",)),
    "shapes is text": (labelme(shapes="ear"), ("shapes is 'ear': expected a list",)),
    "a shape is a list": (labelme(shapes=[[]]), ("shape 0 is list",)),
    "no shape": (labelme(), ("labels nothing",)),
    "only a line": (labelme(shape("ear", *SQUARE, kind="line")), ("labels nothing", "1 × line left out", "a polygon")),
    "only __ignore__": (labelme(shape("__ignore__", *SQUARE)), ("labels nothing", "1 × __ignore__ left out")),
    "a kind of its own": (labelme(shape("ear", *SQUARE, kind="cuboid")), ("'cuboid'", "draw it again as a polygon")),
    "a mask without one": (labelme(shape("ear", *SQUARE[:2], kind="mask")), ("mask is missing: expected a text",)),
    "a mask of text": (labelme(painted("ear", "hello!")), ("its mask cannot be read", "save it again")),
    "a mask in colour": (labelme(painted("ear", np.ones((4, 4, 3)))), ("a picture (RGB) of 4 × 4", "one channel")),
    "a mask too large": (labelme(painted("ear", np.ones((4, 9)))), ("9 × 4 pixels", "at most 8 × 8")),
    "a mask of another span": (labelme(painted("ear", np.ones((6, 4)))), ("4 × 6 pixels, its points span 4 × 4",)),
    "a mask outside": (labelme(painted("ear", np.ones((4, 4)), (5, 7))), ("mask at (5, 7) reaches out", "resized")),
    "a mask of one point": (labelme(painted("ear", np.ones((4, 4))) | {"points": [[1, 1]]}), ("2 points of a mask",)),
    "shares of the sides": (
        labelme(shape("ear", *SHARES)),
        ("within 0…1", "(0.125, 0.125)", "multiply x by 8 and y by 8"),
    ),
    "a circle in shares": (labelme(shape("ear", (0.5, 0.5), (1, 1), kind="circle")), ("within 0…1",)),
    "one size is null": (labelme(shape("ear", *SQUARE), imageWidth=None, imageHeight=9), ("None × 9 pixels",)),
    "two points": (labelme(shape("ear", *SQUARE[:2])), ("2 points: expected a list of 3 to 10,000",)),
    "many points": (labelme(shape("ear", *[(1, 1)] * 10_001)), ("10001 points",)),
    "many shapes": (labelme(*[shape("ear", *SQUARE)] * 1001), ("1001 shapes: expected at most 1000",)),
    "points is text": (labelme(shape("ear") | {"points": "all"}), ("shape 0 has str",)),
    "a point of three": (labelme(shape("ear", *SQUARE, (1, 2, 3))), ("point 4 is not a pair",)),  # pyright: ignore[reportArgumentType]
    "a point of text": (labelme(shape("ear", *SQUARE, ("a", 2))), ("point 4 is 'a': expected a finite",)),  # pyright: ignore[reportArgumentType]
    "not a number": (json.dumps(labelme(shape("ear", *SQUARE, (float("nan"), 2)))), ("NaN is no number",)),
    "too large a number": (labelme(shape("ear", *SQUARE, (10**400, 2))), ("expected a finite number",)),
    "outside": (labelme(shape("ear", *SQUARE, (20, 2))), ("point (20, 2) lies outside", "resized")),
    "a rectangle of three": (labelme(shape("ear", *SQUARE[:3], kind="rectangle")), ("expected 2 or 4 points",)),
}


@pytest.mark.parametrize("case", LABELME_FILES)
def test_labelme_files_that_are_refused(labelled: Path, case: str) -> None:
    content, parts = LABELME_FILES[case]
    (labelled / f"{FIRST}.mask.png").unlink()
    write(labelled / f"{FIRST}.json", content)
    refused(labelled, f"{FIRST}.json", *parts)


GOOD = annotation(30, [1, 1, 5, 1, 5, 5])


def runs(counts: Any, category: int = 30) -> dict[str, Any]:
    """A COCO file with one run-length encoded mask."""
    return coco(annotation(category) | {"segmentation": {"size": [SIZE, SIZE], "counts": counts}, "iscrowd": 1})


COCO_FILES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "no JSON": ("nonsense", ("cannot be read",)),
    "nothing": ({}, ("images is missing",)),
    "no annotations": (coco(annotations=3), ("annotations is 3",)),
    "rows are text": (coco(images=["a"]), ("images has something that is no object",)),
    "an unknown image": (coco(images=[{"id": 1, "file_name": "train_ant_0.png"}]), ("did you mean train_ant_0",)),
    "an image twice": (coco(images=coco()["images"] * 2), ("listed twice",)),
    "an unknown category": (coco(annotation(9, [1, 1, 5, 1, 5, 5])), ("category_id is 9",)),
    "an unknown label": (coco(GOOD, categories=[{"id": 30, "name": "EAR"}]), ("unknown label 'EAR'", "mean ear?")),
    "an image_id of nothing": (coco(annotation(30, [1, 1, 5, 1, 5, 5], image=8)), ("image_id is 8",)),
    "runs of another size": (coco(GOOD | {"segmentation": {"size": [8, 9], "counts": [72]}}), ("is [8, 9]: expected",)),
    "runs that are too short": (runs([60, 3]), ("2 run lengths fill 63 pixels: expected 64",)),
    "runs that are too many": (runs([1] * 64 + [0] * 99), ("163 run lengths", "export it again")),
    "runs of huge numbers": (runs([10**30, 1]), ("expected 64",)),
    "runs below nothing": (runs([-1, 65]), ("expected whole numbers from 0",)),
    "runs of truth": (runs([True, 63]), ("expected whole numbers from 0",)),
    "runs of bytes": (runs({"a": 1}), ("expected whole numbers from 0",)),
    "runs in another alphabet": (runs("9440~"), ("'9440~'", "pycocotools packs")),
    "runs of snowmen": (runs("☃a1"), ("'☃a1'", "pycocotools packs")),
    "runs without an end": (runs("9440P"), ("ends within a number",)),
    "runs of endless numbers": (runs("P" * 99), ("pycocotools packs",)),
    "shares of the sides": (coco(annotation(30, [v for p in SHARES for v in p])), ("within 0…1", "multiply x by 8")),
    "two names of one category": (
        coco(GOOD, categories=[{"id": 30, "name": "ear"}, {"id": 30, "name": "eye"}]),
        ("id 30 is 'eye' and 'ear': expected an id for each",),
    ),
    "only __ignore__": (
        coco(GOOD, categories=[{"id": 30, "name": "__ignore__"}]),
        ("labels nothing", "1 × __ignore__ left out"),
    ),
    "only a box": (coco(GOOD | {"segmentation": []}), ("no polygon",)),
    "odd numbers": (coco(annotation(30, [1, 1, 5, 1, 5])), ("not a list of x, y",)),
    "two points": (coco(annotation(30, [1, 1, 5, 1])), ("2 points",)),
    "another size": (coco(GOOD, images=[coco()["images"][0] | {"width": 9}]), ("9 × 8 pixels",)),
    "many": (coco(*[GOOD] * 1001), ("1001 annotations",)),
}


@pytest.mark.parametrize("case", COCO_FILES)
def test_coco_files_that_are_refused(labelled: Path, case: str) -> None:
    content, parts = COCO_FILES[case]
    (labelled / f"{FIRST}.mask.png").unlink()
    write(labelled / "annotations.json", content)
    refused(labelled, "annotations.json", *parts)


def test_a_coco_file_beside_masks_of_others(labelled: Path) -> None:
    (labelled / f"{FIRST}.mask.png").unlink()
    write(labelled / "annotations.json", coco(annotation(32, [1, 1, 5, 1, 5, 5, 1, 5])))
    assert (load(labelled).masks[0].numpy() == 3 * (in_square() > 0)).all()


def packed(mask: np.ndarray) -> tuple[list[int], str]:
    """The runs of a mask down its columns, and their text, pixel by pixel and bit by bit."""
    counts, before = [0], False
    for pixel in (bool(mask[y, x]) for x in range(mask.shape[1]) for y in range(mask.shape[0])):
        if pixel != before:
            counts.append(0)
        counts[-1], before = counts[-1] + 1, pixel
    text = ""
    for k, count in enumerate(counts):
        number = count - counts[k - 2] if k > 2 else count
        bits = 5
        while not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            bits += 5
        fives = [(number >> shift) & 31 for shift in range(0, bits, 5)]
        text += "".join(chr(48 + five + 32 * (place < len(fives) - 1)) for place, five in enumerate(fives))
    return counts, text


def test_labels_of_an_image_that_is_not_square_are_held_to_both_of_its_sides() -> None:
    size, wide = (20, 40), [[1, 1], [38, 1], [38, 18]]
    assert inside(outline_of(wide, size, ""), size).sum() == pytest.approx(area(np.array(wide)), rel=0.1)
    with pytest.raises(ValueError, match=r"point \(1, 38\) lies outside the image of 40 × 20 pixels"):
        outline_of([point[::-1] for point in wide], size, "")
    pixels, corner = decode_runs({"size": [2, 3], "counts": [3, 2, 1]}, (2, 3), "")
    assert (pixels.tolist(), corner) == ([[False, True], [True, False]], (0, 1))
    with pytest.raises(ValueError, match=r"size of its run lengths is \[3, 2\]: expected \[2, 3\]"):
        decode_runs({"size": [3, 2], "counts": [3, 2, 1]}, (2, 3), "")
    assert not check_image({"w": 40, "h": 20}, size, "", "w", "h")
    with pytest.raises(ValueError, match="drawn on an image of 20 × 40 pixels: expected 40 × 20"):
        check_image({"w": 20, "h": 40}, size, "", "w", "h")


def decoded(size: int, counts: Any) -> np.ndarray:
    """Run lengths as a mask of the whole image."""
    pixels, (top, left) = decode_runs({"size": [size, size], "counts": counts}, (size, size), "")
    mask = np.zeros((size, size), bool)
    mask[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    if mask.any():
        assert pixels[[0, -1]].any(1).all() and pixels[:, [0, -1]].any(0).all()  # nothing around it
    return mask


@pytest.mark.parametrize("seed", range(12))
def test_run_lengths_are_read_as_they_were_packed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 70))
    y, x = np.mgrid[:size, :size]
    disc = (x - size / 2) ** 2 + (y - size / 3) ** 2 < (size * rng.random()) ** 2
    mask = disc if seed % 2 else rng.random((size, size)) < rng.random()
    for counts in packed(mask):
        assert (decoded(size, counts) == mask).all()


@pytest.mark.parametrize(
    ("text", "seed"), [("41121NO010O033M01MO10O012021LN010O0", 0), ("2130O13OL061JO020O010N30M10O0001000O0", 1)]
)
def test_run_lengths_of_pycocotools(text: str, seed: int) -> None:
    """What `pycocotools.mask.encode` made of two random masks."""
    mask = np.random.default_rng(seed).random((SIZE, SIZE)) < 0.5
    assert (decoded(SIZE, text) == mask).all() and packed(mask)[1] == text


@pytest.mark.parametrize("seed", range(40))
def test_run_lengths_of_small_masks_anywhere(seed: int) -> None:
    """At the image's sides, over the ends of columns, with runs of no length, and nothing at all."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 9))
    mask = np.zeros((size, size), bool)
    top, left = rng.integers(0, size, 2)
    patch = mask[top : top + rng.integers(0, size), left : left + rng.integers(0, size)]
    patch[:] = rng.random(patch.shape) < 0.7
    counts = packed(mask)[0]
    run = int(rng.integers(0, len(counts)))
    part = int(rng.integers(0, counts[run] + 1))
    for lengths in (counts, [*counts[:run], part, 0, counts[run] - part, *counts[run + 1 :]]):
        assert (decoded(size, lengths) == mask).all()


def test_run_lengths_and_crowds_are_areas(folder: Path) -> None:
    """Outlined, packed and unpacked masks lie on each other by their size."""
    inner, size = in_square() == 2, {"size": [SIZE, SIZE]}
    crowd = annotation(30, [v for point in SQUARE for v in point]) | {"iscrowd": 1}
    for counts in packed(inner):
        eye = annotation(31) | {"segmentation": size | {"counts": counts}, "iscrowd": 1}
        write(folder / "annotations.json", coco(eye, crowd))
        assert (check(folder).labelled[f"{FIRST}.png"].mask == in_square()).all()


def test_what_has_no_area_is_left_out_with_a_count(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in files of labelme and of programs beside it: lines, points, `__ignore__`, null sizes and kinds."""
    lines = [shape("nobody", *SQUARE[:2], kind=kind) for kind in ("line", "line", "linestrip", "point", "points")]
    ear = shape("ear", *SQUARE) | {"shape_type": None}
    whole = [shape("__ignore__", *SQUARE), *lines, ear, painted("eye", np.eye(4), (1.2, 0.8))]
    write(folder / f"{FIRST}.json", labelme(*whole, imageWidth=None, imageHeight=None))
    expected = np.where(in_square() > 0, 1, 0)
    expected[1:5, 1:5][np.eye(4) > 0] = 2
    result = check(folder)
    assert not result.problems and (result.labelled[f"{FIRST}.png"].mask == expected).all()
    reason = "left out: it has no area, draw a polygon"
    assert sorted(result.notes) == [
        f"{FIRST}.png: 1 × __ignore__ left out",
        *(f"{FIRST}.png: 1 × {kind} {reason}" for kind in ("linestrip", "point", "points")),
        f"{FIRST}.png: 1 × size of the image not stated",
        f"{FIRST}.png: 2 × line {reason}",
    ]
    with pytest.raises(SystemExit):
        main(["check", str(folder)])
    assert f"{FIRST}.png: 2 × line left out" in capsys.readouterr().err


def test_what_a_run_left_out_is_in_its_log(labelled: Path, caplog: pytest.LogCaptureFixture) -> None:
    (labelled / f"{FIRST}.mask.png").unlink()
    images = [coco()["images"][0] | {"width": None, "height": None}]
    write(
        labelled / "annotations.json",
        coco(
            GOOD,
            annotation(29, []),
            images=images,
            categories=[{"id": 30, "name": "ear"}, {"id": 29, "name": "__ignore__"}],
        ),
    )
    load(labelled)
    assert {record.getMessage().partition(": ")[2] for record in caplog.records} == {
        "1 × __ignore__ left out",
        "1 × size of the image not stated",
    }


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "oriented_rectangle"])
def test_rectangles_of_four_points(folder: Path, kind: str) -> None:
    background = shape("_background_", *INNER)
    write(folder / f"{FIRST}.json", labelme(shape("ear", *SQUARE, kind=kind), background))
    assert (check(folder).labelled[f"{FIRST}.png"].mask == np.where(in_square() == 1, 1, 0)).all()


def test_a_painted_mask_may_reach_over_the_border(folder: Path) -> None:
    write(folder / f"{FIRST}.json", labelme(painted("ear", np.ones((4, 4)), (-1, 5))))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[5:, :3] = 1
    assert (check(folder).labelled[f"{FIRST}.png"].mask == mask).all()


def test_a_speck_in_the_corner_is_no_share(folder: Path) -> None:
    speck = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    write(folder / f"{FIRST}.json", labelme(shape("ear", *SQUARE), shape("eye", *speck)))
    assert check(folder).labelled[f"{FIRST}.png"].mask[0, 0] == 2


def save_palette(path: Path, mask: np.ndarray, colours: Any, order: Any = None) -> None:
    """An index image with `colours`; with an `order`, its entries as an optimiser leaves them."""
    image = Image.fromarray(mask)
    image.putpalette([part for colour in colours for part in colour])
    (image.remap_palette(order) if order else image).save(path)


def test_a_palette_that_was_optimised_is_read_by_colour(labelled: Path) -> None:
    """Value 1 does not occur: 2 and 3 become 1 and 2, and keep their colours."""
    mask = np.where(some_mask(0) == 1, 0, some_mask(0)).astype(np.uint8)
    path = labelled / f"{FIRST}.mask.png"
    save_palette(path, mask, label_palette(LABELS), [0, 2, 3])
    assert np.asarray(Image.open(path)).max() == 2
    assert (load(labelled).masks[0].numpy() == mask).all()
    assert check(labelled).notes == [f"{FIRST}.png: 1 × palette moved: read by colour"]
    save_palette(path, mask, label_palette(LABELS), [3, 2, 0])
    assert (load(labelled).masks[0].numpy() == mask).all()


@pytest.mark.parametrize("size", [1, 3])
def test_a_label_that_is_black_in_a_palette_of_ones_own_was_read_as_background(labelled: Path, size: int) -> None:
    """Black is the first colour of many palettes; only a colour of a label tells that ours was moved."""
    mask = np.full((SIZE, SIZE), 1, np.uint8)
    mask[:size, :size] = size  # 3: a label that has our colour in our place
    colours = [(255, 255, 255), (0, 0, 0), (9, 9, 9), label_palette(LABELS)[3]]
    save_palette(labelled / f"{FIRST}.mask.png", mask, colours)
    assert (load(labelled).masks[0].numpy() == mask).all() and not check(labelled).notes


def test_a_moved_palette_that_leaves_open_what_is_meant_is_refused(labelled: Path) -> None:
    """White instead of black below, and a part in another place."""
    colours = [(255, 255, 255), label_palette(LABELS)[2]]
    save_palette(labelled / f"{FIRST}.mask.png", some_mask(0, 1), colours)
    refused(labelled, f"{FIRST}.mask.png: value 1 has the colour #332288, which is that of value 2", "in greyscale")


def test_more_parts_than_colours_keep_their_values(tmp_path: Path) -> None:
    """The colours begin again after ten: they decide nothing then."""
    labels = [f"part {k}" for k in range(12)]
    export(tmp_path / "labels", small(tmp_path, classes__labels=labels), FakeGenerator())
    mask, path = some_mask(0, 12), tmp_path / "labels" / f"{FIRST}.mask.png"
    save_palette(path, mask, label_palette(labels))
    assert (check(tmp_path / "labels").labelled[f"{FIRST}.png"].mask == mask).all()
    save_palette(path, np.where(mask == 1, 0, mask).astype(np.uint8), label_palette(labels), [0, *range(2, 13)])
    assert "leave open which is meant" in check(tmp_path / "labels").problems[0]


def test_a_palette_of_ones_own_that_was_optimised_in_one_file_is_refused(labelled: Path) -> None:
    colours = [(255, 255, 255), (200, 0, 0), (0, 200, 0), (0, 0, 200)]
    for place, sample in enumerate(Manifest.load(labelled).samples):
        save_palette(labelled / f"{sample.stem}.mask.png", some_mask(place), colours)
    assert not check(labelled).problems and not check(labelled).notes
    mask = np.where(some_mask(0) == 1, 0, some_mask(0)).astype(np.uint8)
    save_palette(labelled / "train_bee_00.mask.png", mask, colours, [0, 2, 3])
    refused(labelled, "train_bee_00.mask.png: the colour #00c800 is value 1, and 2 in", "one palette for all masks")
    assert len(check(labelled).problems) == 1


def test_names_that_are_not_utf8_can_be_said(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (labelled / os.fsdecode(b"caf\xe9.mask.png")).write_bytes(b"")
    refused(labelled, r"caf\xe9.mask.png belongs to no exported image")
    assert len(str(folder_digest(str(labelled)))) == 64
    with pytest.raises(SystemExit):
        main(["check", str(labelled)])
    assert r"caf\xe9.mask.png belongs to no exported image" in capsys.readouterr().err


def test_an_image_is_labelled_once(labelled: Path) -> None:
    write(labelled / f"{FIRST}.json", labelme(shape("ear", *SQUARE)))
    write(labelled / "annotations.json", coco(GOOD))
    refused(labelled, f"{FIRST}.png is labelled in {FIRST}.mask.png and {FIRST}.json and annotations.json: keep one")
    write(labelled / "more.coco.json", coco(GOOD))
    refused(labelled, "annotations.json and more.coco.json: expected one COCO file")


def test_all_problems_are_listed_at_once(labelled: Path) -> None:
    (labelled / f"{FIRST}.mask.png").unlink()
    (labelled / "train_cat_01.mask.png").unlink()
    put(labelled / "train_bee_00.mask.png", np.full((SIZE, SIZE), 9, np.uint8))
    put(labelled / "train_ant_0.mask.png", some_mask(0))
    write(labelled / "train_ant_99.json", labelme())
    refused(
        labelled,
        "2 of 6 images are not labelled: train_ant_00.png, train_cat_01.png; label them",
        "train_bee_00.mask.png: the pixel",
        "train_ant_0.mask.png belongs to no exported image: rename or remove it; did you mean train_ant_0",
        "train_ant_99.json belongs to no exported image",
    )


def test_an_image_that_was_changed(labelled: Path) -> None:
    Image.open(labelled / f"{FIRST}.png").resize((16, 16)).save(labelled / f"{FIRST}.png")
    (labelled / "train_bee_00.png").unlink()
    refused(labelled, f"{FIRST}.png has 16 × 16 pixels: expected 8 × 8", "train_bee_00.png is not a file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": "f" * 64}, r"exported from another generator \(fake-generat\) than the run's \(ffffffffffff\)"),
        ({"labels": ("ear", "tails")}, r"no label 'tails', only ear, eye, tail.*did you mean tail\?"),
        ({"class_names": ("ant", "dog")}, r"no images of dog: leave the class out of classes\.names"),
    ],
)
def test_labels_of_another_run_are_refused(labelled: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(labelled, **changes)


def test_a_split_without_images(tmp_path: Path) -> None:
    export(tmp_path / "labels", small(tmp_path, labels__test=0), FakeGenerator())
    with pytest.raises(ValueError, match=r"no images of the split test: export them \(labels\.test\)"):
        load(tmp_path / "labels", "test")


def test_the_style_codes_are_those_that_were_exported(labelled: Path) -> None:
    content = bytearray((labelled / "w.safetensors").read_bytes())
    content[-1] ^= 1
    (labelled / "w.safetensors").write_bytes(content)
    refused(labelled, "w.safetensors is missing or not what was exported")
    (labelled / "w.safetensors").unlink()
    refused(labelled, "w.safetensors is missing")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"images": [{"file": "../../secret.png"}]}, "image 0: file is '../../secret.png'"),
        ({"images": [{"file": "/etc/a.png"}]}, "image 0: file"),
        ({"images": [{"file": "a.png", "stream": "tuning"}]}, "stream is 'tuning'"),
        ({"images": [{"file": "a.png", "stream": "labels", "class_name": 3}]}, "class_name is 3"),
        ({"images": [{"file": "a.png", "stream": "labels", "sample_index": "1"}]}, "sample_index is '1'"),
        ({"images": [[]]}, "image 0 is list"),
        ({"images": {}}, "images is {}"),
        ({"labels": []}, "labels has 0 names"),
        ({"resolution": "big"}, "resolution is 'big'"),
        ({"generator": None}, "generator is None"),
    ],
)
def test_a_manifest_that_cannot_be_right(labelled: Path, change: dict[str, Any], part: str) -> None:
    path = labelled / "manifest.json"
    write(path, json.loads(path.read_text()) | change)
    refused(labelled, "manifest.json", part, "export the images again")


@pytest.mark.parametrize("name", ["", "nothing"])
def test_a_folder_that_was_not_exported(tmp_path: Path, name: str) -> None:
    refused(tmp_path / name, "has no manifest.json", "python -m lis.labels export")


@pytest.mark.parametrize("name", [f"{FIRST}.mask.png", f"{FIRST}.json", "annotations.json", "manifest.json"])
def test_damaged_files_never_end_in_another_error(labelled: Path, name: str) -> None:
    rng = np.random.default_rng(3)
    if not (labelled / name).exists():
        whole = labelme(shape("ear", *SQUARE)) if name.startswith("train") else coco(GOOD)
        (labelled / f"{FIRST}.mask.png").unlink()
        write(labelled / name, whole)
    good = (labelled / name).read_bytes()
    for _ in range(60):
        bad = bytearray(good)
        for place in rng.integers(len(bad), size=3):
            bad[place] = rng.integers(256)
        (labelled / name).write_bytes(bad[: rng.integers(len(bad) // 2, len(bad) + 1)])
        with suppress(ValueError):
            load(labelled)


def test_check_lists_and_draws(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (labelled / f"{FIRST}.mask.png").unlink()
    put(labelled / "train_bee_00.mask.png", np.full((SIZE, SIZE), 9, np.uint8))
    with pytest.raises(SystemExit, match="1"):
        main(["check", str(labelled)])
    written = capsys.readouterr().err
    assert f"not labelled: {FIRST}.png" in written and "train_bee_00.mask.png: the pixel" in written
    assert "7 labelled (ear on 7, eye on 7, tail on 7), 1 missing, 1 wrong" in written
    drawn = {path.name for path in (labelled / "check").iterdir()}
    assert len(drawn) == 8 and {"sheet.png", "test_cat_00.png"} <= drawn
    assert np.asarray(Image.open(labelled / "check" / "test_cat_00.png")).shape == (192, 192, 3)
    put(labelled / f"{FIRST}.mask.png", some_mask(0))
    put(labelled / "train_bee_00.mask.png", some_mask(0))
    main(["check", str(labelled)])
    assert "9 labelled" in capsys.readouterr().err


def test_out_and_back_on_part_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the command line, with the masks that a person would have drawn."""
    folder = tmp_path / "fungi"
    main(["export", str(folder), "--masks", "classes=fungi", "labels.train=2", "labels.test=1", "device=cpu"])
    main(["check", str(folder)])
    assert "12 labelled (cap on 12, stem on 12), 0 missing" in capsys.readouterr().err
    settings = configuration(["classes=fungi"]).classes
    generator = PartWorld(settings.names)
    found = read(folder, settings.labels, settings.names, "train", generator.fingerprint)
    sizes = {"class_names": tuple(settings.names), "classes__labels": list(settings.labels), "labels__train": 2}
    for own in (None, str(folder)):  # the masks of the generator, and those of the folder
        ctx = make_context(tmp_path, generator, FakeClassifier(FakeGenerator()), **sizes, labels__folder=own)
        for name, values in vars(labelled_images(ctx, "train", generator.resolution)).items():
            near = {"image": 1, "w": 1e-5}.get(name, 0)  # another batch, another rounding
            torch.testing.assert_close(getattr(found, name), values, rtol=0, atol=near)
    parts = generator.render(found.w)[1]
    whole = torch.cat([1 - parts.sum(1, keepdim=True), parts], 1)
    assert (found.masks == whole.argmax(1)).all() and found.masks.unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["export", "{}", "clases=dogs"], "clases"),
        (["export", "{}", "labels.trian=3"], "labels.trian"),
        (["export", "{}", "labels.train=0"], "labels.train=0: expected at least 1"),
        (["export", "{}", "classes.labels=[cap]"], "the generator has no part 'cap'"),
        (["check", "{}"], "has no manifest.json"),
        (["check", "{}", "classes=dogs"], "check takes the folder alone"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    tmp_path: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([word.format(tmp_path / "labels") for word in arguments])
    assert part in capsys.readouterr().err


WIDE = 512


def wide(tmp_path: Path, content: dict[str, Any], name: str) -> tuple[Manifest, Path]:
    """A folder of one image of 512 pixels, and a file beside it."""
    write(tmp_path / name, content)
    samples = (Sample(f"{FIRST}.png", "labels", None, 0),)
    return Manifest(tmp_path, "g", (WIDE, WIDE), LABELS, samples, ""), tmp_path / name


def zigzag(points: int) -> list[list[float]]:
    """An outline that crosses the image with every edge."""
    return [[place % WIDE, place % 2 * (WIDE - 1)] for place in range(points)]


def test_outlines_that_zigzag_hung(tmp_path: Path) -> None:
    """100 of 10,000 points took 24 s, 1,000 took minutes."""
    shapes = [shape("ear", *zigzag(10_000))] * 6  # pyright: ignore[reportArgumentType]
    manifest, path = wide(tmp_path, labelme(*shapes, imageHeight=None, imageWidth=None), "a.json")
    with pytest.raises(ValueError, match=r"a\.json: its shapes take more than 268 million steps to draw"):
        read_labelme(path, manifest, manifest.samples[0])


def test_smooth_outlines_of_as_many_points_are_drawn(tmp_path: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 10_000)
    circle = (256 + 200 * np.stack([np.cos(angle), np.sin(angle)], 1)).round(1).tolist()
    manifest, path = wide(tmp_path, labelme(*[shape("ear", *circle)] * 15, imageHeight=None, imageWidth=None), "a.json")
    mask = read_labelme(path, manifest, manifest.samples[0]).mask
    assert abs(int(mask.sum()) - np.pi * 200**2) < 2000


@pytest.mark.parametrize(
    ("outlines", "message"),
    [
        ([[0, 0, 511, 0, 0, 511]] * 10_000, "268 million steps"),
        ([[1, 1, 3, 1, 1, 3]] * 10_001, "10,001 outlines: expected at most 10,000"),
    ],
)
def test_thousands_of_outlines_in_one_annotation_hung(
    tmp_path: Path, outlines: list[list[float]], message: str
) -> None:
    """10,000 triangles took 45 s."""
    saved = coco(annotation(30, *outlines))
    saved["images"][0] |= {"width": None, "height": None}
    manifest, path = wide(tmp_path, saved, "annotations.json")
    with pytest.raises(ValueError, match=rf"annotations\.json: .*{message}"):
        read_coco(path, manifest).mask(f"{FIRST}.png")


def test_a_thousand_run_lengths_filled_a_gigabyte(tmp_path: Path) -> None:
    """A quarter of one in an image of 512 pixels, which is drawn; more than that is refused."""
    runs = {"size": [WIDE, WIDE], "counts": [1, WIDE**2 - 1]}
    saved = coco(*[annotation(30) | {"segmentation": runs}] * 1000)
    saved["images"][0] |= {"width": None, "height": None}
    manifest, path = wide(tmp_path, saved, "annotations.json")
    forget_peak()
    before = peak_memory()
    assert read_coco(path, manifest).mask(f"{FIRST}.png").mask.sum() == WIDE**2 - 1
    assert peak_memory() - before < 300 * 2**20
    budget, painted = Budget((1024, 1024), "a.json"), Shape(1, painted=np.zeros((1024, 1024), bool))
    for _ in range(256):
        budget.spend(painted)
    with pytest.raises(ValueError, match=r"a\.json: its shapes take more than 268 million steps"):
        budget.spend(painted)


@pytest.mark.parametrize("size", [1024, 4096])
def test_a_small_painted_part_was_charged_for_the_whole_image(tmp_path: Path, size: int) -> None:
    """At 1024 pixels the 257th annotation of 30 × 30 was refused, at 4096 the 17th; an image may have 1,000."""
    rows, position = [], np.random.default_rng(0).integers(0, size - 30, (1000, 2))
    for x, y in position.tolist():
        inside = [30, size - 30] * 29 + [30]
        counts = [x * size + y, *inside, size**2 - x * size - y - sum(inside)]
        rows.append(annotation(30) | {"segmentation": {"size": [size, size], "counts": counts}})
    saved = coco(*rows)
    saved["images"][0] |= {"width": None, "height": None}
    write(tmp_path / "annotations.json", saved)
    manifest = Manifest(tmp_path, "g", (size, size), LABELS, (Sample(f"{FIRST}.png", "labels", None, 0),), "")
    mask = read_coco(tmp_path / "annotations.json", manifest).mask(f"{FIRST}.png").mask
    expected = np.zeros((size, size), bool)
    for x, y in position:
        expected[y : y + 30, x : x + 30] = True
    assert ((mask == 1) == expected).all()


def test_too_many_painted_parts_are_not_blamed_on_outlines() -> None:
    budget, painted = Budget((16384, 16384), "a.json"), Shape(1, painted=np.zeros((16384, 16384), bool))
    budget.spend(painted)
    with pytest.raises(ValueError, match=r"expected fewer or smaller ones$"):
        budget.spend(painted)


def test_ids_that_were_chosen_to_collide_do_not_slow_the_reading(tmp_path: Path) -> None:
    """Multiples of 2^61 - 1 have one hash as whole numbers: 20,000 categories took half a minute."""
    saved = coco(categories=[{"id": place * (2**61 - 1), "name": "ear"} for place in range(40_000)])
    manifest, path = wide(tmp_path, saved, "annotations.json")
    with no_hang():
        read_coco(path, manifest)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 10**6}, "resolution is 1000000: expected 1 to 4,096"),
        ({"resolution": 0}, "resolution is 0"),
        ({"labels": [["ear"]]}, "labels has ['ear']: expected names"),
        ({"images": [{"file": "a" * 300 + ".png", "stream": "labels", "class_name": None, "sample_index": 0}]}, "file"),
        ({"images": [{"file": "a.png", "stream": "labels", "class_name": None, "sample_index": -1}]}, "sample_index"),
        (
            {"images": [{"file": "a.png", "stream": "labels", "class_name": None, "sample_index": 10**4000}]},
            "sample_index",
        ),
    ],
)
def test_a_manifest_of_impossible_images_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    """A resolution of a million asked for a mask of a terabyte; a long name was an error of the system's."""
    write(folder / "manifest.json", json.loads((folder / "manifest.json").read_text()) | changes)
    refused(folder, "manifest.json", message)


@pytest.mark.parametrize("change", ["half", "more", "header"])
def test_style_codes_of_another_kind_are_refused(folder: Path, change: str) -> None:
    """Whose checksum was written into the manifest again."""
    w, path = Manifest.load(folder).w.clone(), folder / "w.safetensors"
    save_file({"w": w.half()} if change == "half" else {"w": w, "more": w + 1}, path)
    if change == "header":
        path.write_bytes((2**20).to_bytes(8, "little") + b" " * 2**20)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    write(folder / "manifest.json", json.loads((folder / "manifest.json").read_text()) | {"w_sha256": digest})
    with pytest.raises(ValueError, match=r"w\.safetensors cannot be read"):
        _ = Manifest.load(folder).w
