"""Inputs as people have them, and what is said of those that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from torch import Tensor

import lis
from lis.api.keywords import literal, overrides_of
from lis.units.perturbation import Perturbation


@pytest.fixture(scope="module")
def study(shared_store: Path) -> lis.Study:
    return lis.study(size="smoke", device="cpu", store=shared_store)


@pytest.fixture(scope="module")
def r(study: lis.Study) -> Tensor:
    return study.pairs("test")["r"][:2]


@pytest.mark.parametrize(
    "kind",
    [
        lambda r: r,
        lambda r: r.numpy(),
        lambda r: r.tolist(),
        lambda r: list(r),
        lambda r: r.double().requires_grad_(),
        lambda r: r.numpy().astype(np.float64)[::-1][::-1],
    ],
    ids=["tensor", "array", "lists", "list of tensors", "double with gradient", "strided"],
)
def test_numbers_of_any_kind(study: lis.Study, r: Tensor, kind: Any) -> None:
    assert torch.equal(study.tune(kind(r), unit=12, steps=2).w, study.tune(r, unit=12, steps=2).w)


def test_pictures_of_any_kind(study: lis.Study, tmp_path: Path) -> None:
    image = study.look(study.pairs("test")["w"][0]).image
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.save(tmp_path / "dog.png")
    expected = study.encode(image)
    assert expected.shape == (study.classifier.units,)
    kinds = [picture, tmp_path / "dog.png", str(tmp_path / "dog.png"), image.numpy(), np.asarray(picture)]
    assert all(torch.equal(study.encode(each), expected) for each in kinds)
    assert torch.equal(study.encode([picture, tmp_path / "dog.png"]), expected.expand(2, -1))
    assert torch.equal(study.tune(picture, unit=12, steps=2).w, study.tune(expected, unit=12, steps=2).w)
    large = picture.resize((200, 128)), study.encode(np.asarray(picture.resize((200, 128))))
    assert torch.equal(study.encode(large[0]), large[1])


def test_images_of_the_generator_are_encoded_as_they_are(study: lis.Study, r: Tensor) -> None:
    with torch.no_grad():
        image = study.generator.synthesize(study.pairs("test")["w"][:2])
    assert torch.equal(study.encode(image), r)


def test_classes_by_name_and_by_index(study: lis.Study, r: Tensor) -> None:
    named, numbered = (study.tune(r, unit=12, steps=2, classes=c) for c in (["pug", "chihuahua"], np.array([1, 2])))
    assert named.answers.equals(numbered.answers) and named.answers["class"].unique().tolist() == ["pug", "chihuahua"]
    assert study.tune(r, unit=12, steps=2).answers["class"].unique().tolist() == ["border_collie"]


WRONG: dict[str, tuple[Any, str]] = {
    "width": (lambda s, r: s.tune(r[:, :7], unit=1), r"r has shape \[2, 7\]: expected \[n, 256\] or .* PartNet"),
    "dimensions": (lambda s, r: s.tune(r[None, None], unit=1), r"r has shape \[1, 1, 2, 256\]: .* s.encode"),
    "w for r": (lambda s, r: s.tune(s.pairs()["w"], unit=1), r"as wide as style codes: s.look\(w\).r"),
    "r for w": (lambda s, r: s.look(r), r"w has shape \[2, 256\]: .*as wide as activations: s.link\(r\)"),
    "text": (lambda s, r: s.look("pug"), "w is a str: expected numbers"),
    "ragged": (lambda s, r: s.look([[1, 2], [3]]), "w has rows of different lengths"),
    "objects": (lambda s, r: s.look([None]), "w is an array of object: expected numbers"),
    "complex": (lambda s, r: s.look(torch.zeros(64, dtype=torch.complex64)), "w is a tensor of complex64"),
    "not finite": (lambda s, r: s.look(np.full(64, np.nan)), "w has 64 numbers that are not finite"),
    "empty": (lambda s, r: s.look(np.zeros((0, 64))), r"w has shape \[0, 64\]: expected one or more"),
    "unit": (lambda s, r: s.tune(r, unit=256), "unit=256: expected 0 to 255"),
    "no number": (lambda s, r: s.tune(r, unit=1.5), "unit=1.5: expected a whole number"),
    "nothing": (lambda s, r: s.tune(r), "neither unit nor direction"),
    "both": (lambda s, r: s.tune(r, unit=1, direction="pc:1"), "unit=1 and a direction"),
    "component": (lambda s, r: s.tune(r, direction="pc:0"), "expected pc:1 to pc:256"),
    "vector": (lambda s, r: s.tune(r, direction=[1, 2]), r"direction has shape \[2\]: expected \[256\]"),
    "zero": (lambda s, r: s.tune(r, direction=torch.zeros(256)), "has length 0: expected a finite one above 0"),
    "steps": (lambda s, r: s.tune(r, unit=1, steps=1), "steps=1: expected 2 or more"),
    "class": (lambda s, r: s.tune(r, unit=1, classes="pugg"), "classes='pugg': .*did you mean pug?"),
    "class index": (lambda s, r: s.counterfactual(r, target=9), "target=9: expected 0 to 4"),
    "classes": (lambda s, r: s.counterfactual(r, target=["pug"] * 3), "target has 3 classes for 2 samples"),
    "no way": (lambda s, r: s.counterfactual(r[0], target="border_collie"), "is of that class already"),
    "no file": (lambda s, r: s.encode("dog.png"), "there is no file 'dog.png'"),
    "no picture": (lambda s, r: s.encode(__file__), "no PNG, JPEG or WebP picture"),
    "no channels": (lambda s, r: s.encode(np.zeros((5, 5))), r"pictures has shape \[5, 5\]"),
    "range": (lambda s, r: s.encode(np.full((3, 64, 64), 7.0)), "pictures lies between 7 and 7"),
    "integers": (lambda s, r: s.encode(np.zeros((3, 64, 64), int)), "pictures holds int64: expected uint8"),
    "split": (lambda s, r: s.pairs("tets"), "unknown split 'tets'"),
    "column": (lambda s, r: s.pairs()["rr"], r"pairs\['rr'\]: expected one of r, w"),
    "of": (lambda s, r: s.pairs().of("pugg"), "did you mean pug?"),
    "picture for w": (lambda s, r: s.look(np.zeros((3, 64, 64), np.uint8)), r"w has .*pictures.*s.link\(s.encode\("),
    "image for w": (lambda s, r: s.look(torch.zeros(2, 3, 64, 64)), r"w has .*pictures.*s.link\(s.encode\("),
    "picture for r": (lambda s, r: s.tune(np.zeros((3, 64, 64), np.uint8), unit=1), r"r has .*pictures.*s.encode\("),
    "list of pictures": (lambda s, r: s.tune([np.zeros((64, 64, 3), np.uint8)], unit=1), r"r has .*s.encode\("),
    "ragged tensors": (lambda s, r: s.look([r[0], r[0, :3]]), "w has rows of different lengths"),
    "ragged parts": (lambda s, r: s.look([r[0], 1.0]), "w has rows of different lengths"),
    "sparse": (lambda s, r: s.look(torch.zeros(2, 64).to_sparse()), "w is a sparse tensor: .*to_dense"),
    "meta": (lambda s, r: s.look(torch.zeros(2, 64, device="meta")), "w is a meta tensor: expected"),
    "meta picture": (lambda s, r: s.encode(torch.zeros(3, 64, 64, device="meta")), "pictures is a meta tensor"),
    "a picture and none": (lambda s, r: s.encode([Image.new("RGB", (9, 9)), None]), "pictures is a list: expected"),
    "nested pictures": (lambda s, r: s.encode([[Image.new("RGB", (9, 9))]]), r"pictures has shape \[1, 1, 9, 9, 3\]"),
    "floats and bytes": (
        lambda s, r: s.encode([torch.zeros(3, 64, 64) - 1, np.zeros((64, 64, 3), np.uint8)]),
        "pictures holds float32 and uint8: expected one of them",
    ),
    "ToTensor": (lambda s, r: s.encode(torch.rand(3, 64, 64)), r"pictures lies between .* x \* 2 - 1"),
    "no index": (lambda s, r: s.pairs()[None], r"pairs\[None\]: expected"),
    "fraction": (lambda s, r: s.pairs()[1.0], r"pairs\[1.0\]: expected"),
    "truth": (lambda s, r: s.pairs()[True], r"pairs\[True\]: expected"),
    "mask": (lambda s, r: s.pairs()[[True, False]], r"pairs\[\[True, False\]\]: expected .*150"),
    "unit of another": (
        lambda s, r: s.tune(r, direction=Perturbation.of_unit(256, 0, 1)),
        "unit 256: expected 0 to 255, the classifier's units",
    ),
    "direction of another": (
        lambda s, r: s.tune(r, direction=Perturbation.along("d", torch.ones(5), 0, 1)),
        r"direction 'd' has shape \[5\]: expected \[256\]",
    ),
    "no range": (
        lambda s, r: s.tune(r, direction=Perturbation.of_unit(1, 0, float("nan"))),
        "unit 1 from 0 to nan: expected finite numbers",
    ),
}  # fmt: skip


def test_pictures_of_different_sizes_and_kinds_together(study: lis.Study) -> None:
    picture = study.look(study.pairs("test")["w"][0]).image.movedim(0, -1).numpy()
    large = np.asarray(Image.fromarray(picture).resize((200, 128)))
    expected = torch.stack([study.encode(picture), study.encode(large)])
    torch.testing.assert_close(study.encode([picture, large]), expected)
    torch.testing.assert_close(study.encode([Image.fromarray(picture), torch.from_numpy(large.copy())]), expected)


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named_with_the_remedy(study: lis.Study, r: Tensor, name: str) -> None:
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call(study, r)


def test_pairs_are_indexed(study: lis.Study) -> None:
    pairs = study.pairs("test")
    assert len(pairs) == 150 and len(pairs[3]) == 1 and len(pairs[-2:]) == 2 and len(pairs[[1, 4]]) == 2
    assert torch.equal(pairs[pairs.class_index == 1].r, pairs.of("pug").r)
    assert len(pairs[[]]) == 0 and pairs[np.array([1, 0, 1], np.uint8)].sample_index.tolist() == [1, 0, 1]
    assert pairs[149].class_name.tolist() == ["weimaraner"]
    with pytest.raises(IndexError):
        pairs[150]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        -2.5,
        1e-5,
        1e30,
        "it's, a = {b}: [c]",
        "",
        "null",
        "${seed}",
        "a\\",
        "\\'",
        [1, "a,b"],
        {"a": None},
    ],
    ids=repr,
)
def test_a_value_comes_through_the_grammar_as_it_is(value: Any) -> None:
    (parsed,) = OverridesParser.create().parse_overrides([f"key={literal('key', value)}"])
    got = parsed.value()
    assert got == (value.replace("${", r"\${") if isinstance(value, str) else value)  # as OmegaConf reads it


def test_keywords_are_overrides(shared_store: Path) -> None:
    given = {"pairs.train": np.int64(61), "labels": {"folder": None}, "counterfactuals": {"pairs": ["pug-chihuahua"]}}
    study = lis.study("view.steps=5", size="smoke", store=shared_store, seed=3, **given)
    settings = study.settings
    assert (settings.pairs.train, settings.pairs.test, settings.view.steps, settings.seed) == (61, 30, 5, 3)
    assert settings.counterfactuals.pairs == ["pug-chihuahua"] and settings.store == str(shared_store)
    assert overrides_of({"device": torch.device("cpu")}) == ["device='cpu'"]
    assert overrides_of({"experiment": "fig3"}) == ["+experiment='fig3'"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"classes": "dogz"}, "did you mean dogs?"),
        ({"clasifier": "partnet"}, "did you mean classifier?"),
        ({"pairs": {"trian": 3}}, "did you mean pairs.train?"),
        ({"seed": object()}, "seed is of the type object: expected None"),
        ({"classes": ["pug", "cat"]}, "no class 'cat'"),
        ({"labels": {"folder": "no/such"}}, "labels.folder=.*no/such: expected the folder"),
        ({"size": "smoke", "pairs": {"train": 0}}, "pairs.train=0: expected at least 2"),
    ],
)
def test_keywords_that_do_not_fit(keys: dict[str, Any], message: str, shared_store: Path) -> None:
    with pytest.raises(ValueError, match=message):
        lis.study(store=shared_store, **keys)
