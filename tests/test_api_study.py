"""A study gives what the command line gives: the same artifacts, the same traversals, the same searches."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.commandline import SMALL
from helpers.commandline import lis as command
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import lis
from lis.config import conf_folder
from lis.look import Looker
from lis.progress import Progress
from lis.report.wording import number
from lis.units.parts import Parts
from lis.units.perturbation import Perturbation


@pytest.fixture(scope="module")
def study(shared_store: Path) -> lis.Study:
    """Dogs at the smallest size; the stages `unit` and `direction` can be had."""
    view = {"unit": 12, "class_name": "pug", "view": {"samples": 2}, "direction": "classes:pug-chihuahua"}
    search = {"pairs": ["pug-chihuahua"]}
    return lis.study(size="smoke", device="cpu", store=shared_store, counterfactuals=search, **view)


@pytest.fixture(scope="module")
def toys(shared_store: Path) -> lis.Study:
    """Two of the classes in another order."""
    return lis.study(size="smoke", device="cpu", store=shared_store, classes=["chihuahua", "pug"])


@pytest.mark.slow
def test_a_stage_is_that_of_a_run(shared_store: Path, tmp_path: Path, study: lis.Study) -> None:
    stages = "analysis.stages=[link,similarity]"
    code, text = command(*SMALL, stages, f"store={shared_store}", "hydra.run.dir=run", cwd=tmp_path)
    assert code == 0, text
    keys = json.loads((tmp_path / "run" / "summary.json").read_text())["artifacts"]
    assert keys["link"] == study.stage("link").key
    assert keys["similarity"] == study.stage("similarity").key


@pytest.mark.parametrize("stage", ["unit", "direction"])
def test_tuning_is_the_stage_on_its_samples(study: lis.Study, stage: str) -> None:
    asked: dict[str, Any] = {"unit": 12} if stage == "unit" else {"direction": "classes:pug-chihuahua"}
    result, held = study.tune(study.pairs("test").of("pug")[:2], **asked), study.stage(stage)
    for name, values in held.tensors("traversal").items():
        if name not in ("class_index", "sample_index"):
            torch.testing.assert_close(getattr(result, name), values, rtol=0, atol=0, equal_nan=True, msg=name)
    assert result.affected.equals(held.table("affected"))
    assert result.answers["prediction"].tolist() == held.table("steps")["prediction"].tolist()


def test_tuning_without_a_batch_is_a_row_of_that_with_one(study: lis.Study) -> None:
    r = study.pairs("test").of("pug")["r"]
    many, single = study.tune(r[:2], unit=12, steps=3), study.tune(r[1], unit=12, steps=3)
    for name in ("w", "image", "mask", "r", "probability", "prediction", "reencoded_share", "others"):
        assert torch.equal(getattr(many, name)[1], getattr(single, name)), name
    assert single.value.shape == (3,) and single.table["sample"].unique().tolist() == [0]
    assert single.table["value"].unique().tolist() == single.value.tolist()


def test_pairs_of_another_study_keep_their_classes(study: lis.Study, toys: lis.Study) -> None:
    pugs = study.pairs("test").of("pug")[:2]
    assert toys.tune(pugs, unit=12, steps=2).answers["class"].unique().tolist() == ["pug"]
    assert toys.counterfactual(pugs[:1], "chihuahua").origin == ("pug",)
    collies = study.pairs("test").of("border_collie")[:2]
    with pytest.raises(
        ValueError, match="pairs have the class 'border_collie': expected those of this study, chihuahua"
    ):
        toys.tune(collies, unit=12)
    assert toys.tune(collies, unit=12, steps=2, classes="pug").answers["class"].unique().tolist() == ["pug"]


def test_a_counterfactual_does_not_depend_on_where_its_sample_stands(study: lis.Study) -> None:
    r = study.pairs("test").of("pug").r[:3]
    many, single = study.counterfactual(r, "chihuahua"), study.counterfactual(r[1], "chihuahua")
    assert many.steps[1] == single.steps
    torch.testing.assert_close(many.shift[1], single.shift, rtol=1e-4, atol=1e-5)


def test_searches_that_began_at_the_target_are_told_apart(study: lis.Study) -> None:
    c = study.counterfactual(study.pairs("test").of("pug")[:2], "chihuahua")
    p = c.probability_original.clone()
    p[0] = torch.eye(p.shape[1])[c.known.index("chihuahua")]
    c = replace(c, probability_original=p)
    assert ", 2 reached, 1 of them from the start: " in repr(c)
    assert "2 of 2, 1 of them from the start" in c._repr_html_()


def test_results_share_no_memory_with_what_was_given(study: lis.Study) -> None:
    pairs = study.pairs("test").of("pug")[:1]
    for result, given in ((study.look(pairs.w).w, pairs.w), (study.counterfactual(pairs.r, "chihuahua").r, pairs.r)):
        before = given.clone()
        result.zero_()
        assert torch.equal(given, before)


def test_directions_of_every_kind(study: lis.Study, tmp_path: Path) -> None:
    pairs = study.pairs("train")
    vector = pairs.of("chihuahua").r.mean(0) - pairs.of("pug").r.mean(0)
    named = study.tune(pairs[:1], direction="classes:pug-chihuahua", steps=2)
    np.save(tmp_path / "d.npy", vector.numpy())
    kinds = [vector, vector.tolist(), tmp_path / "d.npy", named.along]
    assert all(torch.equal(study.tune(pairs[:1], direction=each, steps=2).w, named.w) for each in kinds)
    moved = study.tune(pairs[:1], direction=Perturbation.of_unit(12, 0.0, 1.0), steps=2)
    assert moved.value.tolist() == [0, 1] and moved.title == "Unit 12" and "0 to 1.00, as given" in moved._repr_html_()


def test_counterfactuals_of_test_pairs_are_those_of_the_stage(study: lis.Study) -> None:
    held = study.stage("counterfactuals")
    table, tensors = held.table("counterfactuals"), held.tensors("counterfactuals")
    rows = table.index.tolist()
    result = study.counterfactual(study.pairs("test").of("pug")[:2], target="chihuahua")
    assert torch.equal(result.shift, tensors["shift"][rows]) and result.steps.tolist() == table["steps"][rows].tolist()
    assert torch.equal(result.reencoded, tensors["reencoded"][rows])
    for name in ("before", "after", "reason", "success"):
        assert result.table[name].tolist() == table[name][rows].tolist()
    assert result.table["probability_after"].tolist() == pytest.approx(table["probability"][rows].tolist())
    assert result.boundary.tolist() == pytest.approx(table["boundary"][rows].tolist(), nan_ok=True)


def test_units_of_a_counterfactual_are_in_standard_deviations(study: lis.Study) -> None:
    r = study.pairs("test").of("pug")["r"][0]
    result = study.counterfactual(r, target=2)
    assert result.shift.shape == r.shape and result.target == ("chihuahua",) and result.origin == ("pug",)
    first = result.units.iloc[0]
    unit = int(first["unit"])
    assert first["change"] == pytest.approx(float(result.shift[unit] / result.std[unit]))
    assert first["reencoded_change"] == pytest.approx(
        float((result.reencoded - result.reencoded_original)[unit] / result.std[unit])
    )
    assert result.units["change"].abs().is_monotonic_decreasing


def test_a_look_is_that_of_every_stage(study: lis.Study) -> None:
    w, parts = study.pairs("test")["w"][:4], Parts.of(study.context)
    expected = Looker(study.context, study.context.batches(), parts.masks, parts.labels)(w)
    look = study.look(w.reshape(2, 2, -1))
    assert look.image.shape == (2, 2, 3, 64, 64) and look.mask.shape[:2] == (2, 2)
    for name in ("r", "logits", "probability", "measures", "prediction"):
        torch.testing.assert_close(getattr(look, name).flatten(0, 1), getattr(expected, name), equal_nan=True)
    assert look.predicted.shape == (2, 2) and look.answers["prediction"].tolist() == look.predicted.ravel().tolist()
    area = look.table.query("sample == 3 and label == 'ear' and measure == 'area'")["measured"].item()
    assert area == pytest.approx(float(look.measures[1, 1, study.labels.index("ear"), 0]), nan_ok=True)


def test_results_can_be_differentiated_through(study: lis.Study) -> None:
    pairs = study.pairs("test")[:1]
    results = study.tune(pairs, unit=12, steps=2).r, study.look(pairs).r, study.counterfactual(pairs, "pug").reencoded
    for r in results:
        study.classifier.head(r.requires_grad_()).sum().backward()
        assert r.grad is not None and r.grad.any()


def test_no_tensor_is_one_of_inference(study: lis.Study) -> None:
    t = study.tune(study.pairs("test")[:1], unit=12, steps=2)
    assert not any(x.is_inference() for x in [*vars(t).values(), *vars(t.traversal).values()] if torch.is_tensor(x))


def test_studies_are_made_in_threads(shared_store: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda seed: lis.study(size="smoke", device="cpu", store=shared_store, seed=seed), range(4))
        assert [study.settings.seed for study in made] == [0, 1, 2, 3]


def test_nothing_global_is_changed(shared_store: Path) -> None:
    threads, handlers = torch.get_num_threads(), list(logging.getLogger().handlers)
    first = lis.study(size="smoke", device="cpu", store=shared_store)
    second = lis.study(size="smoke", device="cpu", store=shared_store, classes="fungi", seed=1)
    first.tune(first.pairs("test")[:1], unit=12)
    assert second.settings.seed == 1 and first.settings.seed == 0
    assert first.class_names[0] == "border_collie" and second.class_names[0] == "agaric"
    assert torch.get_num_threads() == threads and logging.getLogger().handlers == handlers


def test_a_study_inside_a_program_of_hydra(shared_store: Path) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        before = GlobalHydra.instance().hydra
        study = lis.study(size="smoke", device="cpu", store=shared_store, seed=5)
        assert GlobalHydra.instance().hydra is before and study.settings.seed == 5
        assert compose("config", ["seed=7"]).seed == 7
    assert not GlobalHydra.instance().is_initialized()


def test_stages_are_checked_where_an_analysis_is_chosen(shared_store: Path) -> None:
    few: dict[str, Any] = {"size": "smoke", "store": shared_store, "pairs": {"test": 10}}
    assert lis.study(**few).settings.analysis.stages == ["link"]
    for overrides, keys in (((), {"analysis": "link"}), (("analysis=link",), {})):
        with pytest.raises(ValueError, match=r"similarity.examples=20: expected at most"):
            lis.study(*overrides, **few, **keys)


def test_lines_of_progress_are_told(shared_store: Path) -> None:
    lines = list[str]()
    assert list(Progress(every=-1, tell=lines.append).track("ab", label="letters")) == ["a", "b"]
    assert lines == ["letters: 1 of 2", "letters: 2 of 2"]


def test_importing_is_light() -> None:
    code = (
        "import lis, sys; 'study' in dir(lis); print(sorted({'torch', 'hydra', 'numpy', 'lis.api'} & {*sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("settings", "expected"), [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")]
)
def test_threads_that_wait_leave_their_core_unless_the_user_says_how(settings: dict[str, str], expected: str) -> None:
    """Known before PyTorch reads it."""
    code = "import lis.run, os, sys; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    result = subprocess.run(
        [sys.executable, "-c", code], env=clean | settings, capture_output=True, text=True, check=True
    )
    assert result.stdout == f"False {expected}\n"


def test_what_is_offered_is_there() -> None:
    assert all(getattr(lis, name) is not None for name in lis.__all__)
    with pytest.raises(AttributeError, match="no attribute 'studdy': expected one of AblationResult, ContractError"):
        lis.studdy  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("units", "the stage units is now called unit_statistics"),
        ("unit_statistic", "did you mean unit_statistics?"),
        ("classifier", "expected one of pairs/train"),
    ],
)
def test_a_stage_that_is_not_there(study: lis.Study, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study.stage(name)


def test_a_table_that_is_not_there(study: lis.Study) -> None:
    with pytest.raises(ValueError, match=r"stage 'link': table\('unit'\): expected one of path, units; did you mean"):
        study.stage("link").table("unit")
    assert study.stage("link").json("fit")["samples"] == 300 and study.stage("link").tensors("link")["coef"].ndim == 2


def test_a_stage_whose_store_is_gone(study: lis.Study, tmp_path: Path) -> None:
    stage = study.stage("link")
    gone = replace(stage, artifact=replace(stage.artifact, path=tmp_path / "gone"))
    for read, name in ((gone.table, "units"), (gone.tensors, "link"), (gone.json, "fit")):
        with pytest.raises(ValueError, match=r"stage 'link': .*gone.* is no longer there"):
            read(name)


def test_every_split_is_told_of(study: lis.Study) -> None:
    assert all(f"`{split}`" in (study.pairs.__doc__ or "") for split in ("train", "test", "tuning"))


def test_how_far_a_unit_itself_moves_stands_beside_how_far_the_others_do(study: lis.Study) -> None:
    t = study.tune(study.pairs("test").first(1), unit=12, steps=3)
    std = study.pairs("train").r[:, 12].std(correction=0)
    torch.testing.assert_close(t.own, (t.r[:, -1, 12] - t.r[:, 0, 12]) / std)
    torch.testing.assert_close(t.own, t.reencoded_share * (t.along.high - t.along.low) / std)
    page, warned = t._repr_html_(), "The other units move more than the unit that is tuned"
    assert (warned in page) == bool(t.others.nanmean() >= t.own.nanmean().abs())
    assert f"the unit itself moves {number(float(t.own.mean()), 2)} of its standard deviations" in page


@pytest.mark.parametrize(("on", "off", "warned"), [(0.3, 0.8, True), (-2.0, 0.8, False), (0.8, 0.8, True)])
def test_pictures_in_which_the_others_move_more_are_called_no_evidence(
    study: lis.Study, on: float, off: float, warned: bool
) -> None:
    t = study.tune(study.pairs("test")[0], unit=12, steps=2)
    t = replace(t, own=torch.tensor(on), others=torch.tensor(off))
    assert ("no evidence of its meaning" in t._repr_html_()) == warned


def test_the_step_nearest_to_the_sample_itself_is_marked(study: lis.Study) -> None:
    pairs = study.pairs("test").first(1)
    t = study.tune(pairs, unit=12, steps=7)
    nearest = (t.value - pairs.r[:, 12, None]).abs().argmin(1)
    marked = [[k for k, text in enumerate(t._captions(n, range(7))) if "as it is" in text] for n in range(len(pairs))]
    assert marked == [[k] for k in nearest.tolist()]


def test_the_link_takes_what_the_study_takes(study: lis.Study) -> None:
    pairs = study.pairs("test")[:2]
    w = study.link.module(pairs.r)
    assert torch.equal(study.link(pairs), w) and torch.equal(study.link(pairs.r.tolist()), w)
    assert torch.equal(study.link(pairs.r[1].double().numpy()), study.link(pairs.r[1]))
    torch.testing.assert_close(
        study.link(pairs.r[0]) - study.link(pairs.r[0] - torch.eye(256)[3]), study.link.direction(3)
    )
    with pytest.raises(ValueError, match=r"r has shape \[2, 64\]: expected .* these are as wide as style codes"):
        study.link(pairs.w)
    with pytest.raises(ValueError, match="unit=256: expected 0 to 255"):
        study.link.direction(256)


def test_a_stage_says_what_its_columns_are(study: lis.Study) -> None:
    stage = study.stage("link")
    assert "step_norm_low" in stage.doc and "step_norm_low" in stage._repr_html_()
