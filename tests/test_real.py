"""Networks that others trained, as a user brings them: `../shared/real`, where it is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.commandline import ROOT
from torch.nn import functional as F

from lis.dissection.painting import UnitEdit
from lis.generators.editing import edited
from lis.streams import Stream
from lis.testing import check_classifier, check_generator

FOLDER = ROOT.parent / "shared" / "real"
here = pytest.mark.skipif(not (FOLDER / "fashion.py").is_file(), reason=f"the networks are not in {FOLDER}")


@here
def test_networks_of_others_keep_the_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    fashion = __import__("fashion")
    check_generator(fashion.FashionGenerator())
    for classifier in (fashion.FashionClassifier(), fashion.FashionWitness()):
        check_classifier(classifier, size=28)


@here
def test_maps_of_a_generator_of_others_are_edited_where_they_arise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    made = __import__("fashion").FashionGenerator()
    w = made.sample(3, torch.arange(2), Stream("test pairs"))
    _, maps = made.synthesize(w, True)
    low, high = maps["b7"].clone(), maps["b14"].clone()
    low[:, 5], high[:, 7] = 0, 1
    again = F.leaky_relu(made.bn1(made.up0(low)), 0.2)
    for layer, units, value, second in (("b7", [5], 0.0, again), ("b14", [7], 1.0, high)):
        image, edited_maps = edited(made).synthesize_edited(w, UnitEdit(layer, units, value).edits(), True)
        torch.testing.assert_close(image, (2 * torch.sigmoid(made.up1(second)) - 1).expand(-1, 3, -1, -1))
        torch.testing.assert_close(edited_maps["b14"], second)
    with pytest.raises(ValueError, match="no layer 'up0': expected some of b7, b14"):
        edited(made).synthesize_edited(w, UnitEdit("up0", [0]).edits())


def test_where_the_networks_are_missing_it_is_said(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "experiments/real/fashion/run.py", "--folder", tmp_path / "nowhere", "size=smoke"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and not result.stderr
    assert result.stdout == f"skipped: the networks are not in {tmp_path / 'nowhere'} (--folder says where they are)\n"
