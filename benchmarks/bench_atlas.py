"""How fast the atlas of 2,048 units opens and scrolls, in headless Chromium, on made images.

    python benchmarks/bench_atlas.py [--units 2048] [--repetitions 5]

The page times itself and posts the numbers to this program: seconds from the start of the navigation until the first
images are drawn, and the time between frames while a script scrolls to the end of a page and turns it, again and again.
Prints a table, and as the last line the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from lis.plain import print_anywhere
from lis.report.atlas import PAGE, dissected
from lis.report.source import Source

SIDE, TOP, IMAGES = 96, 5, 1000
"""Pixels of an image, images of a unit, different images."""
FRAMES, STEP = 600, 60
"""Frames of the scroll, pixels of each."""
TARGETS = {"seconds": 2.0, "p95": 50.0}
"""At most: seconds until it is drawn, milliseconds between frames."""
TIMER = """
<script>
addEventListener("load", () => requestAnimationFrame(() => requestAnimationFrame(() => {
  const opened = performance.now() / 1000, frames = [];
  let last = performance.now();
  function step(now) {
    frames.push(now - last);
    last = now;
    const before = scrollY;
    scrollBy(0, STEP);
    if (scrollY === before) { document.getElementById("next").click(); scrollTo(0, 0); }
    if (frames.length < FRAMES) requestAnimationFrame(step);
    else fetch("http://127.0.0.1:PORT/", { method: "POST", mode: "no-cors", body: JSON.stringify({ opened, frames }) });
  }
  requestAnimationFrame(step);
})));
</script>
"""


class MadeSource:
    """The artifact of a stage that dissected units, as a page asks a run for it; units and images are random."""

    def __init__(self, units: int) -> None:
        rng = np.random.default_rng(0)
        iou = rng.beta(1, 12, units)
        columns = {"layer": "features", "unit": range(units), "kind": "part", "iou": iou, "control": 0.02, "q": 0.01}
        columns |= {"concept": rng.choice(["head", "ear", "leg", "tail"], units), "dead": False}
        self.units = pd.DataFrame(columns | {"above_chance": iou > 0.04})
        coarse = rng.integers(0, 256, (IMAGES, SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
        self.top = {"image": coarse.repeat(8, 1).repeat(8, 2), "index": rng.integers(0, IMAGES, (units, TOP))}
        self.top["mask"] = rng.random((units, TOP, 6, 6)) > 0.8
        self.top["mask"] = self.top["mask"].repeat(SIDE // 6, 2).repeat(SIDE // 6, 3)

    def has(self, stage: str, *names: str) -> bool:
        """Units were dissected, and nothing else was done."""
        return stage == "dissect"

    def table(self, stage: str, name: str) -> pd.DataFrame:
        """Table "units"."""
        return self.units

    def arrays(self, stage: str, name: str) -> dict[str, np.ndarray]:
        """Tensors "top"."""
        return self.top

    def json(self, stage: str, name: str) -> dict[str, Any]:
        """Facts."""
        return {"layers": {"features": [len(self.units), 7, 7]}, "images": IMAGES, "quantile": 0.99}


class Answer(BaseHTTPRequestHandler):
    """Takes what a page posts."""

    def do_POST(self) -> None:
        """Read it, and end."""
        length = int(self.headers["Content-Length"])
        cast(Any, self.server).answer = json.loads(self.rfile.read(length))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def browser(program: str, page: Path, profile: Path) -> Iterator[None]:
    """A page in a headless browser, which ends with the block."""
    flags = ["--headless", "--no-sandbox", "--remote-debugging-port=0", "--window-size=1300,900"]
    command = [program, *flags, f"--user-data-dir={profile}", page.as_uri()]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def measure(program: str, folder: Path, run: int) -> dict[str, float]:
    """Seconds until the page is drawn, and the 95th percentile and the largest time between frames in milliseconds."""
    server = HTTPServer(("127.0.0.1", 0), Answer)
    server.timeout = 120
    timer = TIMER.replace("PORT", str(server.server_port)).replace("STEP", str(STEP)).replace("FRAMES", str(FRAMES))
    timed = folder / f"timed-{run}.html"
    timed.write_text((folder / PAGE).read_text("utf-8").replace("</body>", f"{timer}</body>"), "utf-8")
    with server, browser(program, timed, folder / f"profile-{run}"):
        server.handle_request()
    answer: dict[str, Any] | None = getattr(server, "answer", None)
    if answer is None:
        raise ValueError(f"{program} has posted nothing within {server.timeout} s: expected the times of {timed}")
    frames = answer["frames"][1:]
    return {"seconds": answer["opened"], "p95": float(np.quantile(frames, 0.95)), "largest": max(frames)}


def compare(units: int, repetitions: int, folder: Path) -> dict[str, Any]:
    """Medians over repetitions, each with a new browser."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        raise ValueError("there is no browser: expected chromium or google-chrome on the path")
    start = time.perf_counter()
    page = dissected(cast(Source, MadeSource(units)))
    files = page.write(folder, [page])
    written = time.perf_counter() - start
    runs = [measure(program, folder, run) for run in range(repetitions)]
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    size = sum(file.stat().st_size for file in files)
    return {"units": units, "repetitions": repetitions, "written": written, "bytes": size, **medians}


def main() -> None:
    """The command line."""
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=2048)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        result = compare(arguments.units, arguments.repetitions, Path(folder))
    print(f"{result['units']} units, {result['bytes'] / 1e6:.1f} MB, written in {result['written']:.1f} s")
    print(f"opens in {result['seconds']:.2f} s (target < {TARGETS['seconds']:g})")
    print(f"frames: p95 {result['p95']:.1f} ms (target < {TARGETS['p95']:g}), largest {result['largest']:.1f} ms")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
