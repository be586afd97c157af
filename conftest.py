"""One store for all tests; doctests of the API run in a folder of their own, so that a checkout stays as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import lis as package  # noqa: F401  # before PyTorch: it says how threads of OpenMP wait
from tests.helpers.commandline import lis

RUN = Path("outputs", "2026-11-27", "23-38-08")
"""What the doctests of `lis.api` that read a run call its folder."""


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all workers, so that experiments and the README's runs share pairs as a user's do."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-store"


@pytest.fixture(scope="session")
def doctest_folder(tmp_path_factory: pytest.TempPathFactory, shared_store: Path) -> Path:
    """Where the doctests of a session work."""
    folder = tmp_path_factory.mktemp("doctests")
    for made in (folder / "outputs", shared_store):
        made.mkdir(exist_ok=True)
    (folder / "outputs" / "store").symlink_to(shared_store)
    return folder


@pytest.fixture(scope="session")
def doctest_run(doctest_folder: Path) -> Path:
    """A run there, for those that read one."""
    code, output = lis("size=smoke", "analysis=unit_statistics", f"hydra.run.dir={RUN}", cwd=doctest_folder)
    assert code == 0, output
    return doctest_folder / RUN


@pytest.fixture(autouse=True)
def doctest_in_its_folder(request: pytest.FixtureRequest) -> None:
    """Doctests of `lis.api` read and write there."""
    if isinstance(request.node, pytest.DoctestItem) and request.node.name.startswith("lis.api"):
        if any(f"{RUN}" in example.source for example in request.node.dtest.examples):
            request.getfixturevalue("doctest_run")
        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("doctest_folder"))
