"""What the runs of a sweep say together: which classifier and which link is best, and whether any link explains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lis.report.evaluation import EXPLAINS
from lis.report.findings import UNDECIDED, Finding, Warned, finding, warning
from lis.report.findings_link import GUESSING, OVERFITS
from lis.report.jobs import KINDS, Job
from lis.report.paired import Comparison, compared, setting_of, winner
from lis.report.section import anchor
from lis.report.wording import counted, listing, number, probability, share

_LINEAR = {"lr", "ridge"}
_NAMED = 4
"""Runs up to which all are named."""


@finding(10, page="comparison")
def best_classifier(jobs: Sequence[Job]) -> Finding | None:
    """Which classifier has the link with the smallest error, all else equal."""
    kind = "linear link" if {job.link for job in jobs} <= _LINEAR else "link"
    return _best(jobs, "classifier", f"Which classifier has the best {kind}?", f"{{}} has the best {kind}")


@finding(20, page="comparison")
def best_link(jobs: Sequence[Job]) -> Finding | None:
    """Which link has the smallest error, all else equal."""
    return _best(jobs, "link", "Which link is best?", "{} is the best link")


def _best(jobs: Sequence[Job], group: str, question: str, claim: str) -> Finding | None:
    """Which value of a group has the smallest error in each setting of all else; None where the group did not vary."""
    if group not in jobs[0].values:
        return None
    made, address = compared(jobs, group), anchor("Numbers")
    if not made:
        sentence = f"No two runs that differ in the {group} alone share test images, so that none is called better."
        return Finding(question, UNDECIDED, sentence, "no comparison", address)
    left_out = _left_out(jobs, group, made)
    by_setting = {one.setting: [other for other in made if other.setting == one.setting] for one in made}
    winners = {setting: winner(some) for setting, some in by_setting.items()}
    wins = Counter(filter(None, winners.values()))
    test = f"{counted(len(made), 'comparison')} by paired t tests on shared test images; each link was fitted once"
    if not wins:
        sentence = f"None is called best: in no setting is one {group} better than every other.{left_out}"
        control = f"q {probability(min(one.q for one in made))} at best, {test}"
        return Finding(question, "a tie", sentence, control, address)
    best, count = wins.most_common(1)[0]
    won = [[one for one in some if one.better == best] for name, some in by_setting.items() if winners[name] == best]
    q = max(one.q for some in won for one in some)
    sentence = (
        f"{claim.format(best)}{_settings(jobs, group, count, len(winners))}: its error in W is "
        f"{_smaller([min(some, key=lambda one: one.gain) for some in won])}.{_others(wins, len(winners))}"
        f"{left_out}"
    )
    value = best if count == len(winners) else f"{best}: {count} of {len(winners)}"
    return Finding(question, value, sentence, f"q {_at_most(q)}, {test}", address)


def _left_out(jobs: Sequence[Job], group: str, made: Sequence[Comparison]) -> str:
    """The runs that are in no comparison: nobody knows whether they are better."""
    compared_runs = {(one.setting, value) for one in made for value in (one.better, one.worse)}
    names = [job.name for job in jobs if (setting_of(job, group), job.values[group]) not in compared_runs]
    if not names:
        return ""
    named = listing([*names[:_NAMED], *[f"{len(names) - _NAMED:,} more"] * (len(names) > _NAMED)])
    return f" Not compared, for no run that differs in the {group} alone shares test images with it: {named}."


def _at_most(q: float) -> str:
    """The largest of several q.

    Example:
        >>> _at_most(0.012), _at_most(1e-9)
        ('≤ 0.012', '< 0.001')
    """
    told = probability(q)
    return told if told.startswith("<") else f"≤ {told}"


def _settings(jobs: Sequence[Job], group: str, count: int, every: int) -> str:
    """In how many of the settings; nothing where there is one."""
    if every == 1:
        return ""
    others = [name for name in jobs[0].values if name != group]
    kind = KINDS.get(others[0], "settings") if len(others) == 1 else "settings"
    some = ("both" if every == 2 else f"all {every}") if count == every else f"{count} of {every}"
    return f" {'in' if kind in ('class sets', 'settings') else 'with'} {some} {kind}"


def _smaller(next_best: Sequence[Comparison]) -> str:
    """By how much the best is better than the next best of each setting."""
    gains = sorted(one.gain for one in next_best)
    told = " to ".join(dict.fromkeys(map(share, (gains[0], gains[-1]))))
    names = list(dict.fromkeys(one.worse for one in next_best))
    return f"{told} smaller than that of the next best, {listing(names)}"


def _others(wins: Counter[str], settings: int) -> str:
    """Who is best in the other settings."""
    told = [f"{name} in {count}" for name, count in wins.most_common()[1:]]
    tied = settings - sum(wins.values())
    told += [f"nobody in {tied}"] * (tied > 0)
    return f" Best in the others: {listing(told)}." * bool(told)


@finding(30, page="comparison")
def links_explain(jobs: Sequence[Job]) -> Finding | None:
    """Between what bounds R² of w lies, over all images and within classes."""
    overall, within = (r2_by_run(jobs, name) for name in ("random", "within_class"))
    if not overall or not within:
        return None
    better, runs = sum(value > EXPLAINS for value in within.values()), counted(len(within), "run")
    ends = [pick(within, key=lambda name: within[name]) for pick in (min, max)]
    bounds = " to ".join(dict.fromkeys(f"{number(within[name], 2)} ({name})" for name in ends))
    sentence = (
        f"In {better or 'none'} of {runs} the link predicts w on new images better than the mean of the class does: "
        f"R² within a class is {bounds}."
    )
    value = "R² " + " to ".join(dict.fromkeys(number(pick(overall.values()), 2) for pick in (min, max)))
    return Finding("Do the links explain?", value, sentence, GUESSING, anchor("Numbers"))


def r2_by_run(jobs: Sequence[Job], pairing: str) -> dict[str, float]:
    """R² of w on new samples of each run, see `lis.report.evaluation.explained`; those without the number left out."""
    key = f"mse_w/ratio_{pairing}"
    return {job.name: 1 - 2 * job.metrics[key] for job in jobs if key in job.metrics}


@finding(40, page="comparison")
def units_reached(jobs: Sequence[Job]) -> Finding | None:
    """Between what bounds the share of reached units lies."""
    shares = {job.name: job.metrics["units/reached"] for job in jobs if "units/reached" in job.metrics}
    if not shares:
        return None
    ends = [pick(shares, key=lambda name: shares[name]) for pick in (min, max)]
    told = " to ".join(dict.fromkeys(f"{share(shares[name])} ({name})" for name in ends))
    sentence = f"In {counted(len(shares), 'run')}, {told} of the tuned units are reached."
    value = " to ".join(dict.fromkeys(share(shares[name]) for name in ends))
    control = "q ≤ 0.05 within each run: at most 5 % of these by chance"
    return Finding("How many units are reached?", value, sentence, control, "runs")


@finding(50, page="comparison")
def single_run(jobs: Sequence[Job]) -> Finding | None:
    """That nothing is compared."""
    if len(jobs) > 1:
        return None
    return Finding("Which run is best?", "one run", "A single run has a result: nothing is compared.", "none", "runs")


@warning(10, page="comparison")
def runs_that_explain_nothing(jobs: Sequence[Job]) -> Warned | None:
    """The runs whose link is no better than the means of the classes."""
    within = r2_by_run(jobs, "within_class")
    nothing = [name for name, value in within.items() if value <= EXPLAINS]
    if not nothing:
        return None
    named = "; ".join([*nothing[:_NAMED], *["…"] * (len(nothing) > _NAMED)])
    return Warned(
        f"In {len(nothing)} of {counted(len(within), 'run')} the link explains nothing beyond the class (R² within "
        f"classes of {number(EXPLAINS, 1)} or less): {named}. Their pictures are no evidence about what the classifier "
        "sees within a class.",
        OVERFITS,
        anchor("Numbers"),
    )
