"""The page of a sweep: what varied between its runs, and how each metric came out (Fig. S1–S3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

import lis
from lis.folder import staged
from lis.report.classifiers import classifiers
from lis.report.examples import examples
from lis.report.figures.comparison import comparison
from lis.report.gains import gains
from lis.report.html import KICKER, Attempts, Number, render, require_whole, show_all
from lis.report.jobs import Job, load_jobs
from lis.report.labels import link_label, metric_label, number, share, times
from lis.report.sections import Picture, Section, Table

_RATIOS = tuple(f"{metric}/ratio_random" for metric in ("mse_w", "pixel_l2", "lpips", "moco", "features"))
_TABLES = (*_RATIOS, "class_kept", "r2_within")
_ONE_SETTING = "Distances of the cycle as a multiple of those of random pairs; R² is the mean over the true factors."
_KINDS = {"classes": "class sets", "classifier": "classifiers", "gan": "generators", "seed": "seeds"}
_LARGE_IS_GOOD = ("class_kept", "r2_within")


def write_comparison(jobs: list[Path], out: Path) -> Path:
    """Write `report.html` and `figures/*.png` of a sweep.

    Args:
        jobs: folders of its runs, each with what `write_report` left there; a folder without is named on the page.
        out: the sweep's folder, made when needed.

    Raises:
        ValueError: no folder holds a result.
        ReportError: a section, or the top or tail of the page failed; all else is written, and the page names it with
            its error.
    """
    loaded, missing = load_jobs(jobs)
    out.mkdir(parents=True, exist_ok=True)
    with staged(out) as draft:
        tried = Attempts()
        title = tried("Title", lambda: _title(loaded), KICKER)
        abstract = tried("Abstract", lambda: _abstract(loaded), "")
        numbers = tried("Headline", lambda: _headline(loaded), [])
        runs = [tried(f"Run {job.folder.name}", partial(_run, job, out), _unlinked(job)) for job in loaded]
        shown = show_all([(name, partial(maker, loaded)) for name, maker in _MAKERS.items()], draft / "figures")
        sections = [*tried.failed, *shown]
        page = render(
            "comparison.html.j2",
            draft / "report.html",
            sections=sections,
            title=title,
            abstract=abstract,
            numbers=numbers,
            runs=runs,
            kicker=f"{KICKER}: comparison",
            columns=list(loaded[0].values),
            missing=missing,
            footer=f"lis {lis.__version__}",
        )
    page = out / page.name
    require_whole(sections, page)
    return page


def _title(jobs: Sequence[Job]) -> str:
    links, groups = _links(jobs), [group for group in reversed(list(jobs[0].values)) if group != "link"]
    first = f"{len(links)} links" if len(links) > 1 else link_label(links[0])
    counts = {group: len({job.values[group] for job in jobs}) for group in groups}
    return " × ".join([first, *(f"{count} {_KINDS.get(group, 'settings')}" for group, count in counts.items())])


def _abstract(jobs: Sequence[Job]) -> str:
    fixed = {group: value for group, value in jobs[0].labels.items() if len({job.labels[group] for job in jobs}) == 1}
    names = {"gan": "Generator", "classifier": "Classifier", "classes": "Classes"}
    common = "; ".join(f"{names[group]}: {value}" for group, value in fixed.items() if group in names)
    varied = f"{len(jobs)} runs. Links: {', '.join(link_label(link) for link in _links(jobs))}."
    for group in (group for group in jobs[0].values if group != "link"):
        values = dict.fromkeys(job.values[group] for job in jobs)
        varied += f" {_KINDS.get(group, 'settings').capitalize()}: {'; '.join(values)}."
    return f"{varied} {common}." if common else varied


def _headline(jobs: Sequence[Job]) -> list[Number]:
    """The span of each main number over the runs, and the run that is best."""
    found = []
    for key in _keys(jobs):
        ranked = sorted((job for job in jobs if key in job.metrics), key=lambda job: job.metrics[key])
        best = ranked[-1 if key in _LARGE_IS_GOOD else 0]
        low, high = (_cell(key, job.metrics[key]) for job in (ranked[0], ranked[-1]))
        span = low if low == high else f"{low.rstrip('× %')}–{high}"
        of = "of random pairs; " if key.endswith("ratio_random") else ""
        found.append(Number(_key_label(key), span, f"{of}best: {best.name}"))
    return found


def _numbers(jobs: Sequence[Job]) -> Section | None:
    """A table per number, settings down and links across; one table of all numbers where only links varied."""
    keys, settings = _keys(jobs), _columns(jobs)
    if not keys:
        return None
    tables = [_matrix(jobs, _key_caption(key), [(setting, key, setting) for setting in settings]) for key in keys]
    if len(settings) == 1:
        tables = [_matrix(jobs, _ONE_SETTING, [(_key_label(key), key, settings[0]) for key in keys])]
    return Section("Numbers", _best_sentence(jobs), tables=tables)


def _best_sentence(jobs: Sequence[Job]) -> str:
    key = _keys(jobs)[0]
    ranked = sorted((job for job in jobs if key in job.metrics), key=lambda job: job.metrics[key])
    first, last = ranked[0], ranked[-1]
    if first is last:
        return f"{_key_label(key)} is {_cell(key, first.metrics[key])}."
    return (
        f"{_key_label(key)} lies between {_cell(key, first.metrics[key])} ({first.name}) and "
        f"{_cell(key, last.metrics[key])} ({last.name})."
    )


def _matrix(jobs: Sequence[Job], caption: str, lines: Sequence[tuple[str, str, str]]) -> Table:
    """Links across, the best of each line in bold; a line is its name, a key of the metrics, and a setting."""
    links, rows, best = _links(jobs), [], set()
    for place, (name, key, setting) in enumerate(lines):
        found = {job.link: job.metrics[key] for job in jobs if job.column == setting and key in job.metrics}
        rows.append([name, *(_precise(key, found.get(link, np.nan)) for link in links)])
        if len(found) > 1:
            pick = max if key in _LARGE_IS_GOOD else min
            best.add((place, 1 + links.index(pick(found, key=lambda link: found[link]))))
    return Table(caption, ["", *(link_label(link) for link in links)], rows, frozenset(best))


def _distributions(jobs: Sequence[Job]) -> Section | None:
    """One figure per value of the outer settings."""
    with_samples = [job for job in jobs if job.samples is not None]
    if not with_samples:
        return None
    pictures = []
    for place, outer in enumerate(dict.fromkeys(job.outer for job in with_samples)):
        group = [job for job in with_samples if job.outer == outer]
        frames = [job.samples.assign(link=job.link, column=job.inner) for job in group if job.samples is not None]
        inner = list(dict.fromkeys(job.inner for job in group))
        links = _links(group)
        # Another classifier has other units, in number and in scale.
        own = ("features",) if len({job.labels["classifier"] for job in group}) > 1 else ()
        figure = comparison(pd.concat(frames), links, inner, {link: link_label(link) for link in links}, own)
        caption = (
            f"{outer + ': ' if outer else ''}distance after the cycle per link. Bars are quartiles, dots means; lines "
            f"are the means of random pairs (solid) and of random pairs of the same class (dotted)."
            f"{' Distances in R have a scale of their own for each classifier.' if own else ''}"
        )
        pictures.append(Picture(f"comparison-{place + 1}", figure, _sentence(caption)))
    return Section("Distributions", _overlap(with_samples), pictures)


def _overlap(jobs: Sequence[Job]) -> str:
    """How far the links differ from each other, beside how far settings do."""
    key = _keys(jobs)[0] if _keys(jobs) else None
    links = _links(jobs)
    if key is None or len(links) < 2:
        return ""
    gaps = [
        abs(a.metrics[key] - b.metrics[key])
        for a, b in combinations(jobs, 2)
        if a.column == b.column and key in a.metrics and key in b.metrics
    ]
    return (
        f"On the same setting, two links differ in {_key_label(key)} by at most {number(max(gaps), 2)} of what random "
        "pairs give."
        if gaps
        else ""
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _run(job: Job, out: Path) -> dict[str, Any]:
    """A row of the list of runs; the address is relative, so that the sweep's folder can be moved."""
    page = job.folder / "report.html"
    inside = page.is_file() and page.resolve().is_relative_to(out.resolve())
    address = page.resolve().relative_to(out.resolve()).as_posix() if inside else ""
    return {**_unlinked(job), "page": quote(address)}


def _unlinked(job: Job) -> dict[str, Any]:
    return {"folder": job.folder.name, "page": "", "cells": list(job.values.values())}


def _links(jobs: Sequence[Job]) -> list[str]:
    return list(dict.fromkeys(job.link for job in jobs))


def _columns(jobs: Sequence[Job]) -> list[str]:
    """All settings, those with the same outer value beside each other."""
    outer = list(dict.fromkeys(job.outer for job in jobs))
    return list(dict.fromkeys(job.column for job in sorted(jobs, key=lambda job: outer.index(job.outer))))


def _keys(jobs: Sequence[Job]) -> list[str]:
    return [key for key in _TABLES if any(key in job.metrics for job in jobs)]


def _key_label(key: str) -> str:
    named = {"class_kept": "Class kept", "r2_within": "R² within classes"}
    return named.get(key) or metric_label(key.split("/")[0])


def _key_caption(key: str) -> str:
    named = {
        "class_kept": "Class kept: share of cycled images that keep their class.",
        "r2_within": "R² of the true factors within classes, mean over factors.",
    }
    return named.get(key) or f"{_key_label(key)} of the cycle, as a multiple of that of random pairs."


def _cell(key: str, value: float) -> str:
    if key == "class_kept":
        return share(value)
    return number(value, 2) if key == "r2_within" else times(value)


def _precise(key: str, value: float) -> str:
    """As `_cell`, with the digits that tell similar links apart."""
    if not np.isfinite(value):
        return "–"
    precise = {"class_kept": f"{100 * value:.1f} %", "r2_within": f"{value:.2f}".replace("-", "−")}
    return precise.get(key, f"{value:.3f}×")


_MAKERS: dict[str, Callable[[Sequence[Job]], Section | None]] = {
    "Numbers": _numbers,
    "Distributions": _distributions,
    "Gains": gains,
    "Examples": examples,
    "Classifiers": classifiers,
}
