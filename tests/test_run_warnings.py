"""What a reader has to know before any finding is believed: each warning just where it is due."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from helpers.called_units import CLASSES, PARTS, artifact, read, statistics
from helpers.findings import make_ctx

from lis.report.findings import Warned, warnings
from lis.report.source import Source, source


def warned(run: Source) -> list[Warned]:
    made = warnings(run)
    assert all(one.sentence.endswith(".") and one.remedy.endswith(".") for one in made)
    return made


@pytest.mark.parametrize(("iou", "weak"), [(0.61, False), (0.59, True), (float("nan"), True)])
def test_a_part_that_is_named_and_found_poorly_is_warned_of(tmp_path: Path, iou: float, weak: bool) -> None:
    """Not one that no finding names."""
    table = pd.DataFrame({"kind": "exact", "class": "all", "label": PARTS, "iou": [iou, 0.1, 0.1]})
    parts = artifact(tmp_path, "segmentation", str(iou), iou=table)
    named = statistics(tmp_path, larger={3: ("ear", "area", 1.0, 0.01)})
    made = warned(read(tmp_path, unit_statistics=named, segmentation=parts))
    assert [one.anchor for one in made] == ["parts"] * weak
    assert all("the ear (IoU" in one.sentence and "leg" not in one.sentence for one in made)
    assert warned(read(tmp_path, unit_statistics=statistics(tmp_path), segmentation=parts)) == []
    assert "was not measured; the findings name the ear" in warned(read(tmp_path, unit_statistics=named))[0].sentence


@pytest.mark.parametrize("conditional", [True, False])
def test_a_class_that_the_classifier_hardly_accepts_is_warned_of(tmp_path: Path, conditional: bool) -> None:
    """Over both splits; where the generator draws the class itself, a rare class is no fault of the classifier."""
    split = {
        f"pairs/{name}": artifact(
            tmp_path, f"pairs/{name}", "", acceptance=pd.DataFrame(
                {"class": CLASSES, "drawn": [100, drawn], "accepted": [90, 30], "rate": [0.9, 30 / drawn]}
            ),
        )
        for name, drawn in (("train", 120), ("test", 200))
    }  # fmt: skip
    ctx = make_ctx(tmp_path, CLASSES)
    ctx.generator.num_classes = 2 * conditional
    made = warned(source(ctx, split))
    assert len(made) == conditional
    assert all("18.8 % of poodle." in one.sentence for one in made)
    assert all("pug" not in one.sentence and "pairs.accept=any" in one.remedy for one in made)
    enough = {"pairs/train": split["pairs/train"]}
    assert warned(source(ctx, enough)) == []


@pytest.mark.parametrize(("along", "beyond", "told"), [("link", 0.6, 1), ("link", 0.4, 0), ("pattern", 0.6, 0)])
def test_images_beyond_the_training_samples_are_warned_of(tmp_path: Path, along: str, beyond: float, told: int) -> None:
    ctx = make_ctx(tmp_path, CLASSES)
    ctx.config.tuning.along = along
    made = warned(source(ctx, {"unit_statistics": statistics(tmp_path, beyond=beyond)}))
    assert not any(one.minor for one in made)
    assert len(made) == told and all("In 60 % of the samples the last image" in one.sentence for one in made)


@pytest.mark.parametrize(("ece", "told"), [(0.03, 0), (0.05, 1)])
def test_a_probe_that_is_not_calibrated_is_warned_of(tmp_path: Path, ece: float, told: int) -> None:
    made = warned(read(tmp_path, probe=artifact(tmp_path, "probe", str(ece), probe={"ece": ece, "ece_bound": 0.04})))
    assert len(made) == told and all("0.050, of a calibrated probe below 0.040" in one.sentence for one in made)


@pytest.mark.parametrize(("asked", "resolution", "told"), [(True, 64, 1), (False, 64, 0), (True, 16, 0)])
def test_lpips_is_missed_where_it_was_asked_for_and_could_be_had(
    tmp_path: Path, asked: bool, resolution: int, told: int
) -> None:
    ctx, reason = make_ctx(tmp_path, CLASSES), "its weights alex.pth are missing; put the file there"
    ctx.config.evaluation.lpips, ctx.generator.resolution = asked, resolution
    made = warned(source(ctx, {"evaluation": artifact(tmp_path, "evaluation", "", left_out={"lpips": reason})}))
    assert len(made) == told and all(one.minor for one in made)
    assert all(one.sentence.endswith("its weights alex.pth are missing.") for one in made)
    assert all(one.remedy == "Put the file there." for one in made)
    assert warned(source(ctx, {"evaluation": artifact(tmp_path, "evaluation", "none", left_out={"moco": "no"})})) == []
