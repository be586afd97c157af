"""Measures of masks against a loop over scikit-image's regionprops, and what measuring costs per image.

    python benchmarks/bench_measures.py [--repetitions 7] [--images 100] [--size 32] [--labels 9]

One process and one thread; the methods take turns, and medians are compared. Prints a table, and as the last line the
same as JSON. Only ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from skimage.filters.rank import entropy
from skimage.measure import label, regionprops
from torch import Tensor
from torch.nn import functional as F

from lis.plain import print_anywhere
from lis.quantify.ellipse import label_moments
from lis.quantify.entropy import LEVELS, part_entropy, window
from lis.quantify.measures import Regions, Runs, luma, measure, region_moments

PAIRS = {"whole labels": 20, "connected regions": 5, "entropy of parts": None}
"""Lowest ratio scikit-image / lis; None: reported only."""
MEASURE_MS = 0.8
"""Highest cost of all five measures, milliseconds per image of 64 × 64 pixels with masks of 32 × 32."""


def compare(repetitions: int, images: int, size: int, labels: int) -> dict[str, Any]:
    """Milliseconds per image of every method, and the ratios; an image is twice as large as its mask."""
    masks, image = _scene(images, size, labels)
    methods = _methods(masks, image, labels)
    runs: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repetitions):
        for name, method in methods.items():
            start = time.perf_counter()
            method()
            runs[name].append((time.perf_counter() - start) / images * 1e3)
    median = {name: statistics.median(times) for name, times in runs.items()}
    ratio = {name: median[f"{name}, scikit-image"] / median[f"{name}, lis"] for name in PAIRS}
    sizes = {
        "images": images,
        "size": size,
        "labels": labels,
        "regions": len(Regions.of(Runs.of(masks), labels).owner) / images,
    }
    target = {"ratio": PAIRS, "measure_ms": MEASURE_MS}
    return {"sizes": sizes, "repetitions": repetitions, "median_ms": median, "ratio": ratio, "target": target}


def _methods(masks: Tensor, image: Tensor, labels: int) -> dict[str, Callable[[], object]]:
    brightness = F.avg_pool2d(luma(image), 2)
    levels = (brightness * LEVELS).clamp(0, LEVELS - 1).to(torch.uint8).numpy()
    return {
        "whole labels, lis": partial(label_moments, masks, labels),
        "whole labels, scikit-image": partial(_whole_by_loop, masks.numpy()),
        "connected regions, lis": partial(region_moments, masks, labels),
        "connected regions, scikit-image": partial(_regions_by_loop, masks.numpy()),
        "entropy of parts, lis": partial(part_entropy, brightness, masks, labels),
        "entropy of parts, scikit-image": partial(_entropy_by_loop, levels, masks.numpy(), labels),
        "all measures, lis": partial(measure, masks, image, labels),
    }


def _whole_by_loop(masks: np.ndarray) -> list[tuple[float, float, float]]:
    return [_read(region) for mask in masks for region in regionprops(mask)]


def _regions_by_loop(masks: np.ndarray) -> list[tuple[float, float, float]]:
    return [_read(region) for mask in masks for region in regionprops(label(mask, connectivity=2))]


def _read(region: Any) -> tuple[float, float, float]:
    return region.area, region.eccentricity, region.orientation


def _entropy_by_loop(levels: np.ndarray, masks: np.ndarray, labels: int) -> list[np.ndarray]:
    footprint = np.ones((window(*masks.shape[1:]),) * 2, np.uint8)
    pairs = zip(levels, masks, strict=True)
    return [entropy(level, footprint, mask=mask == k) for level, mask in pairs for k in range(1, labels + 1)]


def _scene(images: int, size: int, labels: int) -> tuple[Tensor, Tensor]:
    """Smooth masks, a third of them background, and images of twice their size with a grain."""
    rng = np.random.default_rng(0)
    sigma = size / 11
    fields = gaussian_filter(rng.standard_normal((images, labels + 1, size, size)), (0, 0, sigma, sigma))
    fields[:, 0] += np.quantile(fields.max(1) - fields[:, 0], 0.3)
    colours = gaussian_filter(rng.standard_normal((images, 3, 2 * size, 2 * size)), (0, 0, 4, 4))
    pictures = np.tanh(8 * colours + 0.1 * rng.standard_normal((images, 3, 2 * size, 2 * size)))
    return torch.from_numpy(fields.argmax(1)), torch.from_numpy(pictures).float()


def _table(result: dict[str, Any]) -> str:
    median, rows = result["median_ms"], [f"{'ms per image':20}{'lis':>8}{'scikit-image':>14}{'ratio':>8}{'target':>8}"]
    for name, target in PAIRS.items():
        ours, theirs = (median[f"{name}, {method}"] for method in ("lis", "scikit-image"))
        wanted = "" if target is None else f"≥ {target}"
        rows.append(f"{name:20}{ours:8.3f}{theirs:14.3f}{result['ratio'][name]:8.1f}{wanted:>8}")
    rows.append(f"{'all measures':20}{median['all measures, lis']:8.3f}{'':22}{f'≤ {MEASURE_MS}':>8}")
    return "\n".join(rows)


def main() -> None:
    """The command line."""
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"repetitions": 7, "images": 100, "size": 32, "labels": 9}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    result = compare(**vars(arguments))
    print(_table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
