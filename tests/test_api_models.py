"""Models as objects: a study of a user's own generator and classifier, and of one of them beside a library's."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator

import lis
from lis.classifiers.classifier import ready
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


class Other(FakeClassifier):
    """Another network, which calls the classes in another order."""

    def __init__(self, generator: FakeGenerator) -> None:
        super().__init__(generator, class_names=("cat", "ant", "bee"))
        self.fingerprint += "-other"


def test_a_witness_is_asked_what_the_pictures_are(own: Any) -> None:
    generator, classifier, study = own
    given: dict[str, Any] = {"gan": generator, "classifier": classifier, "counterfactuals.lambda2": 0.1}
    given |= {"classes": NAMES, "size": "smoke", "store": study.settings.store}
    before, asked = lis.study(**given), lis.study(**given, witness=Other(generator))
    settings = asked.settings.counterfactuals.witness
    assert settings is not None and settings._target_ == "test_api_models.Other"
    assert "Other, 16 units" in asked._repr_html_() and "witness" not in before._repr_html_()
    pairs = study.pairs("test").of("ant")[:2]
    alone, result = (each.counterfactual(pairs, target="bee") for each in (before, asked))
    assert result.success.all()
    assert alone.others == {} and "witness" not in alone.table and "the witness" not in alone._repr_html_()
    assert result.shift.equal(alone.shift)
    called = {"ant": "cat", "bee": "ant", "cat": "bee"}
    assert result.others == {"witness": tuple(called[name] for name in result.table["after"])}
    assert result.table["witness"].tolist() == list(result.others["witness"])
    bee, ant = (result.others["witness"].count(name) for name in ("bee", "ant"))
    page = " ".join(html.unescape(result._repr_html_()).split())
    assert "the witness calls it the target" in page and f"{bee} of 2 (the original: {ant})" in page


def test_a_search_that_is_held_near_is_that_of_the_stage(own: Any) -> None:
    generator, classifier, study = own
    given: dict[str, Any] = {"gan": generator, "classifier": classifier, "classes": NAMES, "size": "smoke"}
    given |= {"store": study.settings.store, "counterfactuals.lambda2": 0.1, "counterfactuals.pairs": ["ant-bee"]}
    weights: tuple[Any, ...] = (None, 1.0)
    plain, held = (lis.study(**given, **{"counterfactuals.near": weight}) for weight in weights)
    samples = study.pairs("test").of("ant")[:2]
    before, after = (each.counterfactual(samples, target="bee") for each in (plain, held))
    shift = held.stage("counterfactuals").tensors("counterfactuals")["shift"]
    assert not after.shift.equal(before.shift) and after.shift[: len(shift)].equal(shift[:2])


@pytest.mark.parametrize(
    ("witness", "message"),
    [
        (FakeClassifier, "counterfactuals.witness is the classifier itself"),
        (
            lambda generator: FakeClassifier(generator, units=12, class_names=("ant", "bee", "dog")),
            "the counterfactuals.witness does not know cat; .* the counterfactuals.witness has ant, bee, dog",
        ),
    ],
)
def test_a_witness_that_says_nothing_is_refused(own: Any, witness: Any, message: str) -> None:
    generator, classifier, study = own
    models: dict[str, Any] = {"gan": generator, "classifier": classifier, "witness": witness(generator)}
    with pytest.raises(ValueError, match=message):
        lis.study(classes=NAMES, size="smoke", store=study.settings.store, **models)


def test_a_witness_of_another_world_is_refused_with_its_own_keys(tmp_path: Path) -> None:
    given: dict[str, Any] = {"counterfactuals.witness.domain": "imagenet"}
    with pytest.raises(ValueError, match=r"the counterfactuals.witness was trained on imagenet; .*") as error:
        lis.study(witness="partnet_attributes", store=tmp_path, **given)
    assert str(error.value).endswith("counterfactuals.witness.domain=any") and " classifier." not in str(error.value)


@pytest.mark.slow
def test_a_witness_is_probed_when_it_is_asked_for(shared_store: Path) -> None:
    given: dict[str, Any] = {"counterfactuals.witness.probe": True}
    study = lis.study(size="smoke", witness="partnet_attributes", store=shared_store, **given)
    witness: Any = study.context.witness
    assert len(study.classifier.class_names) == 15 and witness.class_names == study.class_names
    assert set(ready(study.checked)[1]) == {"witness/probe"}  # a run names what its witness follows from


@pytest.mark.parametrize("name", ["gan", "classifier", "witness"])
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
