"""What each classifier of a sweep is, as far as it bears on its link."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from lis.report.jobs import Job
from lis.report.labels import number, share
from lis.report.sections import Section, Table

_CAPTION = (
    "Dead: units that do not vary. Pairs per unit: training pairs of the link, over units. Accuracy: of a network on "
    "drawn figures that it was not trained on, of a probe on new samples; a dash where it was not measured. Accepted: "
    "share of the generator's test samples that were taken."
)


def classifiers(jobs: Sequence[Job]) -> Section | None:
    """A row per classifier, and per value of the other settings; None where the classifier did not vary."""
    if "classifier" not in jobs[0].values:
        return None
    first = {job.column: job for job in reversed(jobs)}
    shown = [first[setting] for setting in dict.fromkeys(job.column for job in jobs)]
    rows = [[job.column, *_units(job), _accuracy(job), share(accepted(job))] for job in shown]
    columns = ["", "units", "dead", "pairs per unit", "accuracy", "accepted"]
    return Section("Classifiers", _lead(shown), tables=[Table(_CAPTION, columns, rows)])


def accepted(job: Job) -> float:
    """Accepted test samples over all that were drawn for them; not a number where none were."""
    rates = [rate for key, rate in job.metrics.items() if key.startswith("acceptance/test/")]
    # Every class has the same number of accepted samples, so that the classes' draws are as their inverse rates.
    return len(rates) / sum(1 / rate for rate in rates) if rates else float("nan")


def _lead(jobs: Sequence[Job]) -> str:
    known = sorted((job for job in jobs if job.units is not None), key=lambda job: job.units or 0)
    if not known or known[0].units == known[-1].units:
        return ""
    ends = [f"{_count(job.units)} ({job.inner})" for job in (known[0], known[-1])]
    return f"Penultimate layers have between {ends[0]} and {ends[1]} units."


def _count(units: int | None) -> str:
    return "–" if units is None else f"{units:,}"


def _units(job: Job) -> list[str]:
    """Units, those that never vary, and training pairs of the link for each."""
    dead, pairs = (job.metrics.get(f"link/{key}", float("nan")) for key in ("dead", "samples"))
    return [_count(job.units), "–" if isnan(dead) else f"{dead:,.0f}", number(pairs / (job.units or float("nan")), 2)]


def _accuracy(job: Job) -> str:
    """That of the head in use: a probe replaces the network's own."""
    found = [job.metrics[key] for key in ("probe/accuracy", "classifier/accuracy") if key in job.metrics]
    return share(found[0] if found else float("nan"))
