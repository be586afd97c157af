"""StyleGAN-XL at the published 256-px ImageNet geometry against a plain reference: time and peak memory on a CPU.

    python benchmarks/bench_stylegan_xl.py [--repetitions 3] [--resolution 256]

One process, the same random weights. The reference (`helpers.stylegan_xl_reference`) inserts zeros, convolves each
channel with the filters and scales the weights per sample. The floor is the time of the network's convolutions alone.
Prints a table, and as the last line the same as JSON. Only ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers import stylegan_xl_reference as reference

from lis.generators.stylegan_xl import StyleGANXL, imagenet
from lis.generators.stylegan_xl.published import randomise
from lis.generators.stylegan_xl.synthesis import DTYPES
from lis.plain import print_anywhere

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Case:
    """One row: what runs, on how many images at once, and how often it is repeated."""

    name: str
    batch: int
    run: Callable[[], object]
    repetitions: int


@dataclass(frozen=True)
class Target:
    """A ratio that has to be reached: `value` of the quotient of two measured rows, at least or at most."""

    name: str
    quantity: str
    above: str
    below: str
    value: float
    at_least: bool = True


TARGETS = (
    Target("times faster, batch 1", "seconds", "reference 1", "float32 1", 5.0),
    Target("times faster, bf16, batch 1", "seconds", "reference 1", "bf16 1", 8.0),
    Target("times faster, batch 4", "seconds", "reference 4", "float32 4", 4.5),
    Target("share of the peak memory, batch 4", "peak_mb", "float32 4", "reference 4", 0.4, at_least=False),
    Target("share of the floor, batch 1", "seconds", "convolutions float32 1", "float32 1", 0.75),
)


def measure(cases: list[Case]) -> dict[str, dict[str, float]]:
    """Seconds per image (median) and peak memory of the process (MB, largest), over interleaved repetitions.

    The reference comes first, so that what the network keeps between images is not counted against it.
    """
    rows: dict[str, list[tuple[float, float]]] = {}
    for turn in range(max(case.repetitions for case in cases)):
        for case in (case for case in cases if turn < case.repetitions):
            rows.setdefault(_key(case), []).append(_once(case))
            logging.info("%s, batch %d: %.2f s per image, %.0f MB", case.name, case.batch, *rows[_key(case)][-1])
    return {
        name: {"seconds": statistics.median(s for s, _ in values), "peak_mb": max(mb for _, mb in values)}
        for name, values in rows.items()
    }


def cases(resolution: int, repetitions: int) -> list[Case]:
    """The reference, the network in both precisions, and its convolutions alone."""
    network = randomise(StyleGANXL(imagenet(resolution)))
    half = StyleGANXL(network.spec, dtype="bf16").load(network.state_dict())
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    ws = {n: network.reference_samples(0, n, 0) for n in (1, 4)}

    def plain(n: int) -> Case:
        return Case("reference", n, lambda: reference.image(network.spec, weights, ws[n]), 1 if n > 1 else 2)

    def ours(name: str, generator: StyleGANXL, n: int) -> Case:
        return Case(name, n, lambda: generator.synthesis(ws[n]), repetitions)

    def floor(name: str, generator: StyleGANXL, n: int) -> Case:
        return Case(f"convolutions {name}", n, lambda: _convolutions(generator, n), repetitions)

    return [
        *(plain(n) for n in (1, 4)),
        *(
            make(name, one, n)
            for n in (1, 4)
            for name, one in (("float32", network), ("bf16", half))
            for make in (ours, floor)
        ),
    ]


def difference(found: Tensor, expected: Tensor) -> dict[str, float]:
    """Largest and root mean square difference of two images."""
    gap = found - expected
    return {"largest": float(gap.abs().max()), "rms": float(gap.square().mean().sqrt())}


def _convolutions(generator: StyleGANXL, n: int) -> None:
    dtype = DTYPES[generator.synthesis.dtype]
    for layer in generator.synthesis.layers:
        size = layer.spec.in_size
        x = torch.ones(n, layer.spec.in_channels, size, size, dtype=dtype).contiguous(memory_format=torch.channels_last)
        F.conv2d(x, layer.weight.to(dtype), padding=layer.spec.kernel - 1)


def _key(case: Case) -> str:
    return f"{case.name} {case.batch}"


def _once(case: Case) -> tuple[float, float]:
    _CLEAR.write_text("5")
    start = time.perf_counter()
    case.run()
    return (time.perf_counter() - start) / case.batch, _peak_mb()


def _peak_mb() -> float:
    return int(re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())[1]) / 1024  # pyright: ignore


@torch.no_grad()
def main() -> None:
    """The command line."""
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=256)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    found = cases(arguments.resolution, arguments.repetitions)
    slow, fast = ([case for case in found if (case.name == "reference") == plain] for plain in (True, False))
    rows = measure(slow)
    for case in fast:
        if case.name in DTYPES and case.batch == 1:
            case.run()  # compiles
    rows |= measure(fast)
    ratios = {t.name: rows[t.above][t.quantity] / rows[t.below][t.quantity] for t in TARGETS}
    print(f"{'':26}{'s / image':>12}{'peak MB':>10}")
    for name, row in rows.items():
        print(f"{name:26}{row['seconds']:12.2f}{row['peak_mb']:10.0f}")
    for t in TARGETS:
        print(f"{t.name:38}{ratios[t.name]:8.2f}   (target {'≥' if t.at_least else '≤'} {t.value})")
    print(json.dumps({"rows": rows, "ratios": ratios}))


if __name__ == "__main__":
    main()
