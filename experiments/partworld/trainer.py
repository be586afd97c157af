"""How the models of part world are trained: one thread, one seed, no files but their weights and a log."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lis.lightning import Endless


def options(description: str | None, figures: Collection[str], steps: int, rate: float, batch: int) -> Namespace:
    """What the command line of a training of one set says: figures, steps, rate, batch and seed, of these defaults."""
    parser = ArgumentParser(description=description)
    parser.add_argument("figures", choices=figures)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--rate", type=float, default=rate, help="peak learning rate")
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def begin(seed: int) -> None:
    """One thread, and the seed of the weights: before a network is made."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    pl.seed_everything(seed, verbose=False)


def train(
    fit: pl.LightningModule, draw: Callable[[torch.Generator], Any], steps: int, seed: int, **options: Any
) -> dict[str, float]:
    """Train a module on batches that are drawn without end.

    Args:
        fit: the module; its network is `fit.network`.
        draw: gives the next batch.
        steps: of the optimiser.
        seed: of what `draw` draws from.
        options: of the `Trainer`.

    Returns:
        seconds, parameters (of the network), and what the module logged last.
    """
    trainer = pl.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, **options,
    )  # fmt: skip
    start = time.monotonic()
    trainer.fit(fit, DataLoader(Endless(draw, seed), batch_size=None))
    parameters = sum(p.numel() for p in fit.get_submodule("network").parameters())
    logged = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
    return {"seconds": round(time.monotonic() - start), "parameters": parameters, **logged}


def write_log(log: Path, run: dict[str, Any], go_on: bool) -> None:
    """A list of the runs that made some weights: of this one, after the earlier ones where it went on from these."""
    earlier = json.loads(log.read_text()) if go_on else []
    log.write_text(json.dumps([*earlier, run], indent=1) + "\n")
