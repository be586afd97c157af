"""Settings of every test: one thread each, since pytest-xdist's workers share the cores; memory as in a run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from lis.allocation import keep_freed_memory

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # for the programs that tests start
torch.set_num_threads(1)
keep_freed_memory()


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all workers, so that experiments and the README's runs share pairs as a user's do."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-store"
