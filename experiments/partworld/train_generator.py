"""Fit part world's generators to the renderer: `python experiments/partworld/train_generator.py dogs --steps 9000`."""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from lis.generators.partworld.training import GeneratorFit, draw_rendered, fidelity
from lis.generators.partworld.world import SETS, world
from lis.lightning import Endless

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
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    pl.seed_everything(options.seed, verbose=False)
    target = world(options.set)
    path = options.out / f"generator_{options.set}.safetensors"
    fit = GeneratorFit(target, options.steps, path, options.rate)
    if options.go_on:
        fit.network.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    loader = DataLoader(Endless(partial(draw_rendered, target, options.batch), options.seed), batch_size=None)
    trainer = pl.Trainer(
        max_steps=options.steps, accelerator="cpu", gradient_clip_val=1.0, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, callbacks=[_Print()],
    )  # fmt: skip
    start = time.monotonic()
    trainer.fit(fit, loader)
    run = {
        "steps": options.steps, "batch": options.batch, "rate": options.rate, "went_on": options.go_on,
        "seconds": round(time.monotonic() - start),
        "parameters": sum(p.numel() for p in fit.network.parameters()),
        "psnr_db": fidelity(fit.average.module, target, n=2000, seed=2), "course": fit.log_rows,
    }  # fmt: skip
    log = HERE / f"generator_{options.set}.json"
    earlier = json.loads(log.read_text()) if options.go_on else []
    log.write_text(json.dumps([*earlier, run], indent=1) + "\n")


class _Print(pl.Callback):
    """A line per measurement, one step later: the module measures after its callbacks."""

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        if trainer.global_step % 500 == 1 and pl_module.log_rows:
            print(pl_module.log_rows[-1], flush=True)


if __name__ == "__main__":
    main()
