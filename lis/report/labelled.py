"""Shows what was understood of a labelled folder: a list, and the masks on their images."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lis.labels.manifest import Manifest, Sample
from lis.labels.reading import Drawn, coco_of, find, strays, wrong
from lis.report.layouts import overlay
from lis.report.style import label_colours, photo_png, raster
from lis.report.unit import overlays
from lis.stopping import stop

FOLDER = "check"
"""Where the pictures go, in the folder of the images."""
SHEET = "sheet.png"
_FILL = 0.35
"""How strongly parts are tinted."""


@dataclass(frozen=True)
class Checked:
    """What a labelled folder holds."""

    labelled: Mapping[str, Drawn]
    """Image and mask by the image's name."""
    missing: Sequence[Sample]
    """Images without a mask."""
    problems: Sequence[str]
    """What is wrong, a line each, with the file's name."""
    parts: dict[str, int]
    """On how many images each label is."""

    @property
    def notes(self) -> list[str]:
        """What was left out, or read otherwise than it stands in a file, a line each."""
        drawn = self.labelled.items()
        return [f"{name}: {count} × {note}" for name, one in drawn for note, count in one.notes.items()]


def check(folder: Path) -> Checked:
    """Read every mask of a folder, and write each on its image into `check/`, and all into `check/sheet.png`.

    Raises:
        ValueError: the folder is none that was exported.
    """
    manifest = Manifest.load(folder)
    problems = strays(manifest)
    coco = None
    try:
        coco = coco_of(manifest)
    except ValueError as error:
        problems.append(str(error))
    result = []
    for sample in manifest.samples:
        stop.check()
        result.append(find(manifest, sample, coco))
    labelled = {one.sample.file: one.drawn for one in result if one.drawn}
    _draw(manifest, labelled)
    return Checked(
        labelled,
        [one.sample for one in result if not one.drawn and not one.problem],
        [*problems, *wrong(manifest, result)],
        {
            name: sum(bool((one.mask == k).any()) for one in labelled.values())
            for k, name in enumerate(manifest.labels, 1)
        },
    )


def _draw(manifest: Manifest, labelled: Mapping[str, Drawn]) -> None:
    """The overlays; those of an earlier look are removed."""
    folder, colours = manifest.folder / FOLDER, label_colours(manifest.labels)
    shutil.rmtree(folder, ignore_errors=True)
    if not labelled:
        return
    folder.mkdir()
    drawn = {name: overlay(one.image, one.mask, list(colours.values()), _FILL) for name, one in labelled.items()}
    for name, image in drawn.items():
        stop.check()
        Image.fromarray(image).save(folder / name)
    (folder / SHEET).write_bytes(photo_png(raster(overlays(drawn, colours))))
