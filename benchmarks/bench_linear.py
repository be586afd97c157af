"""Streamed least squares against scikit-learn: time and peak memory of a fit, one process per fit.

    python benchmarks/bench_linear.py [--repetitions 5] [--samples 25000] [--units 2048] [--w-dim 512]

Prints a table, and as the last line the same as JSON. Only ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

METHODS = ("lis", "scikit-learn")
TARGETS = {"seconds": 0.9, "peak_mb": 0.6}
"""Highest ratio lis / scikit-learn."""


def measure(method: str, samples: int, units: int, w_dim: int) -> dict[str, float]:
    """Fits once in this process: seconds, and how far the peak memory rises above what data and imports take, in MB."""
    fit = _fitter(method)
    rng = np.random.default_rng(0)
    w = rng.standard_normal((samples, w_dim), dtype=np.float32)
    r = rng.standard_normal((samples, units), dtype=np.float32)
    before = _peak_mb()
    start = time.perf_counter()
    fit(r, w)
    return {"seconds": time.perf_counter() - start, "peak_mb": _peak_mb() - before, "before_mb": before}


def compare(repetitions: int, **sizes: int) -> dict[str, Any]:
    """Medians of both methods over interleaved runs, and their ratios."""
    runs: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    for _ in range(repetitions):
        for method in METHODS:
            runs[method].append(_spawn(method, sizes))
    medians = {method: _medians(results) for method, results in runs.items()}
    ours, theirs = (medians[method] for method in METHODS)
    ratios = {name: ours[name] / theirs[name] for name in TARGETS}
    return {"sizes": sizes, "repetitions": repetitions, "median": medians, "ratio": ratios, "target": TARGETS}


def _fitter(method: str) -> Any:
    if method == "lis":
        from lis.linking.linear import LeastSquares

        def fit(r: np.ndarray, w: np.ndarray) -> None:
            moments = LeastSquares()
            moments.update(r, w)
            moments.solve()

        return fit
    from sklearn.linear_model import LinearRegression

    return lambda r, w: LinearRegression().fit(r, w)


def _spawn(method: str, sizes: dict[str, int]) -> dict[str, float]:
    values = [str(sizes[name]) for name in ("samples", "units", "w_dim")]
    command = [sys.executable, __file__, "--one", method, *values]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _medians(results: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(result[name] for result in results) for name in results[0]}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _table(result: dict[str, Any]) -> str:
    rows = [f"{'':14}{'seconds':>10}{'peak MB':>10}{'(before the fit)':>18}"]
    for method, values in result["median"].items():
        rows.append(f"{method:14}{values['seconds']:10.2f}{values['peak_mb']:10.0f}{values['before_mb']:18.0f}")
    for label in ("ratio", "target"):
        rows.append(f"{label:14}{result[label]['seconds']:10.2f}{result[label]['peak_mb']:10.2f}")
    return "\n".join(rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"repetitions": 5, "samples": 25_000, "units": 2048, "w-dim": 512}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--one", nargs=4, metavar=("METHOD", "SAMPLES", "UNITS", "W_DIM"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], *map(int, arguments.one[1:]))))
        return
    result = compare(arguments.repetitions, samples=arguments.samples, units=arguments.units, w_dim=arguments.w_dim)
    print(_table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
