"""Models as objects: a study of a user's own generator and classifier, and of one of them beside a library's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator

import lis
from lis.classifiers.partnet import PartNet
from lis.generators.partworld import PartWorld


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[FakeGenerator, FakeClassifier, lis.Study]:
    generator = FakeGenerator()
    classifier = FakeClassifier(generator)
    store = tmp_path_factory.mktemp("own") / "store"
    return (
        generator,
        classifier,
        lis.study(gan=generator, classifier=classifier, classes=NAMES, size="smoke", store=store),
    )


def test_the_objects_themselves_are_used(own: Any) -> None:
    generator, classifier, study = own
    assert study.generator is generator and study.classifier is classifier
    assert study.settings.gan._target_ == "helpers.fakes.FakeGenerator"
    assert study.class_names == NAMES and study.labels == ()
    assert repr(study) == "Study of FakeClassifier (16 units) through FakeGenerator (8 pixels): ant, bee, cat"


def test_everything_works_without_parts(own: Any) -> None:
    _, _, study = own
    pairs = study.pairs("test")
    look, tuned = study.look(pairs.w[:2]), study.tune(pairs[:2], unit=3, steps=3)
    torch.testing.assert_close(look.r, pairs.r[:2])
    assert look.measures.shape == (2, 0, 5) and not len(look.table)
    assert len(tuned.answers) == 6 and not len(tuned.table)
    result = study.counterfactual(pairs[:2], target="cat")
    assert result.shift.shape == (2, 16) and set(result.table["target"]) == {"cat"}
    assert len(study.stage("similarity").tables)
    assert all("data:image/png" in each._repr_html_() for each in (pairs, look, tuned, result))


def test_a_generator_of_ones_own_with_a_classifier_of_the_package(shared_store: Path) -> None:
    generator = PartWorld(["pug", "chihuahua"])
    study = lis.study(gan=generator, classes=["pug", "chihuahua"], size="smoke", store=shared_store)
    assert study.generator is generator and isinstance(study.classifier, PartNet)
    assert vars(study.settings.segmenter)["network"] == "projected"
    assert study.tune(study.pairs()[:1], unit=3, steps=2).mask.shape[-2:] == (1, 1)


def test_settings_of_an_object_can_be_given(own: Any, tmp_path: Path) -> None:
    generator, classifier, _ = own
    given = {"gan.truncation": 0.5, "classifier.domain": "any"}
    study = lis.study(gan=generator, classifier=classifier, classes={"names": NAMES[:2]}, store=tmp_path, **given)
    assert study.settings.gan.truncation == 0.5 and study.class_names == NAMES[:2]


def test_a_classifier_is_probed_and_trained_when_it_is_asked_for(shared_store: Path) -> None:
    given: dict[str, Any] = {"classifier.probe": True}
    study = lis.study(size="smoke", store=shared_store, **given)
    assert len(study.checked.classifier.class_names) == 15 and "context" not in vars(study)
    assert "PartNet, 256 units, a linear probe of 5 classes" in study._repr_html_()
    assert study.classifier.class_names == study.class_names
    assert study.look(study.pairs("test").w[:2]).logits.shape == (2, 5)


def test_a_network_of_a_library_has_its_name(shared_store: Path) -> None:
    given: dict[str, Any] = {"classifier.model": "resnet18", "classifier.weights": "random", "classifier.domain": "any"}
    study = lis.study(classifier="resnet50", classes={"names": ["pug"]}, store=shared_store, **given)
    assert repr(study).startswith("Study of resnet18 (512 units) through PartWorld")


class Nothing:
    """No model at all."""


@pytest.mark.parametrize("name", ["gan", "classifier"])
def test_an_object_that_keeps_no_contract_is_refused_on_entry(name: str, tmp_path: Path) -> None:
    models: dict[str, Any] = {name: Nothing()}
    with pytest.raises(lis.ContractError, match=r"Nothing lacks .* of lis.types"):
        lis.study(store=tmp_path / "store", **models)
    assert not (tmp_path / "store").exists()


class Named(FakeGenerator):
    """As settings make one."""

    def __init__(self, class_names: list[str], truncation: float) -> None:
        super().__init__(tuple(class_names))


def test_a_classifier_is_checked_on_images_of_the_generator_that_is_named(tmp_path: Path) -> None:
    """It takes 8 pixels alone."""
    classifier, given = FakeClassifier(FakeGenerator()), {"gan._target_": "test_api_models.Named"}
    study = lis.study(gan="base_object", classifier=classifier, classes=NAMES, store=tmp_path, **given)
    assert study.classifier is classifier


def test_a_class_in_place_of_an_object_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Nothing is a class: expected an object of it, as Nothing\(…\)"):
        lis.study(gan=Nothing)  # pyright: ignore[reportArgumentType]


def test_classes_that_the_objects_do_not_know_are_named(own: Any, tmp_path: Path) -> None:
    generator, classifier, _ = own
    with pytest.raises(ValueError, match=r"generator does not know border_collie.* the generator has ant, bee, cat"):
        lis.study(gan=generator, classifier=classifier, store=tmp_path)
