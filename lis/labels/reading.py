"""The masks that a person has drawn, held against what was exported."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lis.labels.coco import Coco, read_coco
from lis.labels.files import MaskReading
from lis.labels.labelme import read_labelme
from lis.labels.manifest import MANIFEST, SPLITS, Manifest, Sample
from lis.labels.png import disagreements, read_mask, read_picture
from lis.names import nearest, printable

log = logging.getLogger(__name__)

MASK = ".mask.png"
"""Ending of the index image with the mask of an exported image."""
COCO_FILE, COCO_ENDING = "annotations.json", ".coco.json"
_MOST = 20
"""Problems that one message lists."""


@dataclass(frozen=True)
class Labelled:
    """Images and their masks, ordered by class and sample."""

    w: Tensor
    """`[n, w_dim]` float32."""
    image: Tensor
    """`[n, 3, H, W]` uint8."""
    masks: Tensor
    """`[n, h, w]` uint8: 0 background, k for the k-th label; at the image's size, or at a segmenter's."""
    class_index: Tensor
    """`[n]` int64 into the run's class names; 0 from a generator without classes."""
    sample_index: Tensor
    """`[n]` int64 into the stream."""

    def __len__(self) -> int:
        return len(self.w)

    def rows(self, chosen: Tensor) -> Labelled:
        """The images that a mask `[n]` bool chooses."""
        return Labelled(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Drawn(MaskReading):
    """An image and what was drawn on it."""

    image: np.ndarray
    """`[size, size, 3]` uint8."""
    source: str
    """Name of the file with the mask."""


@dataclass(frozen=True)
class Finding:
    """What the folder holds for one exported image: a mask, a problem, or nothing."""

    sample: Sample
    drawn: Drawn | None = None
    problem: str | None = None


def read(folder: Path, labels: Sequence[str], class_names: Sequence[str], split: str, generator: str) -> Labelled:
    """The labelled images of a split, ordered by class and sample.

    Masks are index images (`<image>.mask.png`), files of labelme (`<image>.json`), or one COCO file for all
    (`annotations.json` or `*.coco.json`). Outlines are drawn larger ones first (`lis.labels.polygons.draw`).

    Args:
        folder: what `python -m lis.labels export` wrote.
        labels: names of the parts; those of the folder that are not among them become background.
        class_names: the classes of the run; images of others are left out.
        split: `train` or `test`.
        generator: fingerprint of the run's generator.

    Raises:
        ValueError: the folder was exported for another run, a file cannot be used, or an image has no mask; lists
            all of them with the remedy.
    """
    manifest = Manifest.load(Path(folder))
    _check_run(manifest, labels, class_names, generator)
    coco = coco_of(manifest)
    result = [find(manifest, sample, coco) for sample in _of(manifest, class_names, split)]
    problems = [*strays(manifest), *wrong(manifest, result), *missing(manifest, result)]
    if problems:
        more = [f"… and {len(problems) - _MOST} more"] if len(problems) > _MOST else []
        raise ValueError("\n".join([*problems[:_MOST], *more]))
    notes = sum((one.drawn.notes for one in result if one.drawn), Counter[str]())
    for note, count in notes.most_common():
        log.warning("labels.folder=%s, %s: %d × %s", folder, split, count, note)
    return _labelled(manifest, result, labels, class_names)


def coco_of(manifest: Manifest) -> Coco | None:
    """The COCO file of a folder, if there is one.

    Raises:
        ValueError: there are several, or it cannot be used.
    """
    paths = [path for path in _files(manifest) if path.name == COCO_FILE or path.name.endswith(COCO_ENDING)]
    if len(paths) > 1:
        raise ValueError(f"{manifest.folder} has {' and '.join(path.name for path in paths)}: expected one COCO file")
    return read_coco(paths[0], manifest) if paths else None


def find(manifest: Manifest, sample: Sample, coco: Coco | None) -> Finding:
    """The mask of a sample; what is wrong with it becomes part of the finding."""
    names = [name for name in (f"{sample.stem}{MASK}", f"{sample.stem}.json") if (manifest.folder / name).exists()]
    if coco and sample.file in coco.annotations:
        names.append(coco.path.name)
    path = manifest.folder / sample.file
    try:
        image = read_picture(path, manifest.size)
        if len(names) > 1:
            raise ValueError(f"{path} is labelled in {' and '.join(names)}: keep one of them")
        return Finding(sample, _drawn(manifest, sample, names[0], coco, image) if names else None)
    except ValueError as error:
        return Finding(sample, problem=str(error))


def strays(manifest: Manifest) -> list[str]:
    """A line for every mask that belongs to no exported image: most likely its name is misspelt."""
    stems = {sample.stem for sample in manifest.samples}
    lines = []
    for path in _files(manifest):
        stem = path.name.removesuffix(MASK) if path.name.endswith(MASK) else path.stem
        named = path.name.endswith((MASK, ".json")) and not path.name.endswith(COCO_ENDING)
        if named and path.name not in (MANIFEST, COCO_FILE) and stem not in stems:
            where = manifest.folder / printable(path.name)
            hint = nearest(stem, stems) if len(lines) < _MOST else ""  # it takes a while
            lines.append(f"{where} belongs to no exported image: rename or remove it{hint}")
    return lines


def wrong(manifest: Manifest, result: Sequence[Finding]) -> list[str]:
    """What is wrong with the masks of images, each alone and beside the others."""
    colours = {str(manifest.folder / one.drawn.source): one.drawn.colours for one in result if one.drawn}
    return [*(one.problem for one in result if one.problem), *disagreements(colours)]


def missing(manifest: Manifest, result: Sequence[Finding]) -> list[str]:
    """One line with the images that are not labelled; none where all are."""
    names = [one.sample.file for one in result if not one.drawn and not one.problem]
    if not names:
        return []
    return [
        f"{manifest.folder}: {len(names)} of {len(result)} images are not labelled: {', '.join(names[:_MOST])}"
        f"{', …' * (len(names) > _MOST)}; label them as README.txt says"
    ]


def _drawn(manifest: Manifest, sample: Sample, source: str, coco: Coco | None, image: np.ndarray) -> Drawn:
    reading = _reading(manifest, sample, manifest.folder / source, coco)
    if not reading.mask.any():
        notes = "".join(f" ({count} × {note})" for note, count in reading.notes.items())
        raise ValueError(
            f"{manifest.folder / source} labels nothing in {sample.file}{notes}: expected at least one part; label it, "
            "or remove the file"
        )
    return Drawn(**vars(reading), image=image, source=source)


def _reading(manifest: Manifest, sample: Sample, path: Path, coco: Coco | None) -> MaskReading:
    if path.name.endswith(MASK):
        return read_mask(path, manifest.size, manifest.labels)
    if coco and path == coco.path:
        return coco.mask(sample.file)
    return read_labelme(path, manifest, sample)


def _check_run(manifest: Manifest, labels: Sequence[str], class_names: Sequence[str], generator: str) -> None:
    """Raises ValueError where the folder was exported from another generator, or for other labels or classes."""
    if manifest.generator != generator:
        raise ValueError(
            f"labels.folder={manifest.folder}: exported from another generator ({manifest.generator[:12]}) than the "
            f"run's ({generator[:12]}): run with the settings (gan, classes) of the export, or export the images again"
        )
    if unknown := [label for label in labels if label not in manifest.labels]:
        raise ValueError(
            f"labels.folder={manifest.folder} has no label {unknown[0]!r}, only {', '.join(manifest.labels)}: set "
            f"classes.labels to some of these, or export the images again{nearest(unknown[0], manifest.labels)}"
        )
    known = {sample.class_name for sample in manifest.samples}
    if unknown := [name for name in class_names if name not in known and None not in known]:
        raise ValueError(
            f"labels.folder={manifest.folder} has no images of {', '.join(unknown)}: leave the class out of "
            "classes.names, or export and label images of all classes of the run"
        )


def _of(manifest: Manifest, class_names: Sequence[str], split: str) -> list[Sample]:
    """The samples of a split and of the run's classes, in order."""
    chosen = [
        sample
        for sample in manifest.samples
        if sample.stream == SPLITS[split] and (sample.class_name is None or sample.class_name in class_names)
    ]
    if not chosen:
        raise ValueError(
            f"labels.folder={manifest.folder} has no images of the split {split}: export them (labels.{split})"
        )
    return sorted(chosen, key=lambda sample: (_class_index(sample, class_names), sample.sample_index))


def _class_index(sample: Sample, class_names: Sequence[str]) -> int:
    return 0 if sample.class_name is None else list(class_names).index(sample.class_name)


def _labelled(
    manifest: Manifest, result: Sequence[Finding], labels: Sequence[str], class_names: Sequence[str]
) -> Labelled:
    """The tensors, with the values of the run's labels instead of the folder's."""
    values = np.array([0, *(labels.index(name) + 1 if name in labels else 0 for name in manifest.labels)], np.uint8)
    samples, drawn = [one.sample for one in result], [one.drawn for one in result if one.drawn]
    row = {sample: index for index, sample in enumerate(manifest.samples)}
    return Labelled(
        w=manifest.w[[row[sample] for sample in samples]],
        image=torch.from_numpy(np.stack([one.image for one in drawn])).permute(0, 3, 1, 2).contiguous(),
        masks=torch.from_numpy(np.stack([values[one.mask] for one in drawn])),
        class_index=torch.tensor([_class_index(sample, class_names) for sample in samples]),
        sample_index=torch.tensor([sample.sample_index for sample in samples]),
    )


def _files(manifest: Manifest) -> list[Path]:
    return sorted(path for path in manifest.folder.iterdir() if not path.name.startswith("."))
