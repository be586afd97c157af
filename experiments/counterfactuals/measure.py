"""How many counterfactuals are reached, and what others say of their pictures, for objectives, optimizers and stops.

    python experiments/counterfactuals/measure.py OUT.json --witness partnet_attributes -- classes=dogs

Every way searches the same samples of every ordered pair of classes from the same starts. Judged is the picture, within
the 99 % of training samples; then a second classifier is asked, and on part world Bayes' rule: whether they call it the
target, or still the original. Shares are of *all* searches from the first start of each sample, with Wilson's 95 %
intervals; the other columns are of those that are reached.

A way is `objective:optimizer`, then settings of a search, as `until=0.9:near=0.003`. Two controls search nothing:
`samples`, f(r) of a sample of the target, and `pixels:until=<probability>`, steps in the pixels of the image of f(r),
with w where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import lis
from lis.boundary.adversarial import attack
from lis.boundary.job import Job
from lis.boundary.judged import ENDS, others
from lis.boundary.optimizers import OPTIMIZERS, data_metric
from lis.boundary.search import MOST_STEPS, Problems, Settings, search
from lis.boundary.searches import Block, blocks, problems_of
from lis.context import Context
from lis.linking.pairs import pairs
from lis.look import Looker, generated
from lis.quantify.change import change
from lis.quantify.measures import MEASURES
from lis.quantify.sparsity import hoyer
from lis.statistics import wilson
from lis.units.truth import Renderer, true_measures


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("settings", nargs="*", help="as for python -m lis.run")
    parser.add_argument("--samples", type=int, default=6, help="of each ordered pair of classes")
    parser.add_argument("--starts", type=int, default=1, help="of each sample; how alike they end needs two or more")
    parser.add_argument("--gan", help="class of a generator of one's own, as fashion.FashionGenerator")
    parser.add_argument("--classifier", help="class of a classifier of one's own")
    parser.add_argument("--witness", help="option of the group classifier, or a class of one's own")
    parser.add_argument("--ways", nargs="*", help="settings of searches: objective:optimizer[:key=value…]")
    options = parser.parse_intermixed_args()
    given = {name: getattr(options, name) for name in ("gan", "classifier", "witness")}
    models = {name: model(target) for name, target in given.items() if target}
    ctx = lis.study(*options.settings, **models).context
    result = {"settings": options.settings, "ways": measure(ctx, options.ways or WAYS, options.samples, options.starts)}
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print_table(result)


WAYS = (
    [f"{objective}:{optimizer}" for objective in ("link", "image") for optimizer in OPTIMIZERS]
    + [f"image:natural:until={p}" for p in (0.9, 0.99)]
    + ["link:natural:until=0.9", "samples", "pixels:until=0.9"]
)
SHARES = ("reached", "flipped", "inside", "witness_target", "witness_origin", "bayes_target", "bayes_origin")
"""Of all searches; called the target: of those that are reached."""
MEANS = ("w_distance", "probability", "sparsity", "area")
"""Of those that are reached."""
SAMPLES, PIXELS = "samples", "pixels:until="
"""Ways that search nothing."""
COLUMNS = {
    **dict.fromkeys(SHARES, lambda share: f"{100 * share[0]:.0f} [{100 * share[1]:.0f}, {100 * share[2]:.0f}]"),
    "steps": lambda value: f"{value:g}",
    "passes": lambda value: f"{value:.0f}",
    **dict.fromkeys(MEANS, lambda value: f"{value:.2f}"),
    "agreement": lambda cosines: f"{cosines[0]:.2f} ({cosines[1]:.2f})",
}
"""Column of the table → how its value is written."""


def model(target: str):
    """A model of one's own, of the class `module.Class`, or the name of an option."""
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)() if module else target


def parsed(text: str) -> Settings:
    """Of `objective:optimizer[:key=value…]`, with the usual settings of both."""
    objective, optimizer, *keys = text.split(":")
    given = {name: json.loads(value) for name, value in (key.split("=") for key in keys)}
    usual = OPTIMIZERS[optimizer]
    settings = Settings(
        objective, None, optimizer, usual.learning_rate[objective], usual.start, MOST_STEPS[objective], 20
    )
    return replace(settings, **given)


def measure(ctx: Context, ways: list[str], samples: int, starts: int = 1) -> dict:
    """All rows of the table."""
    job, rows = Job.of(ctx), {}
    metric = data_metric(pairs(ctx, "train").tensors("pairs")["r"]).double()
    for text in ways:
        if text == SAMPLES:
            rows[text] = summary(joined([replaced(job, block) for block in blocks(job, samples, 1)]))
        elif text.startswith(PIXELS):
            until = float(text.removeprefix(PIXELS))
            rows[text] = summary(joined([attacked(job, block, until) for block in blocks(job, samples, 1)]))
        else:
            settings = parsed(text)
            by_pairs = OPTIMIZERS[settings.optimizer].metric == "pairs"
            rows[text] = in_w(replace(job, metric=metric if by_pairs else None), settings, samples, starts)
        print(text, rows[text], file=sys.stderr, flush=True)
    return rows


def in_w(job: Job, settings: Settings, samples: int, starts: int) -> dict:
    """A row of the table: searches for Δr."""
    searches = joined([searched(job, block) for block in blocks(job, samples, starts, settings)])
    row = summary({name: values[::starts] for name, values in searches.items()})
    if starts > 1:
        row["agreement"] = agreements(searches["w_shift"], searches["success"], starts, samples)
    return row


def searched(job: Job, block: Block) -> dict[str, Tensor]:
    """What becomes of searches, and what others say of them; a row per search."""
    problems = problems_of(job, block)
    result = search(job.land(block.settings), job.judge(block.settings), problems)
    counted = {"success": result.success, "steps": result.steps, "passes": result.passes}
    return counted | pictured(job, problems, job.codes(problems.r + result.shift))


def replaced(job: Job, block: Block) -> dict[str, Tensor]:
    """The same of f(r) of as many test samples of the target, which are no counterfactuals."""
    test = pairs(job.ctx, "test").tensors("pairs")
    rows = (test["class_index"] == block.pair[1]).nonzero()[: len(block.r), 0]
    told = pictured(job, problems_of(job, block), job.codes(test["r"][rows]))
    return {"success": told["flipped"] & told["inside"]} | told


def pictured(job: Job, problems: Problems, w: Tensor) -> dict[str, Tensor]:
    """What the images of `w [n, w_dim]` are beside those of f(r), and what others say of them."""
    w0 = job.codes(problems.r)
    look, look0, w_shift = job.looker(w), job.looker(w0), (w - w0).cpu()
    told = {
        "flipped": look.prediction == problems.target.cpu(),
        "inside": job.region.slack(w.cpu()) >= 0,
        "w_shift": w_shift,
        "w_distance": w_shift.norm(dim=1),
        "probability": look.softmax.gather(1, problems.target.cpu()[:, None])[:, 0],
        "sparsity": hoyer(look.r - look0.r),
    }
    if isinstance(job.ctx.generator, Renderer):
        told["area"] = area_change(job.ctx.generator, w0, w)
    return told | called(job.ctx, problems, others(job.ctx, w))


def attacked(job: Job, block: Block, until: float) -> dict[str, Tensor]:
    """What becomes of steps in pixels, and what the witness says of them; a row per image."""
    ctx, network, problems = job.ctx, job.ctx.classifier, problems_of(job, block)
    goal = torch.full_like(problems.r[:, 0], until)
    image = generated(ctx, job.codes(problems.r))[0]
    result = attack(lambda x: network.head(network.features(x)), image, problems.target, goal, ctx.config.adversarial)
    told = {"success": result.reached, "steps": result.steps, "w_distance": 0 * goal, "probability": result.probability}
    if (asked := ctx.of_witness) is not None:
        answers = Looker.tuned(asked).pictures(result.image).prediction.tolist()
        told |= called(ctx, problems, {"witness": [asked.classifier.class_names[k] for k in answers]})
    return {name: values.cpu() for name, values in told.items()}


def area_change(renderer: Renderer, w0: Tensor, w: Tensor) -> Tensor:
    """Mean |log₂| of the true change in area over the parts that are in both pictures, `[n]`."""
    areas = change(true_measures(renderer, w0), true_measures(renderer, w))[..., MEASURES.index("area")]
    return areas.abs().nanmean(1)


def called(ctx: Context, problems: Problems, said: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """Whether each of the others that were asked said the target, and the original: `[n]` bool."""
    names = np.asarray(ctx.classifier.class_names)
    return {
        f"{who}_{end}": torch.from_numpy(np.asarray(answers) == names[getattr(problems, end).cpu().numpy()])
        for who, answers in said.items()
        if any(answers)
        for end in ENDS
    }


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """All rows, one part after the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def agreements(w_shift: Tensor, success: Tensor, starts: int, samples: int) -> list[float]:
    """Mean cosine of Δw between the starts of a sample, and beside it between samples of a pair of classes."""
    return [alike(w_shift, success, starts), alike(w_shift[::starts], success[::starts], samples)]


def alike(w_shift: Tensor, success: Tensor, size: int) -> float:
    """Mean cosine between every two rows that are reached of each `size` rows in turn; NaN without any."""
    unit = F.normalize(w_shift.double(), dim=1).masked_fill(~success[:, None], torch.nan).unflatten(0, (-1, size))
    row, column = torch.triu_indices(size, size, offset=1)
    return float((unit[:, row] * unit[:, column]).sum(-1).nanmean())


def summary(searches: dict[str, Tensor]) -> dict:
    """Shares of all with their intervals; of those that are reached, if any are, the median of steps, and means."""
    n, good = len(searches["success"]), searches["success"]
    shares = {"reached": good} | {name: searches[name] for name in SHARES if name in searches}
    shares |= {name: share & good for name, share in shares.items() if name.endswith("_target")}
    result: dict = {name: [float(x.double().mean()), *wilson(int(x.sum()), n)] for name, x in shares.items()} | {"n": n}
    if not good.any():
        return result
    if "passes" in searches:
        result["passes"] = float(searches["passes"].sum() / good.sum())
    if "steps" in searches:
        result["steps"] = float(searches["steps"][good].double().median())
    return result | {name: float(searches[name][good].double().nanmean()) for name in MEANS if name in searches}


def print_table(result: dict) -> None:
    """Markdown, with the columns that some way has."""
    columns = [name for name in COLUMNS if any(name in row for row in result["ways"].values())]
    print(f"| way | {' | '.join(columns)} |")
    print("|" + "---|" * (len(columns) + 1))
    for way, row in result["ways"].items():
        cells = [COLUMNS[name](row[name]) if name in row else "–" for name in columns]
        print(f"| {' | '.join([way, *cells])} |")


if __name__ == "__main__":
    main()
