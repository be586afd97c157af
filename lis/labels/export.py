"""Writes images to be labelled, and what is needed to know them again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lis.config import RunConfig
from lis.costs import batches
from lis.imagenet import snake_case
from lis.images import to_uint8
from lis.labels.labelled import exact_masks
from lis.labels.manifest import CODES, MANIFEST, SPLITS, Manifest, Sample, check_labels, save
from lis.labels.png import label_palette, write_mask
from lis.labels.reading import MASK
from lis.names import nearest
from lis.stopping import stop
from lis.store import check_writable
from lis.streams import Stream
from lis.types import Generator

README = "README.txt"
_TEXT = """\
{count} images to label: find these parts in each of them.

{labels}

A pixel that belongs to none of them is background, 0. Where one part lies on another (an eye on a head), the
pixel belongs to the upper one. A part that cannot be seen is left out. Do not resize, crop or rename the images.

For each image give one of these, saved in this folder:
- <image>.mask.png, an index image of {size} × {size} pixels: with a palette or in greyscale, without transparency, the
  value of a pixel is the number of its part (where a palette holds the colours of check/ in other places, the colours
  decide);
- <image>.json, from labelme: polygons, rectangles, circles or masks with the names above (a part called "background"
  cuts a hole);
- or, for all images together, annotations.json: a COCO file with polygons or run lengths (RLE), in pixels, and the
  names above as categories.
<image> is the image's name without .png. Outlines are drawn larger ones first, whatever their order. Lines, points and
what is called __ignore__ are left out.

Then look at what was understood:
    python -m lis.labels check {folder}
and use it in a run with the same generator and classes:
    python -m lis.run labels.folder={folder} …
"""


def export(folder: Path, config: RunConfig, generator: Generator, masks: bool = False) -> Manifest:
    """Write `labels.train` and `labels.test` images of each class of the run, their w, and how to label them.

    Of an export that fails or that a signal stops, which is heeded between two batches, nothing is left.

    Args:
        folder: new or empty.
        config: the run.
        generator: of the run.
        masks: write the masks too, where the generator knows its parts: as a person would have drawn them.

    Raises:
        ValueError: the folder holds something, no or impossible labels, a class that the generator does not know, or
            masks of a generator that does not know its parts.
    """
    labels = tuple(config.classes.labels)
    check_labels(labels, "classes.labels")
    _check_classes(config.classes.names, generator)
    _check_free(folder)
    samples = _samples(config, generator)
    w = torch.cat([_code(sample, config, generator) for sample in samples])
    stop.check()
    drawn = _masks(w, labels, config, generator) if masks else []
    check_writable(folder, "the export")
    with _whole(folder, samples):
        for sample, picture in zip(samples, _images(w, config, generator), strict=True):
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / sample.file)
        for sample, mask in zip(samples, drawn, strict=masks):
            write_mask(folder / f"{sample.stem}{MASK}", mask, label_palette(labels))
        stop.check()
        save(folder, generator.fingerprint, generator.resolution, labels, samples, w)
        (folder / README).write_text(_how_to(folder, labels, len(samples), generator.resolution), encoding="utf-8")
    return Manifest.load(folder)


@contextmanager
def _whole(folder: Path, samples: list[Sample]) -> Iterator[None]:
    """Remove the files of an export that does not come to its end: the same command would refuse a folder with some."""
    try:
        yield
    except BaseException:
        images = [name for sample in samples for name in (sample.file, f"{sample.stem}{MASK}")]
        for name in (*images, CODES, MANIFEST, README):
            (folder / name).unlink(missing_ok=True)
        raise


def _how_to(folder: Path, labels: tuple[str, ...], count: int, size: int) -> str:
    listed = "\n".join(f"{value:4d} = {name}" for value, name in enumerate(labels, 1))
    return _TEXT.format(count=count, labels=listed, size=size, folder=folder)


def _check_classes(names: list[str], generator: Generator) -> None:
    if unknown := [name for name in names if generator.num_classes and name not in generator.class_names]:
        raise ValueError(
            f"classes.names: the generator does not know {unknown[0]!r}{nearest(unknown[0], generator.class_names)}"
        )


def _check_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: expected a new folder; nothing is overwritten")


def _samples(config: RunConfig, generator: Generator) -> list[Sample]:
    """The images of both splits, ordered by split, class and index; without classes as many as with them."""
    counts = {"train": config.labels.train, "test": config.labels.test}
    names = list(config.classes.names)
    groups = list(zip(names, _file_names(names), strict=True)) if generator.num_classes else [(None, "image")]
    times = 1 if generator.num_classes else len(names)
    return [
        Sample(f"{split}_{word}_{index:02d}.png", stream, name, index)
        for split, stream in SPLITS.items()
        for name, word in groups
        for index in range(times * counts[split])
    ]


def _file_names(names: list[str]) -> list[str]:
    words = [snake_case(name) for name in names]
    unique = "" not in words and len(set(words)) == len(words)
    return words if unique else [f"class_{index}" for index in range(len(names))]


def _code(sample: Sample, config: RunConfig, generator: Generator) -> torch.Tensor:
    """w `[1, w_dim]`."""
    index = None if sample.class_name is None else generator.class_names.index(sample.class_name)
    stream = Stream(sample.stream, config.seed)
    return generator.sample(index, torch.tensor([sample.sample_index]), stream, config.gan.truncation)


@torch.inference_mode()
def _masks(w: torch.Tensor, labels: tuple[str, ...], config: RunConfig, generator: Generator) -> list[np.ndarray]:
    """The exact masks, `[H, W]` uint8 each."""
    device = generator.mean_w.device

    def true(w: torch.Tensor) -> torch.Tensor:
        return exact_masks(generator, w.to(device), labels, generator.resolution).cpu()

    return [mask for part in batches(generator, device, config.batch_size).map(true, w) for mask in part.numpy()]


@torch.inference_mode()
def _images(w: torch.Tensor, config: RunConfig, generator: Generator) -> Iterator[torch.Tensor]:
    device = generator.mean_w.device

    def pictured(w: torch.Tensor) -> torch.Tensor:
        stop.check()
        return to_uint8(generator.synthesize(w.to(device)))

    for images in batches(generator, device, config.batch_size).map(pictured, w):
        yield from images
