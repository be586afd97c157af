"""The atlas: every unit with the images in which it is most active, on pages by themselves beside the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from lis.dissection.ablation import LEADING
from lis.report.all_units import strongest_by_unit
from lis.report.claims import callable_units, without_claims
from lis.report.layouts import darkened_outside
from lis.report.source import Source
from lis.report.style import jpeg
from lis.report.tables import records, where
from lis.report.wording import changed, listing, number, probability, words
from lis.statistics import SIGNIFICANT

PAGE = "atlas.html"
"""File name of the dissected units, beside the report."""
TUNED = "atlas-tuned.html"
"""That of the tuned units of the penultimate layer."""
GENERATOR = "atlas-generator.html"
"""That of the units of the generator."""
SPRITE = 32
"""Units in one file of images."""
_ABOUT = (
    "{units} by their highest IoU with a concept, each beside the {images} images in which it is most active; outside "
    "its mask (activation above its {quantile} quantile) they are darkened. Control: mean IoU when masks are permuted "
    "among images of the same class. Stands out: another concept whose IoU exceeds its control by more standard "
    "deviations. q: of either, against the best one in each permutation, Benjamini–Hochberg over the units of a layer. "
    "The page shows neither that the classifier uses a concept, nor what a unit ignores."
)
_ABOUT_GENERATOR = (
    "{units} by their highest IoU with a part, as a segmenter of pixels sees it, each beside the {images} images in "
    "which it is most active; outside its mask (activation above its {quantile} quantile) they are darkened. Control: "
    "mean IoU when the parts of images are permuted within classes. q: the best part against the best one in each "
    "permutation, Benjamini–Hochberg over the units. The page does not show that a unit draws what it agrees with: "
    "removal does."
)
_MATTERS = " Matters to: classes to which the unit is one of the {} most important, by ablation."
_ABOUT_TUNED = (
    "{units} of the penultimate layer, each moved through its range in W, beside the {images} images in which it is "
    "most active, which are whole: a unit of this layer has no map. Own: its change when its images are encoded again, "
    "in its standard deviations (sd), and by random directions, the control; others: root mean square change of the "
    "other units. Then the change of a part with the smallest q. What excites a unit need not be what it changes."
)


@dataclass(frozen=True)
class Entry:
    """A unit on a page."""

    unit: int
    layer: str
    title: str
    numbers: str
    note: str
    """Empty: none."""
    kind: str
    """Of its concept, which can be searched for."""
    significant: bool


@dataclass(frozen=True)
class Atlas:
    """A page of units."""

    file: str
    title: str
    about: str
    criterion: str
    """What the significant units meet."""
    entries: Sequence[Entry]
    images: Callable[[int], np.ndarray]
    """Of the entry of an index, `[k, s, s, 3]` uint8."""

    def write(self, out: Path, pages: Sequence[Atlas]) -> list[Path]:
        """Write the page into a folder, and its images, `SPRITE` units a file, into one inside.

        Args:
            out: the folder.
            pages: all pages, which are linked.

        Returns:
            The files.
        """
        folder = out / Path(self.file).stem
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for k in range(0, len(self.entries), SPRITE):
            rows = [self.images(row) for row in range(k, min(k + SPRITE, len(self.entries)))]
            files.append(folder / f"{k // SPRITE}.jpg")
            files[-1].write_bytes(jpeg(Image.fromarray(sprite(rows))))
        (out / self.file).write_text(self._html(pages), encoding="utf-8")
        return [out / self.file, *files]

    def _html(self, pages: Sequence[Atlas]) -> str:
        environment = Environment(
            loader=PackageLoader("lis.report", "templates"), autoescape=True, undefined=StrictUndefined
        )
        values = {name: getattr(self, name) for name in ("title", "about", "criterion")}
        values |= {"others": [page for page in pages if page is not self], "folder": Path(self.file).stem}
        values |= {"entries": [asdict(entry) for entry in self.entries], "sprite": SPRITE}
        values |= {"layers": list(dict.fromkeys(entry.layer for entry in self.entries))}
        return environment.get_template("atlas.html.j2").render(**values, columns=len(self.images(0)))


def ranked(units: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table "units" by descending IoU; those without one last."""
    return units.sort_values("iou", ascending=False, kind="stable", na_position="last")


def marked_images(top: dict[str, np.ndarray], row: int) -> np.ndarray:
    """Images `[5, s, s, 3]` uint8 of a unit, darkened outside its mask, which has a border.

    Args:
        top: image `[n, s, s, 3]` uint8, index `[rows, 5]`, mask `[rows, 5, s, s]` bool.
        row: of the table "units".
    """
    return darkened_outside(top["image"][top["index"][row]], top["mask"][row])


def sprite(images: Sequence[np.ndarray]) -> np.ndarray:
    """`[units · s, k · s, 3]` uint8: a row of images `[k, s, s, 3]` per unit."""
    return np.concatenate([np.concatenate([*row], 1) for row in images])


def write_atlas(source: Source, out: Path) -> list[Path]:
    """Write `atlas.html` where units were dissected, `atlas-tuned.html` where they were tuned too,
    `atlas-generator.html` where those of the generator were dissected, and their images.

    Args:
        source: the run.
        out: folder of the report.

    Returns:
        The files.
    """
    pages = list[Atlas]()
    if source.has("dissect", "units", "top", "facts"):
        pages.append(dissected(source))
        if source.has("unit_statistics", "faithfulness", "ranking"):
            pages.append(tuned(source))
    if source.has("dissect_gan", "units", "top", "facts"):
        pages.append(of_generator(source))
    return [file for page in pages for file in page.write(out, pages)]


def dissected(source: Source) -> Atlas:
    """The page of the dissected units."""
    facts, top = source.json("dissect", "facts"), source.arrays("dissect", "top")
    units, matters = ranked(source.table("dissect", "units")), classes_by_unit(source)
    entries = [_entry(row, matters.get((row["layer"], row["unit"]), [])) for row in records(units)]
    numbers = {"units": f"{len(units):,} units", "images": top["index"].shape[1], "quantile": facts["quantile"]}
    about = _ABOUT.format(**numbers) + _MATTERS.format(LEADING) * bool(matters)
    title = f"Units of {listing(list(facts['layers']))}"
    return Atlas(PAGE, title, about, "q ≤ 0.05", entries, lambda k: marked_images(top, int(units.index[k])))


def of_generator(source: Source) -> Atlas:
    """The page of the units of the generator."""
    facts, top = source.json("dissect_gan", "facts"), source.arrays("dissect_gan", "top")
    units = ranked(source.table("dissect_gan", "units"))
    units = units.assign(concept=units["part"], kind="part")
    entries = [_entry(row, []) for row in records(units.assign(above_chance=units["q"] <= SIGNIFICANT))]
    numbers = {"units": f"{len(units):,} units of the generator", "images": top["index"].shape[1]}
    about = _ABOUT_GENERATOR.format(**numbers, quantile=facts["quantile"])
    title = f"Units of {facts['layer']} of the generator"
    return Atlas(GENERATOR, title, about, "q ≤ 0.05", entries, lambda k: marked_images(top, int(units.index[k])))


def classes_by_unit(source: Source) -> dict[tuple[str, int], list[str]]:
    """Layer and unit to the classes to which it is one of the most important; empty where nothing was ablated."""
    if not source.has("importance", "importance"):
        return {}
    table = source.table("importance", "importance")
    result: dict[tuple[str, int], list[str]] = {}
    for row in records(pd.DataFrame(table[(table["rank"] <= LEADING) & (table["importance"] > 0)])):
        result.setdefault((row["layer"], row["unit"]), []).append(words(row["class"]))
    return result


def _entry(row: dict[str, Any], classes: Sequence[str]) -> Entry:
    concept = words(row["concept"]) or ("dead" if row["dead"] else "no concept")
    scores = f"IoU {number(row['iou'], 2)} (control {number(row['control'], 2)}), q {probability(row['q'])}"
    numbers = scores if row["concept"] else ""
    notes = [f"matters to {listing(list(classes))}"] if classes else []
    if row.get("specific") and row["specific"] != row["concept"] and row["above_chance"]:
        found = f"IoU {number(row['specific_iou'], 2)} (control {number(row['specific_control'], 2)})"
        notes.insert(0, f"{words(row['specific'])} stands out: {found}, q {probability(row['specific_q'])}")
    if row.get("correlated") and row["correlated"] not in (row["concept"], row["specific"]):
        notes.append(f"highest r with {words(row['correlated'])}")
    return Entry(row["unit"], row["layer"], concept, numbers, "; ".join(notes), row["kind"], bool(row["above_chance"]))


def tuned(source: Source) -> Atlas:
    """The page of the tuned units of the penultimate layer, those that are reached first."""
    called = callable_units(source)
    table = without_claims(source, source.table("unit_statistics", "faithfulness"))
    changes = strongest_by_unit(
        without_claims(source, where(source.table("unit_statistics", "ranking"), interpreted=True))
    )
    rows = records(table.sort_values(["q_reached", "own"], ascending=[True, False], kind="stable"))
    top = source.arrays("dissect", "top")
    entries = [_tuned_entry(row, changes.get(row["unit"]), called) for row in rows]
    about = _ABOUT_TUNED.format(units=f"{len(rows):,} tuned units", images=top["penultimate"].shape[1])

    def images(k: int) -> np.ndarray:
        return top["image"][top["penultimate"][rows[k]["unit"]]]

    return Atlas(TUNED, "Tuned units", about, "reached, q ≤ 0.05", entries, images)


def _tuned_entry(row: dict[str, Any], change: dict[str, Any] | None, called: bool) -> Entry:
    change_of_r = (
        f"own {number(row['own'], 2)} sd (control {number(row['own_control'], 2)}), others {number(row['others'], 2)}"
    )
    numbers = f"{change_of_r}, q {probability(row['q_reached'])}" if called else change_of_r
    note = ""
    if change is not None and "label" in change:
        note = f"{words(change['label'])}, {change['measure']} {changed(change['measure'], change['change'])}"
        note += f", q {probability(change['q'])}" * called
    title = ("reached" if row["reached"] else "not reached") if called else "tuned"
    return Entry(row["unit"], "", title, numbers, note, "", called and bool(row["reached"]))
