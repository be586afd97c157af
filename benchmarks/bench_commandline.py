"""What the command line answers and refuses, against a bare Hydra program: processor time, one process per answer.

    python benchmarks/bench_commandline.py [--repetitions 9]

The bare program has the same groups, options and keys in YAML files, without schemas, and does nothing. Prints a table,
and as the last line the same as JSON. Only ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lis.compose import composer
from lis.plain import print_anywhere
from lis.stages import read, register

ROOT = Path(__file__).parents[1]
QUERIES = {
    "--help": ["--help"],
    "--cfg job": ["--cfg", "job"],
    "--stages": ["--stages"],
    "completion": ["-sc", "query=bash"],
    "misspelt key": ["sede=1"],
    "misspelt option": ["link=fc_3"],
    "bad value": ["pairs.train=abc"],
}
"""What is typed; a bare program lists no stages and shows its settings instead, and takes any value, and ends."""
TARGET = 1.5
"""Highest ratio lis / bare."""
PROGRAM = """\
import hydra
from omegaconf import DictConfig

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None: ...

main()
"""


def compare(repetitions: int, folder: Path) -> dict[str, Any]:
    """Medians of both programs over interleaved runs, and their ratios."""
    write_bare(folder)
    programs = {"lis": ["-m", "lis.run"], "bare": [str(folder / "program.py")]}
    seconds: dict[str, dict[str, list[float]]] = {query: {name: [] for name in programs} for query in QUERIES}
    for _ in range(repetitions):
        for query, arguments in QUERIES.items():
            for name, program in programs.items():
                typed = ["--cfg", "job"] if name == "bare" and query == "--stages" else arguments
                seconds[query][name].append(_processor_time([*program, *typed], folder))
    medians = {query: {name: statistics.median(runs) for name, runs in both.items()} for query, both in seconds.items()}
    ratios = {query: both["lis"] / both["bare"] for query, both in medians.items()}
    return {"repetitions": repetitions, "median": medians, "ratio": ratios, "target": TARGET}


def write_bare(folder: Path) -> None:
    """A program in `program.py` with `conf/`: groups, options and keys of a run, whose groups say what they do here."""
    read()
    register()
    with composer() as each:
        config = each.composed([])
        options = {group: [name for name in each.options(group) if name[:5] != "base_"] for group in each.groups}
    choices = {group: name for group, name in config.hydra.runtime.choices.items() if group in options}
    groups = OmegaConf.to_container(config)
    if not isinstance(groups, dict):
        raise TypeError(f"the configuration is {type(groups).__name__}: expected a mapping")
    del groups["hydra"]
    for group, names in options.items():
        text = OmegaConf.to_yaml(groups.pop(group, {}))
        for name in names:
            file = folder / "conf" / group / f"{name}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    defaults = [*({group: name} for group, name in choices.items()), "_self_"]
    (folder / "conf" / "config.yaml").write_text(OmegaConf.to_yaml({"defaults": defaults, **groups}))
    (folder / "program.py").write_text(PROGRAM)


def _processor_time(arguments: list[str], folder: Path) -> float:
    """Seconds of the processor that a program takes, with those of the system."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COMP_LINE": "python program.py lin"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _table(result: dict[str, Any]) -> str:
    rows = [f"{'seconds of the processor':26}{'lis':>8}{'bare':>8}{'ratio':>8}{'target':>8}"]
    for query, both in result["median"].items():
        rows.append(f"{query:26}{both['lis']:8.3f}{both['bare']:8.3f}{result['ratio'][query]:8.2f}{f'≤ {TARGET}':>8}")
    return "\n".join(rows)


def main() -> None:
    """The command line."""
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = compare(arguments.repetitions, Path(folder))
    print(_table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
