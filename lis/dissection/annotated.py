"""A user's own pictures with masks in folders: index PNG, labelme or COCO, as `lis.labels` reads them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lis.config import RunConfig
from lis.dissection.user_pictures import UserPicture, is_hidden, picture_names, refuse
from lis.labels.coco import Coco
from lis.labels.files import Colour, MaskReading, Size
from lis.labels.labelled import reduced_masks
from lis.labels.labelme import read_labelme
from lis.labels.manifest import MANIFEST, Manifest, Sample, check_labels
from lis.labels.png import disagreements, read_mask
from lis.labels.reading import COCO_ENDING, COCO_FILE, MASK, coco_of
from lis.names import nearest
from lis.store import sha256
from lis.units.photos import TURNED

log = logging.getLogger(__name__)

_BESIDE = (MASK, ".json")
"""Endings of masks that can lie beside their pictures."""
_CUT = "picture that is not square, cut with its mask to the centred square"


@dataclass(frozen=True)
class Annotated:
    """A picture, and the file with its mask."""

    picture: UserPicture
    masks: Manifest
    """The folder of masks, their labels, and the names of all pictures."""
    source: Path
    """Of the mask."""
    coco: Coco | None
    """All masks, where the source is a COCO file."""

    def read(self, size: int) -> tuple[Tensor, Tensor]:
        """The picture `[3, size, size]` and its mask `[size, size]`, both uint8.

        Both are cut to the centred square; a cell of the mask has the value with the largest share of it.

        Raises:
            ValueError: as `load`.
        """
        image, reading = self.load(size)
        return image, reduced_masks(torch.from_numpy(reading.mask)[None], len(self.masks.labels), size)[0]

    def load(self, size: int) -> tuple[Tensor, MaskReading]:
        """The picture `[3, size, size]` uint8, and what its mask's file says, `[side, side]` in the picture's pixels.

        Of a picture that is not square both are the centred square, as a classifier that resizes the shorter side and
        cuts the centre would see it; a note says so. Another says what else was done to the picture, as that its EXIF
        data turned it: no mask is turned, so that it has to be drawn on the picture as it is seen.

        Raises:
            ValueError: one of them cannot be read, or the mask has another size than the picture as it is seen.
        """
        image, (height, width), note = self.picture.read(size)
        reading = self._mask_as_seen((height, width), note)
        notes = reading.notes + Counter([_CUT] * (width != height) + _remarks(note))
        return image, replace(reading, mask=centred_square(reading.mask), notes=notes)

    def _mask_as_seen(self, size: Size, note: str) -> MaskReading:
        try:
            return self._mask(size)
        except ValueError as error:
            if TURNED not in note or not self._fits((size[1], size[0])):
                raise
            raise ValueError(
                f"{error}; the picture is {note}, and the mask has the size that it is stored with: turn the mask as "
                "the picture is turned, or save the picture upright"
            ) from error

    def _fits(self, size: Size) -> bool:
        try:
            self._mask(size)
        except ValueError:
            return False
        return True

    def _mask(self, size: Size) -> MaskReading:
        file = self.picture.path.name
        sample = Sample(file, "", None, 0)
        manifest = replace(self.masks, size=size, samples=(sample,))
        if self.coco is not None:
            return replace(self.coco, manifest=manifest).mask(file)
        if self.source.suffix == ".json":
            return read_labelme(self.source, manifest, sample)
        return read_mask(self.source, size, self.masks.labels)


def _remarks(note: str) -> list[str]:
    """What the log says of a picture to which something was done."""
    upright = " (its mask is not turned: it has to be drawn on the picture as it is seen)"
    return [f"picture: {note}{upright if TURNED in note else ''}"] if note else []


def centred_square(mask: np.ndarray) -> np.ndarray:
    """The centre `[side, side]` of `mask [h, w]`, as `read_photo` cuts a picture.

    Example:
        >>> centred_square(np.array([[1, 2, 3, 4, 5]] * 2)).tolist()
        [[2, 3], [2, 3]]
    """
    side = min(mask.shape)
    top, left = ((length - side) // 2 for length in mask.shape)
    return mask[top : top + side, left : left + side]


def annotated_pictures(config: RunConfig) -> tuple[Annotated, ...]:
    """The pictures of `images` that `labels.folder` has masks of, by name; listed once, until `validate_pictures`.

    The mask of `<name>.jpg` is `<name>.mask.png`, `<name>.png` (in another folder than the pictures) or `<name>.json`
    in the same folder inside the folder of masks, or in its COCO file, where a picture without annotations is all
    background. Pictures without one are left out.

    Raises:
        ValueError: a folder or the labels are missing, there is no picture or no mask, the pictures lie inside the
            folder of masks, a mask is of no picture, or a picture has several.
    """
    return _listed(*_folders(config), tuple(config.classes.labels))


@lru_cache(maxsize=1)
def _listed(images: Path, folder: Path, labels: tuple[str, ...]) -> tuple[Annotated, ...]:
    names = picture_names(images, folder)
    samples = tuple(Sample(Path(name).name, "", None, 0) for name in names)
    masks = Manifest(folder, "", (0, 0), labels, samples, "")
    coco = coco_of(masks)
    if coco is not None and len({sample.file for sample in samples}) < len(samples):
        raise ValueError(f"{coco.path}: images={images} has pictures of one name in several folders: rename them")
    if coco is not None:
        coco = replace(coco, annotations={name: [] for name in coco.images} | coco.annotations)
    endings = _BESIDE if images.resolve() == folder.resolve() else (*_BESIDE, ".png")
    sources = {name: _source(images, folder, name, endings, coco) for name in names}
    _refuse_strays(folder, names, endings, {*sources.values()})
    known = {name: source for name, source in sources.items() if source is not None}
    if not known:
        raise ValueError(
            f"labels.folder={folder} has no mask of any of the {len(names)} pictures of images={images}: expected "
            f"{Path(names[0]).with_suffix('')}{MASK}, {Path(names[0]).with_suffix('.json')} (labelme), or {COCO_FILE}"
        )
    return tuple(
        Annotated(UserPicture(images, name), masks, source, coco if coco and source == coco.path else None)
        for name, source in known.items()
    )


def validate_pictures(config: RunConfig) -> tuple[Annotated, ...]:
    """`annotated_pictures`, listed anew, of which every picture and mask is read once, before any work.

    The log says how many pictures have no mask, and how many are cut.

    Raises:
        ValueError: as `annotated_pictures`, and what is wrong with the files, up to 20 lines.
    """
    _listed.cache_clear()
    pictures = annotated_pictures(config)
    total = len(pictures[0].masks.samples)
    if total > len(pictures):
        log.warning("%d of %d pictures of images=%s are left out: they have no mask", total - len(pictures), total,
                    pictures[0].picture.folder)  # fmt: skip
    problems, colours, notes = list[str](), dict[str, Mapping[Colour, int]](), Counter[str]()
    for picture in pictures:
        try:
            _, reading = picture.load(1)
        except ValueError as error:
            problems.append(str(error))
        else:
            colours[str(picture.source)] = reading.colours
            notes += reading.notes
    refuse([*problems, *disagreements(colours)])
    for note, count in notes.most_common():
        log.warning("masks of %d pictures: %d × %s", len(pictures), count, note)
    return pictures


def folder_contents(config: RunConfig) -> list[tuple[str, str, str, str]]:
    """What a result follows from: of every picture that is used its name, its class, the SHA-256 of its file, and that
    of its mask's file.
    """
    pictures = annotated_pictures(config)
    of_source = {source: sha256(source) for source in {one.source for one in pictures}}
    return [(*one.picture.content, of_source[one.source]) for one in pictures]


def _folders(config: RunConfig) -> tuple[Path, Path]:
    """Those of pictures and of masks."""
    for setting, value in (("images", config.images), ("labels.folder", config.labels.folder)):
        if value is None or not Path(value).is_dir():
            raise ValueError(
                f"{setting}={value}: expected a folder; give both, images=<folder of pictures> "
                "labels.folder=<folder of masks>"
            )
    check_labels(tuple(config.classes.labels), "classes.labels")
    return Path(str(config.images)), Path(str(config.labels.folder))


def _source(images: Path, folder: Path, name: str, endings: Sequence[str], coco: Coco | None) -> Path | None:
    """The file with the mask of a picture, if there is one."""
    stem = Path(name).with_suffix("")
    sources = [path for path in (folder / f"{stem}{ending}" for ending in endings) if path.is_file()]
    if coco is not None and Path(name).name in coco.annotations:
        sources.append(coco.path)
    if len(sources) > 1:
        raise ValueError(f"{images / name} has masks in {' and '.join(map(str, sources))}: keep one of them")
    return sources[0] if sources else None


def _refuse_strays(folder: Path, names: Sequence[str], endings: Sequence[str], used: Set[Path | None]) -> None:
    """Refuse masks of no picture: most likely their names are misspelt."""
    stems = [str(Path(name).with_suffix("")) for name in names]
    for path in sorted(folder.rglob("*")):
        ending = next((ending for ending in endings if path.name.lower().endswith(ending)), None)
        named = path.name in (MANIFEST, COCO_FILE) or path.name.endswith(COCO_ENDING)
        relative = path.relative_to(folder).as_posix()
        if ending is None or named or path in used or is_hidden(relative) or not path.is_file():
            continue
        hint = nearest(relative[: -len(ending)], stems)
        raise ValueError(f"{path} is the mask of no picture: rename or remove it{hint}")
