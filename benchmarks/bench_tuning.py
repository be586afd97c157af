"""Images fully measured per second against bare generation per second: the loop that tunes every unit, on a CPU or GPU.

    python benchmarks/bench_tuning.py [--gan partworld|imagenet256] [--repetitions 9] [--batch-size N] [--threads N]

One process; measured and bare images take turns, block by block, in batches of the same size (that of a run, if it is
not given), and medians are compared.
Measured is what a run does with a block of units and samples: link, generate, segment, measure, classify, write the
shard. On part world everything is as in a run; imagenet256 has random weights throughout, ResNet-50 as the classifier
and the default segmenter, untrained. The parts of the loop are timed one by one besides. Prints a table, and as the
last line the same as JSON. Only ratios are comparable between machines; on one that is busy with other work, that of
the processor's time (of all threads, best with `--threads 1`) tells more than that of the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from lis import build
from lis.config import conf_folder
from lis.context import Context
from lis.costs import tuned_batches
from lis.linking.forward import Forward
from lis.linking.linear import LinearLink
from lis.look import Looker
from lis.memory import Batches, keep_freed_memory
from lis.plain import print_anywhere
from lis.quantify.measures import measure
from lis.segmentation.networks import FewShotSegmenter, read_layers
from lis.segmentation.segmenter import FewShotFit, Masks, load_segmenter, segmenter
from lis.stages import register
from lis.types import Segmenter
from lis.units.directions import Directions
from lis.units.perturbation import Perturbation
from lis.units.tuning import SHARDS, Block, Job
from lis.validation import typed

_RANDOM = ("gan.weights=random", "gan.cache=null", "classifier=resnet50", "classifier.weights=random")

_PAIRS = 1024
"""That the forward model is fitted to, which tells what lies beyond them."""


@dataclass(frozen=True)
class Case:
    """A variant: what is composed, how many units and samples make a block, and the ratio to be reached."""

    overrides: tuple[str, ...]
    units: int
    samples: int
    target: float


CASES = {
    "partworld": Case(("size=demo",), 32, 4, 0.6),
    "imagenet256": Case((*_RANDOM, "gan=imagenet256"), 1, 1, 0.9),
}


def context(overrides: tuple[str, ...], store: Path) -> Context:
    """A run's context, with a store of its own."""
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        return build.context(typed(compose("config", [*overrides, f"store={store}"])))


def untrained(ctx: Context) -> Segmenter:
    """The default segmenter on the generator's maps, with random weights."""
    fit: FewShotFit = build.build(ctx.config.segmenter)
    with torch.inference_mode():
        maps = ctx.generator.synthesize(ctx.generator.mean_w[:1].to(ctx.device), features=True)[1]
    layers = read_layers(list(maps), fit.every)
    widths, size = [maps[name].shape[1] for name in layers], fit.map_size(ctx.generator.resolution)
    labels = ctx.config.classes.labels
    model = FewShotSegmenter(labels, size, layers, widths, fit.network, fit.channels, fit.hidden, fit.enlarge)
    return model.to(ctx.device).eval().requires_grad_(False)


class Loop:
    """Blocks of tuning with a random link around the mean w of the first class."""

    def __init__(self, ctx: Context, case: Case, batch_size: int | None) -> None:
        self.ctx, self.case = ctx, case
        parts = load_segmenter(ctx, segmenter(ctx)) if ctx.generator.domain == "partworld" else untrained(ctx)
        self.labels, self.masks = tuple(parts.labels), Masks(parts)
        draws = torch.Generator().manual_seed(0)
        units, mean = ctx.classifier.units, ctx.generator.mean_w[0].cpu()
        coef = torch.randn(units, len(mean), generator=draws, dtype=torch.float64)
        link = LinearLink.of(coef * float(mean.std()) / units**0.5, mean.double()).to(ctx.device)
        self.r = torch.rand(case.samples, units, generator=draws)
        self.size = tuned_batches(ctx.generator, ctx.device, batch_size, 10**9, ctx.classifier, self.masks).size
        looker = Looker(ctx, Batches(self.size), self.masks, self.labels)
        w = mean + float(mean.std()) * torch.randn(_PAIRS, len(mean), generator=draws)
        pairs = torch.rand(_PAIRS, units, generator=draws), w, torch.zeros(_PAIRS, dtype=torch.int64)
        forward = Forward.fit(*pairs, torch.ones(units), torch.ones(units, dtype=torch.bool))[0]
        self.job = Job(ctx, Directions(link, forward=forward), looker, torch.ones(units), ())
        self.images = case.units * case.samples * 2
        self.w = mean.repeat(self.images, 1) + float(mean.std()) * torch.randn(self.images, len(mean), generator=draws)

    def measured(self, turn: int) -> None:
        """One block, as a run makes it; every turn another."""
        moves = tuple(Perturbation.of_unit(unit, 0.0, 2.0 + turn) for unit in range(self.case.units))
        index = torch.arange(self.case.samples)
        SHARDS.shard(self.job, Block(self.ctx.class_names[0], index, self.r, moves, 2))

    @torch.inference_mode()
    def bare(self) -> None:
        """As many images, and nothing else."""
        for w in self.w.split(self.size):
            self.ctx.generator.synthesize(w.to(self.ctx.device))
        self._wait()

    def parts(self) -> dict[str, Callable[[], Any]]:
        """What is done with a batch after it was generated."""
        with torch.inference_mode():
            w = self.w[: self.size].to(self.ctx.device)
            image, maps = self.ctx.generator.synthesize(w, features=self.masks.layers)
            masks = self.masks(maps)
        classifier = self.ctx.classifier
        return {
            "segment": lambda: self.masks(maps),
            "measure": lambda: measure(masks, image, len(self.labels)),
            "classify": lambda: classifier.head(classifier.features(image)),
        }

    @torch.inference_mode()
    def timed(self, function: Callable[[], Any]) -> tuple[float, float]:
        """Seconds of a call, by the clock and of the processor."""
        self._wait()
        start, busy = time.perf_counter(), time.process_time()
        function()
        self._wait()
        return time.perf_counter() - start, time.process_time() - busy

    def _wait(self) -> None:
        if self.ctx.device.type == "cuda":
            torch.cuda.synchronize(self.ctx.device)


def compare(loop: Loop, repetitions: int) -> dict[str, Any]:
    """Milliseconds per image (medians), and the median over turns of bare seconds / measured seconds."""
    loop.measured(-1)
    loop.bare()
    turns = [(loop.timed(loop.bare), loop.timed(lambda k=k: loop.measured(k))) for k in range(repetitions)]
    bare, measured = (list(times) for times in zip(*turns, strict=True))
    rows = {"bare generation": _milliseconds(bare, loop.images), "fully measured": _milliseconds(measured, loop.images)}
    for name, function in loop.parts().items():
        seconds = [loop.timed(function) for _ in range(repetitions)]
        rows[f"  {name}"] = _milliseconds(seconds, min(loop.size, loop.images))
    clock, busy = (statistics.median(one[k] / other[k] for one, other in turns) for k in (0, 1))
    ratios = {"clock": clock} | ({"processor": busy} if loop.ctx.device.type == "cpu" else {})
    return {"batch": loop.size, "milliseconds": rows, "ratio": ratios, "target": loop.case.target}


def _milliseconds(seconds: list[tuple[float, float]], images: int) -> dict[str, float]:
    clock, busy = (1e3 * statistics.median(values) / images for values in zip(*seconds, strict=True))
    return {"clock": clock, "processor": busy}


def _table(name: str, result: dict[str, Any]) -> str:
    rows = [f"{name}, batches of {result['batch']}", f"{'ms per image':20}{'clock':>10}{'processor':>12}"]
    rows += [f"{label:20}{ms['clock']:10.2f}{ms['processor']:12.2f}" for label, ms in result["milliseconds"].items()]
    ratios = [f"{value:.2f} ({clock})" for clock, value in result["ratio"].items()]
    return "\n".join([*rows, f"measured / bare, images per second: {', '.join(ratios)}; target ≥ {result['target']}"])


def main() -> None:
    """The command line."""
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gan", choices=list(CASES), default="partworld")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    keep_freed_memory()  # as in a run
    case = CASES[arguments.gan]
    with tempfile.TemporaryDirectory() as folder:
        ctx = context((*case.overrides, f"threads={arguments.threads}"), Path(folder))
        loop = Loop(ctx, case, arguments.batch_size)
        result = compare(loop, arguments.repetitions)
    print(_table(arguments.gan, result))
    print(json.dumps({"gan": arguments.gan} | result))


if __name__ == "__main__":
    main()
