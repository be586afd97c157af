"""The pictures of a sweep show the same images through every run, chosen by rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.findings import NAMES, examples, make_job

from lis.report.examples import examples as section_of
from lis.report.examples import first_of_each, in_common
from lis.report.jobs import Job, load_jobs
from lis.report.section import Section


def jobs_of(
    root: Path, shown: dict[str, dict[str, torch.Tensor]], links: tuple[str, ...] = ("lr", "fc_l1")
) -> list[Job]:
    """Classifiers with their examples, each with every link."""
    folders = [
        make_job(root / f"{name}-{link}", link, shown=tensors, labels={"classifier": name})
        for name, tensors in shown.items()
        for link in links
    ]
    return load_jobs(folders)[0]


def made(jobs: list[Job]) -> Section:
    section = section_of(jobs)
    assert section is not None
    return section


def shown_by(section: Section, figure: int = 0) -> list[np.ndarray]:
    """The mosaics of a figure; each picture is 192 pixels wide, and 6 lie between two."""
    return [np.asarray(axis.images[0].get_array()) for axis in section.figures[figure].figure.axes]


def test_samples_are_matched_by_class_and_index(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, {"A": examples(3, 4), "B": examples(3, 4, first=2)})
    assert in_common(jobs) == [(name, index) for name in NAMES for index in (2, 3)]


def test_every_classifier_shows_the_same_originals(tmp_path: Path) -> None:
    """One picture: originals, then two links of each classifier; two rows for each of three classes."""
    section = made(jobs_of(tmp_path, {"A": examples(3, 4), "B": examples(3, 4, first=2)}))
    assert [picture.name for picture in section.figures] == ["examples-1"] and not section.notes
    original, first, second = shown_by(section)
    assert original.shape[:2] == (6 * 198 - 6, 192) and first.shape[1] == second.shape[1] == 2 * 198 - 6
    np.testing.assert_array_equal(first, second)
    expected = examples(3, 2, first=2)["image"].float().mean((1, 2, 3))
    found = [original[198 * k : 198 * k + 192].mean() for k in range(6)]
    np.testing.assert_allclose(found, expected, atol=1)


def test_rounding_does_not_part_samples_and_another_image_does(tmp_path: Path) -> None:
    plain, other = examples(2), examples(2, seed=1)
    rounded = plain | {"image": plain["image"] ^ 1}
    assert len(in_common(jobs_of(tmp_path / "0", {"A": plain, "B": rounded}))) == 4
    assert not in_common(jobs_of(tmp_path / "1", {"A": plain, "B": other}))


def test_without_common_samples_each_classifier_has_its_picture(tmp_path: Path) -> None:
    section = made(jobs_of(tmp_path, {"A": examples(2), "B": examples(2, first=5)}))
    assert [picture.caption[:2] for picture in section.figures] == ["A:", "B:"]
    assert section.notes == [
        "No example of border collie and pug was taken by every run, so that each setting has its own pictures; raise "
        "evaluation.examples (now 2) to find some."
    ]


def test_a_class_without_common_samples_is_named(tmp_path: Path) -> None:
    other = examples(2)
    other["sample_index"] = torch.tensor([0, 1, 8, 9])
    section = made(jobs_of(tmp_path, {"A": examples(2), "B": other}))
    assert len(section.figures) == 1 and shown_by(section)[0].shape[0] == 2 * 198 - 6
    assert section.notes == [
        "No example of pug was taken by every run; raise evaluation.examples (now 2) to find some."
    ]


def test_other_worlds_have_their_own_pictures_without_a_remark(tmp_path: Path) -> None:
    """They have the same samples, with other images."""
    worlds = {"World": examples(2), "World (hard)": examples(2, seed=1)}
    folders = [make_job(tmp_path / name, shown=found, labels={"gan": name}) for name, found in worlds.items()]
    section = made(load_jobs(folders)[0])
    assert len(section.figures) == 2 and not section.notes


def test_links_alone_are_rows(tmp_path: Path) -> None:
    folders = [make_job(tmp_path / link, link) for link in ("lr", "fc_l1")]
    section = made(load_jobs(folders)[0])
    (mosaic,) = shown_by(section)
    assert mosaic.shape[:2] == (3 * 198 - 6, 4 * 198 - 6)


def test_many_classifiers_are_shown_in_several_pictures(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, {f"Net {k}": examples(2) for k in range(9)})
    assert [len(shown_by(made(jobs), figure)) for figure in (0, 1)] == [6, 5]


def test_a_page_has_no_more_than_some_pictures(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, {f"Net {k}": examples(1, 1, first=k) for k in range(10)}, links=("lr",))
    section = made(jobs)
    assert len(section.figures) == 8 and "2 more settings" in section.notes[-1]


@pytest.mark.parametrize("count", [1, 4, 20])
def test_the_first_of_each_class_are_chosen(count: int) -> None:
    samples = [(f"class {c}", 3 * k + 1) for c in range(count) for k in range(5)]
    chosen = first_of_each(samples, 6)
    classes = list(dict.fromkeys(name for name, _ in chosen))
    assert len(classes) == min(count, 6) and classes[0] == "class 0" and classes[-1] == f"class {count - 1}"
    for name in classes:
        own = [index for other, index in chosen if other == name]
        assert own == [3 * k + 1 for k in range({1: 5, 4: 1, 20: 1}[count])]


def test_runs_without_examples_have_no_section(tmp_path: Path) -> None:
    folder = make_job(tmp_path / "0", shown={name: tensor[:0] for name, tensor in examples(2).items()})
    assert section_of(load_jobs([folder])[0]) is None
    (folder / "tables/evaluation/examples.safetensors").unlink()
    assert section_of(load_jobs([folder])[0]) is None
