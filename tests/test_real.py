"""Networks that others trained, as a user brings them: `../shared/real`, where it is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commandline import ROOT

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


def test_where_the_networks_are_missing_it_is_said(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "experiments/real/fashion/run.py", "--folder", tmp_path / "nowhere", "size=smoke"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and not result.stderr
    assert result.stdout == f"skipped: the networks are not in {tmp_path / 'nowhere'} (--folder says where they are)\n"
