"""Settings of every test: one thread each, since pytest-xdist's workers share the cores."""

from __future__ import annotations

import os

import torch

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # for the programs that tests start
torch.set_num_threads(1)
