"""The settings of a run from what a person types or passes: the command line and the Python API share it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir

from lis.config import RunConfig, conf_folder
from lis.config.overrides import anchored, spelled
from lis.stages import register
from lis.validation import typed


def composed(overrides: Sequence[str], start: Path) -> RunConfig:
    """The settings that some overrides ask for, with paths that are absolute.

    Args:
        overrides: as they are typed behind `python -m lis.run`: `link=fc_l2`, `pairs.train=60`, `class=pug`.
        start: the folder that relative paths begin in.

    Raises:
        ValueError: a key without a value, or a name of an older version.
        HydraException: an unknown group, option or key, or a value of the wrong type.
    """
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        return anchored(typed(compose("config", spelled(overrides))), start)
