"""Settings of every test: one thread each, since pytest-xdist's workers share the cores; memory as in a run."""

from __future__ import annotations

import os

import torch

from lis.allocation import keep_freed_memory

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # for the programs that tests start
torch.set_num_threads(1)
keep_freed_memory()
