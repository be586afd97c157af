"""How many counterfactuals are reached, and what others say of their pictures, for objectives, optimizers and stops.

    python experiments/counterfactuals/measure.py OUT.json --witness partnet_attributes -- classes=dogs

Every way searches the same samples of every ordered pair of classes from the same starts. Judged is the picture, within
the 99 % of training samples; then a second classifier is asked, and on part world Bayes' rule: whether they call it the
target, or still the original. Shares are of *all* searches, with Wilson's 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import lis
from lis.boundary.job import Job
from lis.boundary.judged import ENDS, OTHERS, others
from lis.boundary.optimizers import OPTIMIZERS, data_metric
from lis.boundary.search import MOST_STEPS, Problems, Settings, search
from lis.boundary.searches import blocks, problems_of
from lis.context import Context
from lis.linking.pairs import pairs
from lis.statistics import wilson


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("settings", nargs="*", help="as for python -m lis.run")
    parser.add_argument("--samples", type=int, default=6, help="of each ordered pair of classes")
    parser.add_argument("--gan", help="class of a generator of one's own, as fashion.FashionGenerator")
    parser.add_argument("--classifier", help="class of a classifier of one's own")
    parser.add_argument("--witness", help="option of the group classifier, or a class of one's own")
    parser.add_argument("--ways", nargs="*", help="settings of searches: objective:optimizer[:key=value…]")
    options = parser.parse_intermixed_args()
    given = {name: getattr(options, name) for name in ("gan", "classifier", "witness")}
    models = {name: model(target) for name, target in given.items() if target}
    ctx = lis.study(*options.settings, **models).context
    result = {"settings": options.settings, "ways": measure(ctx, options.ways or WAYS, options.samples)}
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print_table(result)


WAYS = (
    [f"{objective}:{optimizer}" for objective in ("link", "image") for optimizer in OPTIMIZERS]
    + [f"image:natural:until={p}" for p in (0.9, 0.99)]
    + ["link:natural:until=0.9"]
)


def model(target: str):
    """A model of one's own, of the class `module.Class`, or the name of an option."""
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)() if module else target


def parsed(way: str) -> Settings:
    """Settings of a way, with the usual ones of its objective and optimizer."""
    objective, optimizer, *keys = way.split(":")
    usual = OPTIMIZERS[optimizer]
    settings = Settings(
        objective, None, optimizer, usual.learning_rate[objective], usual.start, MOST_STEPS[objective], check_every=20
    )
    return replace(settings, **{name: json.loads(value) for name, value in (key.split("=") for key in keys)})


def measure(ctx: Context, ways: list[str], samples: int) -> dict:
    """All cells."""
    job, rows = Job.of(ctx), {}
    metric = data_metric(pairs(ctx, "train").tensors("pairs")["r"]).double()
    for way in ways:
        settings = parsed(way)
        this = replace(job, metric=metric if OPTIMIZERS[settings.optimizer].metric == "pairs" else None)
        parts = [searched(this, problems_of(this, block), settings) for block in blocks(this, samples, 1, settings)]
        rows[way] = summary({name: torch.cat([each[name] for each in parts]) for name in parts[0]})
        print(way, rows[way], file=sys.stderr, flush=True)
    return rows


def searched(job: Job, problems: Problems, settings: Settings) -> dict[str, Tensor]:
    """What becomes of the searches, and what others say of them."""
    result = search(job.land(settings), job.judge(settings), problems)
    w, w0 = job.codes(problems.r + result.shift), job.codes(problems.r)
    look = job.looker(w)
    told = {
        "success": result.success,
        "flipped": look.prediction == problems.target.cpu(),
        "inside": job.region.slack(w.cpu()) >= 0,
        "steps": result.steps,
        "passes": result.passes,
        "w_distance": (w - w0).norm(dim=1).cpu(),
        "probability": look.softmax.gather(1, problems.target.cpu()[:, None])[:, 0],
    }
    names = np.asarray(job.ctx.classifier.class_names)
    for who, said in others(job.ctx, w).items():
        if any(said):
            for end in ENDS:
                asked = names[getattr(problems, end).cpu().numpy()]
                told[f"{who}_{end}"] = torch.from_numpy(np.asarray(said) == asked)
    return told


def summary(searches: dict[str, Tensor]) -> dict:
    """Shares of all, and means of those reached."""
    n, good = len(searches["success"]), searches["success"]
    shares = {"reached": good, "flipped": searches["flipped"], "inside": searches["inside"]}
    for who in OTHERS:
        if f"{who}_target" in searches:
            shares |= {f"{who}_target": searches[f"{who}_target"] & good, f"{who}_origin": searches[f"{who}_origin"]}
    result = {name: [float(x.double().mean()), *wilson(int(x.sum()), n)] for name, x in shares.items()}
    result |= {"n": n, "steps": float(searches["steps"][good].double().median()) if good.any() else None}
    result |= {"passes": float(searches["passes"].sum() / max(int(good.sum()), 1))}
    return result | {name: float(searches[name][good].mean()) for name in ("w_distance", "probability")}


def print_table(result: dict) -> None:
    """Markdown."""
    columns = ("reached", "flipped", "inside", "witness_target", "witness_origin", "bayes_target", "bayes_origin")
    print(f"| way | {' | '.join(columns)} | steps | passes per reached | ‖Δw‖ | p |")
    print("|" + "---|" * (len(columns) + 5))
    for way, row in result["ways"].items():
        shares = [
            f"{100 * row[c][0]:.0f} [{100 * row[c][1]:.0f}, {100 * row[c][2]:.0f}]" if c in row else "–"
            for c in columns
        ]
        steps = "–" if row["steps"] is None else f"{row['steps']:g}"
        cells = [way, *shares, steps, f"{row['passes']:.0f}", f"{row['w_distance']:.2f}", f"{row['probability']:.2f}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
