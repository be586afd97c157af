"""Fit part world's generators to the renderer: `python experiments/partworld/train_generator.py dogs --steps 9000`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
from safetensors.torch import load_file
from trainer import begin, train, write_log

from lis.generators.partworld.training import GeneratorFit, draw_rendered, fidelity
from lis.generators.partworld.world import SETS, world

HERE = Path(__file__).parent


def main() -> None:
    """Train one set; weights go into the package, the log beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--go-on", action="store_true", help="start from the weights that are in the package")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "lis/generators/partworld/weights")
    options = parser.parse_args()
    begin(options.seed)
    target = world(options.set)
    path = options.out / f"generator_{options.set}.safetensors"
    fit = GeneratorFit(target, options.steps, path, options.rate)
    if options.go_on:
        fit.network.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    draw = partial(draw_rendered, target, options.batch)
    facts = train(fit, draw, options.steps, options.seed, gradient_clip_val=1.0, callbacks=[_Print()])
    run = {"steps": options.steps, "batch": options.batch, "rate": options.rate, "went_on": options.go_on}
    run |= {**facts, "psnr_db": fidelity(fit.average.module, target, n=2000, seed=2), "course": fit.log_rows}
    write_log(HERE / f"generator_{options.set}.json", run, options.go_on)


class _Print(pl.Callback):
    """A line per measurement, one step later: the module measures after its callbacks."""

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        if trainer.global_step % 500 == 1 and pl_module.log_rows:
            print(pl_module.log_rows[-1], flush=True)


if __name__ == "__main__":
    main()
