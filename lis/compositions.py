"""The configurations of the jobs of a sweep: Hydra composes each to check the sweep and to start it, here once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

MOST = 64
"""Configurations that are kept at once, of some megabytes each; others are composed twice."""


class Compositions:
    """Gives a configuration that was composed before to whoever asks for it next, and to nobody else.

    Args:
        compose: makes one of the sweep's and a job's overrides.
    """

    def __init__(self, compose: Callable[[DictConfig, list[str]], DictConfig]) -> None:
        self._compose = compose
        self._unused: dict[tuple[str, ...], DictConfig] = {}
        self._used = set[tuple[str, ...]]()

    def __call__(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """The configuration of a job, which the caller may change."""
        job = tuple(sweep_overrides)
        if job in self._unused:
            self._used.add(job)
            return self._unused.pop(job)
        config = self._compose(master_config, list(sweep_overrides))
        if job not in self._used and len(self._unused) < MOST:
            self._unused[job] = config
        return config


def compose_once(config: DictConfig) -> None:
    """Have Hydra's own launcher take the configurations with which the sweep was checked.

    Other launchers start jobs in other processes, which compose for themselves.

    Args:
        config: of the sweep.
    """
    hydra = GlobalHydra.instance().hydra
    if hydra is not None and str(config.hydra.launcher._target_).endswith(".BasicLauncher"):
        loader = hydra.config_loader
        loader.load_sweep_config = Compositions(loader.load_sweep_config)  # pyright: ignore[reportAttributeAccessIssue]
