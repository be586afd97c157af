"""Arrays of the reference code of Bau et al. 2020 on small random tensors, cut down to what tests read."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_FOLDER = Path(__file__).parents[1] / "data" / "dissection"


@cache
def fixture(name: str) -> dict[str, Tensor]:
    with np.load(_FOLDER / f"{name}.npz") as data:
        return {key: torch.from_numpy(data[key]) for key in data}
