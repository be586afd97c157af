"""The pictures of a sweep: the same images after the cycle through every setting and link (Fig. S1A, S2).

A sample is named by its class and its index in the test stream. Which ones are shown follows a rule: of those that are
among the examples of every run, the first of each class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.report.gains import PAIRED, cycle_distances
from lis.report.jobs import Job
from lis.report.layouts import reconstructions_by_link, reconstructions_by_setting
from lis.report.section import Picture, Section, section
from lis.report.tables import known, mean, records, where
from lis.report.wording import link_label, listing, metric_label, number, times, words

Sample = tuple[str, int]
"""Class and index in the stream."""
Drawing = tuple[partial[Figure], str, pd.DataFrame]
"""What draws a figure, its caption, and its samples with their distances."""

_PIXELS = "pixel_l2"
_BESIDE = 10
"""Examples beside each other, where the links are the rows."""
_BELOW = 6
"""Examples below each other, where settings and links are the columns."""
_COLUMNS = 16
"""Cycled pictures in a row up to which they can be seen."""
_PICTURES = 8
"""Pictures of examples on one page, which keep it small enough to be sent."""
_ALIKE = 2.0
"""Largest mean difference of two renderings of the same w, in grey values: another batch moves some by one."""


@section(400, page="comparison")
def examples(jobs: Sequence[Job]) -> Section | None:
    """The settings beside each other on the same images, or one by one where they have none in common."""
    jobs = [job for job in jobs if job.examples is not None and len(job.examples["image"])]
    drawings, notes = [], []
    for outer in dict.fromkeys(job.outer for job in jobs):
        group = [job for job in jobs if job.outer == outer]
        drawings += _drawings(group, f"{outer}: " if outer else "")
        notes += _notes(group)
    if not drawings:
        return None
    if len(drawings) > _PICTURES:
        notes.append(f"Pictures of {len(drawings) - _PICTURES} more settings are in the runs' own pages.")
    pictures = [
        Picture(f"examples-{index + 1}", draw(), caption[0].upper() + caption[1:], "photo", data, _described(data))
        for index, (draw, caption, data) in enumerate(drawings[:_PICTURES])
    ]
    return Section("Reconstructions", "", pictures, notes=notes, finding=_ends(jobs))


def _described(data: pd.DataFrame) -> str:
    """Which classes are shown, how often, and how far each run's images are from the originals."""
    counts = Counter(name for name, _ in dict.fromkeys((row["class"], row["sample_index"]) for row in records(data)))
    told = []
    for _, rows in known(data, _PIXELS).groupby(["setting", "link"], sort=False):
        first = records(rows)[0]
        run = ", ".join(filter(None, (first["setting"], first["link"])))
        told.append(f"{run} {number(mean(rows, _PIXELS))}")
    distances = f" Mean {metric_label(_PIXELS)} after the cycle: {listing(told)}." if told else ""
    images = listing([f"{count} of {words(name)}" for name, count in counts.items()])
    return f"Test images, {images}, above or beside the same after the cycle.{distances}"


def _table(jobs: Sequence[Job], samples: Sequence[Sample]) -> pd.DataFrame:
    """A row per run and sample: setting, link, class, sample_index, pixel_l2 (not a number where it is not known)."""
    chosen = pd.DataFrame(samples, columns=PAIRED)
    tables = []
    for job in jobs:
        distances = (
            cycle_distances(job.samples) if job.samples is not None else pd.DataFrame(columns=[*PAIRED, "metric"])
        )
        pixels = where(distances, metric=_PIXELS).rename(columns={"value": _PIXELS})
        rows = chosen.merge(pixels.reindex(columns=[*PAIRED, _PIXELS]), on=PAIRED, how="left")
        rows.insert(0, "link", link_label(job.link))
        rows.insert(0, "setting", job.inner)
        tables.append(rows)
    return pd.concat(tables, ignore_index=True)


def _ends(jobs: Sequence[Job]) -> str:
    """Which runs keep the pixels best and worst."""
    key = f"{_PIXELS}/ratio_random"
    ranked = sorted((job for job in jobs if key in job.metrics), key=lambda job: job.metrics[key])
    if len(ranked) < 2:
        return ""
    ends = [f"{job.name} ({times(job.metrics[key])} that of random pairs)" for job in (ranked[0], ranked[-1])]
    return f"The pixel distance after the cycle is smallest with {ends[0]} and largest with {ends[1]}"


def in_common(jobs: Sequence[Job]) -> list[Sample]:
    """The samples that every run has among its examples, with the same image; in the order of the first run."""
    first, *others = [dict(zip(_samples(job), (job.examples or {})["image"], strict=True)) for job in jobs]
    return [x for x, image in first.items() if all(x in images and _alike(image, images[x]) for images in others)]


def first_of_each(samples: Sequence[Sample], most: int) -> list[Sample]:
    """The first samples of each class, as many of each as `most` has room for; where it has not, of fewer classes.

    Example:
        >>> first_of_each([("pug", 4), ("pug", 5), ("pug", 7), ("collie", 0), ("collie", 2)], 4)
        [('pug', 4), ('pug', 5), ('collie', 0), ('collie', 2)]
    """
    classes = list(dict.fromkeys(name for name, _ in samples))
    # Classes are spread evenly, since neighbours in a list are often alike.
    indices = np.unique(np.linspace(0, len(classes) - 1, min(most, len(classes))).round().astype(int))
    each = max(1, most // max(1, len(classes)))
    subset = [[sample for sample in samples if sample[0] == classes[index]] for index in indices]
    return [sample for group in subset for sample in group[:each]]


def _drawings(group: Sequence[Job], start: str) -> list[Drawing]:
    """The figures of one value of the outer settings."""
    settings = list(dict.fromkeys(job.inner for job in group))
    if len(settings) > 1 and (shared := in_common(group)):
        return [_beside(group, band, shared, start) for band in _bands(group, settings)]
    by_setting = [[job for job in group if job.inner == setting] for setting in settings]
    return [_alone(jobs, shared, start) for jobs in by_setting if (shared := in_common(jobs))]


def _bands(group: Sequence[Job], settings: list[str]) -> list[list[str]]:
    """The settings in as few rows of pictures as can be seen, of about equal length."""
    columns = len({(job.inner, job.link) for job in group})
    length = -(-len(settings) // -(-columns // _COLUMNS))
    return [settings[start : start + length] for start in range(0, len(settings), length)]


def _beside(group: Sequence[Job], settings: list[str], shared: list[Sample], start: str) -> Drawing:
    """Originals, then a block of links for each setting."""
    samples = first_of_each(shared, _BELOW)
    blocks = {s: {job.link: _cut(job, "cycled", samples) for job in group if job.inner == s} for s in settings}
    labels = {job.link: link_label(job.link) for job in group}
    names = [words(name) for name, _ in samples]
    draw = partial(reconstructions_by_setting, _cut(group[0], "image", samples), names, blocks, labels)
    caption = f"{start}the same images after the cycle through {listing(settings)} and each link. "
    caption += "Shown are the first of each class that every run has among its examples."
    return draw, caption, _table([job for job in group if job.inner in settings], samples)


def _alone(jobs: Sequence[Job], shared: list[Sample], start: str) -> Drawing:
    """Originals above a row for each link."""
    samples = first_of_each(shared, _BESIDE)
    cycled = {job.link: _cut(job, "cycled", samples) for job in jobs}
    labels = {link: link_label(link) for link in cycled}
    setting = f"{start}{jobs[0].inner + ': ' if jobs[0].inner else ''}"
    draw = partial(reconstructions_by_link, _cut(jobs[0], "image", samples), cycled, labels)
    return draw, f"{setting}the same images after the cycle through each link.", _table(jobs, samples)


def _notes(group: Sequence[Job]) -> list[str]:
    """Which classes the pictures lack because runs took different samples of them."""
    indices, shared = [set(_samples(job)) for job in group], in_common(group)
    if set.intersection(*indices) and not shared:
        return []  # Other generators or seeds: their images differ by design.
    by_all = set.intersection(*({name for name, _ in subset} for subset in indices)) - {name for name, _ in shared}
    missing = [words(name) for name in group[0].class_names if name in by_all]
    if not missing:
        return []
    where = f"{group[0].outer}: no" if group[0].outer else "No"
    apart = "" if shared else ", so that each setting has its own pictures"
    remedy = f"raise evaluation.examples (now {group[0].settings['evaluation.examples']}) to find some"
    return [f"{where} example of {listing(missing)} was taken by every run{apart}; {remedy}."]


def _samples(job: Job) -> list[Sample]:
    """The samples of a run's examples, row by row."""
    examples = job.examples or {}
    names = [job.class_names[int(index)] for index in examples["class_index"]]
    return list(zip(names, map(int, examples["sample_index"]), strict=True))


def _cut(job: Job, name: str, samples: Sequence[Sample]) -> np.ndarray:
    """The pictures `[k, h, w, 3]` of these samples."""
    rows = {sample: row for row, sample in enumerate(_samples(job))}
    return (job.examples or {})[name][[rows[sample] for sample in samples]]


def _alike(image: np.ndarray, other: np.ndarray) -> bool:
    return image.shape == other.shape and bool(np.abs(image.astype(float) - other).mean() <= _ALIKE)
