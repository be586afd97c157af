"""Train PartNet on rendered figures: `python experiments/partworld/train_classifier.py classes --steps 1500`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from trainer import begin, train, write_log

from lis.classifiers.partnet import CLASSES, TASKS, read_network
from lis.classifiers.partnet_training import ClassifierFit, save_classifier
from lis.classifiers.tasks import draw_figures

HERE = Path(__file__).parent


def main() -> None:
    """Train one task; weights go into the package, the log beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=6e-3, help="peak learning rate")
    parser.add_argument("--go-on", action="store_true", help="start from the weights that are in the package")
    parser.add_argument("--per-class", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "lis/classifiers/weights")
    options = parser.parse_args()
    begin(options.seed)
    path = options.out / f"partnet_{options.task}.safetensors"
    fit = ClassifierFit(options.task, options.steps, options.rate)
    if options.go_on:
        fit.network.load_state_dict(read_network(path))
    facts = train(fit, partial(draw_figures, options.per_class), options.steps, options.seed)
    save_classifier(fit.network, path)
    run = {"steps": options.steps, "rate": options.rate, "went_on": options.go_on}
    run |= {"images": options.steps * options.per_class * len(CLASSES), **facts}
    write_log(HERE / f"partnet_{options.task}.json", run, options.go_on)


if __name__ == "__main__":
    main()
