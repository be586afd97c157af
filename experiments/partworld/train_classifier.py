"""Train PartNet on rendered figures: `python experiments/partworld/train_classifier.py classes --steps 1500`."""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lis.classifiers.partnet import CLASSES, TASKS, read_network
from lis.classifiers.partnet_training import ClassifierFit, save_classifier
from lis.classifiers.tasks import draw_figures
from lis.lightning import Endless

HERE = Path(__file__).parent


def main() -> None:
    """Train one task; weights go into the package, the log beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=6e-3, help="peak learning rate")
    parser.add_argument("--go-on", action="store_true", help="start from the weights that are in the package")
    parser.add_argument("--per-class", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "lis/classifiers/weights")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    pl.seed_everything(options.seed, verbose=False)
    path = options.out / f"partnet_{options.task}.safetensors"
    fit = ClassifierFit(options.task, options.steps, options.rate)
    if options.go_on:
        fit.network.load_state_dict(read_network(path))
    loader = DataLoader(Endless(partial(draw_figures, options.per_class), options.seed), batch_size=None)
    trainer = pl.Trainer(
        max_steps=options.steps, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False,
    )  # fmt: skip
    start = time.monotonic()
    trainer.fit(fit, loader)
    save_classifier(fit.network, path)
    run = {
        "steps": options.steps, "rate": options.rate, "went_on": options.go_on,
        "images": options.steps * options.per_class * len(CLASSES), "seconds": round(time.monotonic() - start),
        "parameters": sum(p.numel() for p in fit.network.parameters()),
        "loss": round(float(trainer.callback_metrics["loss"]), 4),
    }  # fmt: skip
    log = HERE / f"partnet_{options.task}.json"
    earlier = json.loads(log.read_text()) if options.go_on else []
    log.write_text(json.dumps([*earlier, run], indent=1) + "\n")


if __name__ == "__main__":
    main()
