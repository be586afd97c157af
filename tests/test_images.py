"""A user's own pictures: read whatever they are, encoded, and held against what the generator makes."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context, stand_in
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

from lis.context import Context
from lis.images import to_uint8
from lis.linking.link import link, load_link
from lis.linking.pairs import pairs
from lis.quantify.measures import measure
from lis.report import images as sections
from lis.report.page import write_report
from lis.report.source import source
from lis.store import Artifact
from lis.streams import Stream
from lis.units import photos
from lis.units.images import Mahalanobis, _content, share_below, user_images, validate_images
from lis.units.photos import Photo, photo_files, read_photo

SIZE = 8


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(path, format="PNG")


def claim(path: Path, width: int, height: int) -> None:
    """A PNG file whose header promises a picture that is not in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generated images, noise, and two files that are no pictures."""
    root, generator = tmp_path_factory.mktemp("pictures"), FakeGenerator()
    for c in (0, 2):
        w = generator.sample(c, torch.arange(1), Stream("views"))
        png(root / f"{NAMES[c]}.png", to_uint8(generator.synthesize(w))[0].permute(1, 2, 0).numpy())
    png(root / "noise.png", pixels(0, SIZE, SIZE, 3))
    (root / "notes.txt").write_text("hello")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / ".hidden.png").write_bytes(b"")
    (root / "inside").mkdir()
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    """The stage on the fakes, without parts."""
    ctx = make_context(tmp_path_factory.mktemp("run"), images=str(folder))
    return ctx, user_images(ctx)


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path: Path) -> None:
    image = pixels(1, SIZE, SIZE, 3)
    png(tmp_path / "a.png", image)
    photo = read_photo(tmp_path / "a.png", SIZE)
    assert photo.image is not None and photo.image.dtype == torch.uint8
    assert (photo.image.permute(1, 2, 0).numpy() == image).all()
    assert (photo.name, photo.width, photo.height, photo.note, photo.reason) == ("a.png", SIZE, SIZE, "", "")


def colour(photo: Photo) -> list[int]:
    """Mean colour of a picture that can be used."""
    assert photo.image is not None, photo.reason
    assert photo.image.shape == (3, SIZE, SIZE)
    return photo.image.float().mean((1, 2)).round().int().tolist()


def test_the_centre_is_cut_out(tmp_path: Path) -> None:
    """Red, green and blue thirds: the middle one is kept."""
    wide = np.zeros((20, 60, 3), np.uint8)
    for third in range(3):
        wide[:, 20 * third : 20 * third + 20, third] = 200
    for name, image in (("wide", wide), ("tall", wide.transpose(1, 0, 2))):
        png(tmp_path / f"{name}.png", image)
        assert colour(read_photo(tmp_path / f"{name}.png", SIZE)) == [0, 200, 0]


def test_exif_data_turn_a_picture(tmp_path: Path) -> None:
    image = np.zeros((30, 20, 3), np.uint8)
    image[:15] = 240
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    photo = read_photo(tmp_path / "a.png", SIZE)
    assert photo.image is not None and (photo.width, photo.height, photo.note) == (
        30,
        20,
        "turned as its EXIF data say",
    )
    assert photo.image[:, :, :3].max() < 20 and photo.image[:, :, 5:].min() > 220


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("exif", [b"garbage", b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\0\0\xff\xff", b"\0"])
def test_damaged_exif_data_do_not_discard_a_picture(tmp_path: Path, kind: str, exif: bytes) -> None:
    Image.fromarray(GREY).save(tmp_path / "a", kind, exif=b"Exif\0\0" + exif)
    photo = read_photo(tmp_path / "a", SIZE)
    assert photo.reason == "" and all(abs(value - 100) <= 1 for value in colour(photo))
    assert photo.note == "its EXIF data are damaged: not turned" or exif != b"garbage"


def save(image: np.ndarray, mode: str | None = None, **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        picture = Image.fromarray(image)
        (picture.convert(mode) if mode else picture).save(path, **options)

    return write


def two_frames(kind: str) -> Callable[[Path], None]:
    frames = [Image.fromarray(np.full((SIZE, SIZE, 3), grey, np.uint8)) for grey in (40, 200)]
    return lambda path: frames[0].save(path, kind, save_all=True, append_images=frames[1:], lossless=True)


def clear(value: int, alpha: int) -> np.ndarray:
    return np.dstack([np.full((SIZE, SIZE, 3), value, np.uint8), np.full((SIZE, SIZE), alpha, np.uint8)])


GREY = np.full((SIZE, SIZE, 3), 100, np.uint8)


@pytest.mark.parametrize(
    ("name", "write", "expected", "note"),
    [
        ("a.jpg", save(GREY, quality=95), 100, ""),
        ("a.webp", save(GREY, lossless=True), 100, ""),
        ("a.png", save(GREY // 51 * 51, "P"), 51, ""),
        ("a.png", save(GREY[..., 0]), 100, ""),
        ("a.png", save(GREY[..., 0].astype(np.uint16) * 257), 100, "16 bits to 8"),
        ("a.png", save(clear(100, 255)), 100, ""),
        ("a.png", save(clear(100, 0)), 255, "transparent: laid on white"),
        ("a.png", save(clear(100, 51)), 224, "transparent: laid on white"),
        ("a.png", save(GREY[..., 0], transparency=100), 255, "transparent: laid on white"),
        ("a.jpg", save(GREY, "CMYK", quality=95), 100, ""),
        ("a.webp", two_frames("WEBP"), 40, "first of 2 frames"),
        ("a.png", two_frames("PNG"), 40, "first of 2 frames"),
        ("a.jpg", save(GREY, format="PNG"), 100, ""),  # what a file is follows from its content
        ("picture", save(GREY, format="PNG"), 100, ""),
        ("a.png", save(pixels(0, 16, 16, 3) * 0 + 7), 7, ""),
        ("a.png", lambda path: save(np.full((1000, 9, 3), 7, np.uint8))(path), 7, ""),
    ],
)
def test_pictures_of_any_kind(tmp_path: Path, name: str, write: Any, expected: int, note: str) -> None:
    write(tmp_path / name)
    photo = read_photo(tmp_path / name, SIZE)
    assert all(abs(value - expected) <= 1 for value in colour(photo)) and photo.note == note


def test_a_small_picture_is_enlarged_and_said_to_be(tmp_path: Path) -> None:
    png(tmp_path / "a.png", GREY)
    assert read_photo(tmp_path / "a.png", 64).note == "enlarged"


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.write_text("hello"), "no PNG, JPEG or WebP picture"),
        (lambda path: path.write_bytes(b""), "no PNG, JPEG or WebP picture"),
        (lambda path: save(GREY, format="GIF")(path), "no PNG, JPEG or WebP picture"),
        (lambda path: claim(path, 64, 64), "cannot be read"),
        (lambda path: claim(path, 60_000, 60_000), "far more than 50 million pixels"),
        (lambda path: claim(path, 12_000, 12_000), "at most 50 million pixels"),
        (lambda path: claim(path, 30_000, 9), "30000 × 9 pixels: expected sides of 8 to 20,000"),
        (lambda path: png(path, pixels(0, 7, 99, 3)), "99 × 7 pixels"),
        (lambda path: path.mkdir(), "cannot be read: a folder"),
        (lambda path: path.symlink_to("nowhere"), "cannot be read: a link to a file that is not there"),
        (lambda path: path.symlink_to(path), "cannot be read: a link to a file that is not there"),
        (lambda path: path.symlink_to(path.parent), "cannot be read: a link to a folder, which is not followed"),
        (lambda path: os.mkfifo(path), "cannot be read: no file, but a pipe or a device"),
        (lambda path: None, "cannot be read"),
    ],
)
def test_what_cannot_be_used_has_a_reason(tmp_path: Path, write: Any, reason: str) -> None:
    write(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png", SIZE)
    assert photo.image is None and reason in photo.reason


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    png(tmp_path / "a.png", GREY)
    monkeypatch.setattr(photos, "LARGEST_FILE", 10)
    assert "MB: expected at most" in read_photo(tmp_path / "a.png", SIZE).reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_pictures_are_never_an_error(tmp_path: Path, kind: str) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "a"
    Image.fromarray(pixels(0, 20, 20, 3)).save(path, kind)
    good = path.read_bytes()
    for _ in range(80):
        bad = bytearray(good)
        for place in rng.integers(len(bad), size=4):
            bad[place] = rng.integers(256)
        path.write_bytes(bad[: rng.integers(len(bad) // 2, len(bad) + 1)])
        photo = read_photo(path, SIZE)
        assert bool(photo.reason) == (photo.image is None)


def mahalanobis(r: np.ndarray, train: np.ndarray, index: np.ndarray, shrinkage: float) -> list[float]:
    """Distance of one sample to every class, with plain matrices."""
    means = np.stack([train[index == c].mean(0) for c in range(index.max() + 1)])
    rest = train - means[index]
    std = np.sqrt((rest**2).mean(0))
    scaled = rest / std
    covariance = scaled.T @ scaled / len(scaled)
    mean = np.trace(covariance) / len(covariance)
    inverse = np.linalg.inv((1 - shrinkage) * covariance + shrinkage * mean * np.eye(len(covariance)))
    return [float(np.sqrt((r - m) / std @ inverse @ ((r - m) / std))) for m in means]


def test_the_distance_is_that_of_plain_matrices() -> None:
    from sklearn.covariance import ledoit_wolf_shrinkage

    index = torch.arange(60) % 3
    train = random(60, 5) @ random(5, 5, seed=1) + 4 * random(3, 5, seed=2)[index]
    own = random(4, 5, seed=3) * 5
    found = Mahalanobis.of(train, index).distances(own)
    plain, labels = train.double().numpy(), index.numpy()
    rest = plain - np.stack([plain[labels == c].mean(0) for c in range(3)])[labels]
    shrinkage = float(ledoit_wolf_shrinkage(rest / np.sqrt((rest**2).mean(0)), assume_centered=True))
    expected = [mahalanobis(r, plain, labels, shrinkage) for r in own.double().numpy()]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_units_that_do_not_vary_are_left_out_and_few_samples_are_enough() -> None:
    index, train = torch.arange(12) % 2, random(12, 40)
    still = torch.cat([train, torch.full((12, 1), 3.0), 7.0 * index[:, None]], 1)
    own = torch.cat([random(3, 40, seed=1), random(3, 2, seed=2)], 1)
    torch.testing.assert_close(
        Mahalanobis.of(still, index).distances(own), Mahalanobis.of(train, index).distances(own[:, :40])
    )
    assert Mahalanobis.of(train, index).distances(own[:, :40]).isfinite().all()
    with pytest.raises(ValueError, match="no unit varies within a class"):
        Mahalanobis.of(still[:, 40:], index)


def test_share_below_is_a_count() -> None:
    values, reference = random(20), random(31, seed=1)
    expected = [float((reference <= value).float().mean()) for value in values]
    np.testing.assert_allclose(share_below(values, reference), expected, rtol=1e-6)


def test_the_generators_own_images_are_familiar_and_noise_is_not(tmp_path: Path) -> None:
    """Of new samples as many lie below any share as it says, give or take."""
    ctx = make_context(tmp_path, pairs__train=200, pairs__test=100)
    train, test = (pairs(ctx, split).tensors("pairs") for split in ("train", "test"))
    fitted = Mahalanobis.of(train["r"], train["class_index"])
    reference = fitted.distances(test["r"]).amin(1)
    new = ctx.generator.synthesize(ctx.generator.sample(1, torch.arange(300), Stream("views")))
    share = share_below(fitted.distances(ctx.classifier.features(new)).amin(1), reference)
    assert abs(float((share < 0.5).float().mean()) - 0.5) < 0.12
    noise = ctx.classifier.features(random(20, 3, 8, 8).clamp(-1, 1))
    assert (share_below(fitted.distances(noise).amin(1), reference) > 0.99).all()


def test_own_images_go_the_whole_way_round(run: tuple[Context, Artifact], folder: Path) -> None:
    ctx, artifact = run
    table: Any = artifact.table("images").set_index("file")
    found = artifact.tensors("images")
    names = ["ant.png", "cat.png", "noise.png"]
    assert table.index.tolist() == ["ant.png", "broken.png", "cat.png", "noise.png", "notes.txt"]
    model = load_link(link(ctx))
    for k, name in enumerate(names):
        picture = torch.tensor(np.asarray(Image.open(folder / name))).permute(2, 0, 1)
        assert (found["image"][k] == picture).all()
        r = ctx.classifier.features(picture[None] / 127.5 - 1)
        torch.testing.assert_close(found["r"][k], r[0], rtol=1e-4, atol=1e-5)
        w = model(r)
        torch.testing.assert_close(found["w"][k], w[0], rtol=1e-3, atol=1e-4)
        cycled = ctx.generator.synthesize(w)
        assert (found["cycled"][k] - (127.5 * (cycled[0] + 1))).abs().max() <= 0.51
        before = ctx.classifier.head(r).softmax(1)[0]
        after = ctx.classifier.head(ctx.classifier.features(cycled)).softmax(1)[0]
        row = table.loc[name]
        np.testing.assert_allclose([row[f"probability_{c}"] for c in NAMES], before, atol=1e-4)
        np.testing.assert_allclose([row[f"cycled_{c}"] for c in NAMES], after, atol=1e-4)
        assert row["prediction"] == NAMES[int(before.argmax())] and row["probability"] == pytest.approx(
            float(before.max()), abs=1e-4
        )
        assert row["cycled_prediction"] == NAMES[int(after.argmax())]


def test_distances_are_held_against_the_test_pairs(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    table: Any = artifact.table("images").set_index("file")
    train, test = (pairs(ctx, split).tensors("pairs") for split in ("train", "test"))
    fitted, mean, model = Mahalanobis.of(train["r"], train["class_index"]), train["w"].mean(0), load_link(link(ctx))
    reference = {"r": fitted.distances(test["r"]).amin(1), "w": (model(test["r"]) - mean).norm(dim=1)}
    r = artifact.tensors("images")["r"][2:]
    own = {"r": float(fitted.distances(r).amin()), "w": float((model(r) - mean).norm())}
    for space in "rw":
        torch.testing.assert_close(
            artifact.tensors("reference")[f"distance_{space}"], reference[space], rtol=1e-3, atol=1e-4
        )
        assert table.loc["noise.png", f"distance_{space}"] == pytest.approx(own[space], rel=1e-3)
        share = float((reference[space] <= own[space]).float().mean())
        assert table.loc["noise.png", f"share_{space}"] == pytest.approx(share, abs=0.02)
    assert table.loc["noise.png", "off"] and not table.loc["notes.txt", "off"]
    assert table.loc["cat.png", "nearest"] == "cat" and table.loc["ant.png", "nearest"] == "ant"
    assert artifact.json("facts")["test"] == 60


def test_files_that_are_no_pictures_have_a_row(run: tuple[Context, Artifact]) -> None:
    table: Any = run[1].table("images").set_index("file")
    assert table.loc["notes.txt", "reason"] == "no PNG, JPEG or WebP picture"
    assert table.loc["broken.png", "reason"] and np.isnan(table.loc["broken.png", "distance_r"])
    assert (table.loc[["ant.png", "noise.png"], "reason"] == "").all()


def test_every_file_has_a_row_whatever_its_name(tmp_path: Path) -> None:
    """Names that are not UTF-8, that cannot be seen or look escaped; links to nothing; folders inside."""
    root = tmp_path / "own"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / ".hidden").mkdir()
    names = [b"caf\xe9.png", rb"caf\xe9.png", b"two\nlines.png", b"$a$.png", b"sub/a.png", b"sub/deep/a.png"]
    for name in (*names, b".hidden/a.png"):
        png(root / os.fsdecode(name), GREY)
    (root / "gone.png").symlink_to(root / "nowhere.png")
    (root / "sub" / "up").symlink_to(root)
    ctx = make_context(tmp_path, images=str(root))
    artifact = user_images(ctx)
    table: Any = artifact.table("images").set_index("file")
    shown = [r"caf\xe9.png", r"caf\\xe9.png", r"two\nlines.png", "$a$.png", "sub/a.png", "sub/deep/a.png"]
    assert sorted(table.index) == sorted([*shown, "gone.png", "sub/up"]) and (table.loc[shown, "reason"] == "").all()
    assert table.loc["gone.png", "reason"] == "cannot be read: a link to a file that is not there"
    assert table.loc["sub/up", "reason"] == "cannot be read: a link to a folder, which is not followed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lis.report.section.MAKERS", {"run": {130: sections.images}})
        page = write_report(ctx, {"images": artifact}, tmp_path).read_text()
    assert all(name in page for name in shown) and user_images(ctx).key == artifact.key


def test_a_file_that_may_not_be_opened_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    png(tmp_path / "a.png", GREY)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr("lis.units.images.sha256", refuse)
    monkeypatch.setattr("PIL.Image.open", refuse)
    assert _content(tmp_path / "a.png") == "Permission denied"
    assert read_photo(tmp_path / "a.png", SIZE).reason == "cannot be read: Permission denied"


def test_another_content_is_another_artifact(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    png(tmp_path / "own" / "a.png", pixels(0, SIZE, SIZE, 3))
    ctx = make_context(tmp_path, images=str(tmp_path / "own"))
    first = user_images(ctx)
    assert user_images(ctx).key == first.key
    png(tmp_path / "own" / "a.png", pixels(1, SIZE, SIZE, 3))
    assert user_images(ctx).key != first.key
    assert str(tmp_path) not in (first.path / "facts.json").read_text() + str(first.table("images").to_dict())


@pytest.mark.parametrize("conditional", [True, False])
def test_measures_are_those_of_the_cycled_image(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, conditional: bool
) -> None:
    def masks(maps: dict[str, Tensor]) -> Tensor:
        return (maps["only"].mean(1) > 0).long()

    stand_in(monkeypatch, "segmenter", lambda _: SimpleNamespace(key="parts"))
    monkeypatch.setattr("lis.units.parts.segmenter", lambda _: SimpleNamespace(key="parts"))
    monkeypatch.setattr(
        "lis.units.parts.load_segmenter", lambda *_: SimpleNamespace(labels=("bright",), layers=("only",))
    )
    monkeypatch.setattr("lis.segmentation.segmenter.segment", lambda _, maps: masks(maps))
    generator = FakeGenerator(conditional=conditional)
    ctx = make_context(tmp_path, generator, images=str(folder), classes__labels=["bright"])
    artifact = user_images(ctx)
    found, table = artifact.tensors("images"), artifact.table("measures")
    image, maps = generator.synthesize(found["w"], features=True)
    assert (found["mask"] == masks(maps)).all() and len(table) == 15
    np.testing.assert_allclose(table["measured"], measure(masks(maps), image, 1).flatten(), rtol=1e-4)
    section = sections.images(source(ctx, {"images": artifact}))
    assert section is not None and [row[0] for row in section.tables[1].rows] == ["ant.png", "cat.png", "noise.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such folder"),
        (lambda path: path.write_text(""), "there is no such folder"),
        (lambda path: (path / "inside").mkdir(parents=True), "has 0 files, those in folders inside included: expected"),
        (
            lambda path: [path.mkdir(), (path / os.fsdecode(b"caf\xe9.txt")).write_text("a")],
            r"no picture that can be used:\ncaf\\xe9\.txt: no PNG",
        ),
        (
            lambda path: [path.mkdir(), (path / "a.txt").write_text("a")],
            r"no picture that can be used:\na\.txt: no PNG",
        ),
    ],
)
def test_a_folder_without_pictures_is_found_before_any_work(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "own")
    ctx = make_context(tmp_path, images=str(tmp_path / "own"))
    for function in (lambda: validate_images(ctx.config), lambda: user_images(ctx)):
        with pytest.raises(ValueError, match=message):
            function()
    assert not (tmp_path / "store" / "pairs-train").exists()


def test_no_folder_and_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"which pictures\? .*images=<folder>"):
        validate_images(make_context(tmp_path).config)
    monkeypatch.setattr(photos, "MOST", 2)
    for k in range(3):
        png(tmp_path / f"{k}.png", GREY)
    with pytest.raises(ValueError, match="has 3 files, those in folders inside included: expected 1 to 2 PNG"):
        photo_files(tmp_path)


def texts(figure: Figure) -> list[str]:
    return [artist.get_text() for artist in figure.findobj(Text) if isinstance(artist, Text)]


def test_the_section_states_what_the_tables_hold(run: tuple[Context, Artifact], tmp_path: Path) -> None:
    ctx, artifact = run
    section = sections.images(source(ctx, {"images": artifact}))
    assert section is not None
    table: Any = artifact.table("images")
    assert f"{int(table['off'].sum())} of 3 pictures lie off" in section.lead and "60 test pairs" in section.lead
    rows = {row[0]: row for row in section.tables[0].rows}
    assert rows["notes.txt"][-1] == "no PNG, JPEG or WebP picture" and rows["noise.png"][-1] == "off"
    assert len(section.tables) == 1  # no parts
    written = texts(section.figures[0].figure)
    assert "noise.png" in written and "in R: farther than 100 %" in written and "its parts" not in written
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lis.report.section.MAKERS", {"run": {130: sections.images}})
        page = write_report(ctx, {"images": artifact}, tmp_path).read_text()
    assert 'id="own-images"' in page and (tmp_path / "figures" / "images.png").exists()
    assert sections.images(source(ctx, {})) is None


def test_an_answer_outside_of_the_run_is_named(tmp_path: Path, folder: Path) -> None:
    """The classifier knows a class that the run leaves out."""
    generator = FakeGenerator()
    ctx = make_context(tmp_path, generator, FakeClassifier(generator), class_names=("ant", "bee"), images=str(folder))
    artifact = user_images(ctx)
    table: Any = artifact.table("images").set_index("file")
    assert table.loc["cat.png", "prediction"] == "cat" and "probability_cat" not in table
    section = sections.images(source(ctx, {"images": artifact}))
    assert section is not None and "cat" in texts(section.figures[0].figure)
