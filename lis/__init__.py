"""Linking in Style: what single units of a classifier mean, seen through a generator that they are linked to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "AblationResult",
    "ContractError",
    "CounterfactualResult",
    "DissectionResult",
    "FittedLink",
    "LookResult",
    "PaintResult",
    "Pairs",
    "Perturbation",
    "PixelSegmenter",
    "Report",
    "Run",
    "StageFiles",
    "StageResult",
    "Study",
    "Sweep",
    "Traversal",
    "TuneResult",
    "__version__",
    "check_classifier",
    "check_generator",
    "load",
    "load_sweep",
    "study",
]

if "OMP_WAIT_POLICY" not in os.environ:
    # So many times a thread that waits for work looks for it before it leaves its core to others. By libgomp's 300,000
    # a program with a thread for each core is tens of times slower beside another one: its threads wait for one that
    # waits for a core (benchmarks/bench_threads.py). Read when PyTorch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

if TYPE_CHECKING:
    from lis.api import (
        AblationResult,
        ContractError,
        CounterfactualResult,
        DissectionResult,
        FittedLink,
        LookResult,
        PaintResult,
        Pairs,
        Perturbation,
        PixelSegmenter,
        Report,
        Run,
        StageFiles,
        StageResult,
        Study,
        Sweep,
        Traversal,
        TuneResult,
        check_classifier,
        check_generator,
        load,
        load_sweep,
        study,
    )


def __getattr__(name: str) -> Any:
    """A name of `lis.api`, which is imported when the first is asked for: the command line needs none of them."""
    if name in __all__:
        from lis import api

        return getattr(api, name)
    raise AttributeError(f"module 'lis' has no attribute {name!r}: expected one of {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
