"""Doctests of the API run in a folder of their own with one store, so that a checkout stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def doctest_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the doctests of a session work."""
    return tmp_path_factory.mktemp("doctests")


@pytest.fixture(autouse=True)
def doctest_in_its_folder(request: pytest.FixtureRequest) -> None:
    """Doctests of `lis.api` read and write there."""
    if isinstance(request.node, pytest.DoctestItem) and request.node.name.startswith("lis.api"):
        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("doctest_folder"))
