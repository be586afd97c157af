"""How Lightning is run here: one process, one device, no files, nothing printed; and batches without end."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch.utils.data import IterableDataset


@contextmanager
def one_process(device: torch.device) -> Iterator[dict[str, Any]]:
    """Arguments for a `Trainer` on a device; inside, its remarks about the machine are kept out of the log.

    Checkpoints are off, since Lightning's are pickles: an unfinished fit starts again from its seed.
    """
    on_gpu = device.type == "cuda"
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # deprecations among its own libraries
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            yield {
                "accelerator": "gpu" if on_gpu else "cpu",
                "devices": [device.index or 0] if on_gpu else 1,
                "plugins": [LightningEnvironment()],  # one process, under SLURM too
                "num_sanity_val_steps": 0,
                "logger": False,
                "enable_checkpointing": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
            }
    finally:
        logger.setLevel(level)


class Endless(IterableDataset):
    """Batches that are drawn without end; the same seed draws the same.

    Args:
        draw: gives the next batch.
        seed: of what it draws from.
    """

    def __init__(self, draw: Callable[[torch.Generator], Any], seed: int) -> None:
        self.draw, self.seed = draw, seed

    def __iter__(self) -> Iterator[Any]:
        rng = torch.Generator().manual_seed(self.seed)
        while True:
            yield self.draw(rng)
