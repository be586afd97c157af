"""A run of Weights & Biases beside a run of `lis`, which it neither stops nor slows, whatever the network does.

Everything is written into the run's folder, as wandb does offline: no host is looked up. Online, `lis.upload` sends it
from there, in a process of its own. What wandb raises is a warning: files are the truth, a dashboard is a view of them.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from lis.files import read_json
from lis.folder import recorded
from lis.upload import Upload

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

FOLDER = "wandb"
"""Of a run's folder, in which wandb writes."""
UPLOAD = 60.0
"""Seconds that what was not sent yet is waited for at the end of a run."""
BRIEF = 5.0
"""The same, of one that ends with an error or a signal."""
ROWS = 10_000
"""Rows of the largest table that is sent: wandb takes each of them by itself, in Python."""
_RESUME = "resume.json"
"""In `FOLDER`: wandb's name of the run, and the last step that was logged."""
_AGAIN = "remove it, and the run begins anew on the dashboard"


class Dashboard:
    """One run of wandb. No method raises what wandb or the network does: the first time it is a warning.

    A run in the folder of an earlier one goes on with the same run of wandb, at the next step.

    Args:
        out: the folder of the run; wandb writes into `<out>/wandb`.
        project: its name.
        mode: `offline`, or `online`, where the run is sent while it is written.
        config: settings by name.
        name: of the run.
        group: of the runs that belong together; empty: none.
        job_type: what kind of run it is.

    Raises:
        ValueError: wandb is not installed; or `online` without the key of an account.
    """

    def __init__(
        self,
        out: Path,
        project: str,
        mode: str,
        config: Mapping[str, Any] | None = None,
        *,
        name: str,
        group: str = "",
        job_type: str = "run",
    ) -> None:
        self.out, self._wandb, self._failed = out, _wandb(), False
        self._run: Any = None
        self._upload: Upload | None = None
        server = _server_with_key(self._wandb) if mode == "online" else ""
        self.id, self.step = _resumed(out / FOLDER / _RESUME)
        about = {"name": name, "group": group or None, "job_type": job_type, "config": dict(config or {})}
        earlier = sorted((out / FOLDER).glob("*run-*-*"))
        try:
            self._run = self._init(dir=str(out), project=project, id=self.id, **about)
            if server:
                self._upload = Upload(Path(self._run.dir).parent, earlier, server)
        except Exception as error:
            self._warn("cannot begin", error)

    def _init(self, **about: Any) -> Any:
        # The terminal belongs to the run's own progress, and a run that is open to somebody else. `resumed`, `resume`:
        # what is sent is appended to what was sent of an earlier run, which it would overwrite.
        again = self.step >= 0
        settings = self._wandb.Settings(
            console="off", silent=True, reinit="create_new", finish_timeout=UPLOAD, resumed=again
        )
        resume = "allow" if again else None
        return self._wandb.init(mode="offline", resume=resume, settings=settings, **about)

    def log(self, values: Mapping[str, float]) -> None:
        """Log numbers as the next step."""
        self.step += 1
        self._try("numbers", lambda run: run.log(dict(values), step=self.step))
        self._try("its place", lambda run: self._note())
        if self._upload and (problem := self._upload.problem):
            self._told_offline(problem)

    def add(self, name: str, made: Callable[[Any], Any]) -> None:
        """Log something at the step that was logged last.

        Args:
            name: of what is logged.
            made: makes it of the module `wandb`.
        """
        self._try(name, lambda run: run.log({name: made(self._wandb)}, step=max(self.step, 0)))

    def image(self, name: str, file: Path) -> None:
        """Log a picture from a file."""
        self.add(name, lambda wandb: wandb.Image(str(file)))

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Log a table; one of more rows than `ROWS` stays in its file, as the log tells."""
        if len(table) > ROWS:
            log.info("%s has %s rows, more than %s: it is in its file alone", name, f"{len(table):,}", f"{ROWS:,}")
            return
        plain = table.astype(dict.fromkeys(table.select_dtypes("category"), object))
        plain.columns = [str(column) for column in table.columns]
        self.add(name, lambda wandb: wandb.Table(dataframe=plain, allow_mixed_types=True))

    def files(self, name: str, kind: str, root: Path, files: Sequence[Path]) -> None:
        """Log files as an artifact `<name>-<id of the run>`, with copies of them in `<out>/wandb`.

        Args:
            name: of the artifact.
            kind: its type.
            root: folder that names in the artifact begin in.
            files: beneath it.
        """

        def send(run: Any) -> None:
            artifact = self._wandb.Artifact(f"{name}-{self.id}", type=kind)
            for file in files:
                artifact.add_file(str(file), name=file.relative_to(root).as_posix())
            run.log_artifact(artifact)

        self._try(name, send)

    def finish(self, failed: bool = False) -> None:
        """End the run: everything is on disk, and sent as far as the network allows; where it failed, at once."""
        self._try("the end", lambda run: run.finish(exit_code=int(failed)))
        self._run = None
        if self._upload and (problem := self._upload.finish(BRIEF if failed else UPLOAD)):
            self._told_offline(problem)

    def _told_offline(self, problem: str) -> None:
        self._upload = None
        log.warning(
            "logger.mode=online: %s; the run is whole in its folder, and `wandb sync %s` sends it",
            problem,
            self.out / FOLDER,
        )

    def _try(self, what: str, act: Callable[[Any], object]) -> None:
        if self._run is None:
            return
        try:
            with _copies_in(self.out / FOLDER):
                act(self._run)
        except Exception as error:
            self._warn(f"failed at {what}", error)

    def _warn(self, what: str, error: Exception) -> None:
        """Say once that something is missing on the dashboard; then into the file of the log alone."""
        level = logging.DEBUG if self._failed else logging.WARNING
        log.log(level, "wandb %s (%s: %.300s); the run goes on without", what, type(error).__name__, error)
        self._failed = True

    def _note(self) -> None:
        """Remember which run this is and how far it has come, for the next one here."""
        (self.out / FOLDER / _RESUME).write_text(json.dumps({"id": self.id, "step": self.step}))


def show_sweep(logger: Mapping[str, Any], folder: Path, jobs: pd.DataFrame) -> None:
    """The comparison of a sweep: a run of the group of its jobs, if these have been on a dashboard.

    Args:
        logger: settings of the group `logger`.
        folder: of the sweep.
        jobs: a row per job.
    """
    if jobs.empty or not str(logger.get("_target_", "")).endswith("WandbTracker"):
        return
    name, group = f"comparison of {len(jobs)} jobs", group_of(folder)
    board = Dashboard(folder, logger["project"], logger["mode"], name=name, group=group, job_type="comparison")
    board.log({"jobs": len(jobs)})
    board.table("comparison", jobs)
    board.files("comparison", "report", folder, present(folder))
    board.finish()


def group_of(sweep: Path | str) -> str:
    """The name of the group of a sweep's runs: its folder, without where that lies.

    Example:
        >>> group_of("outputs/multirun/2026-11-29/16-02-03-5")
        '2026-11-29/16-02-03-5'
    """
    return "/".join(Path(sweep).parts[-2:])


def present(folder: Path) -> list[Path]:
    """The files that a run or a sweep has recorded in its folder and that are there."""
    return [file for name in recorded(folder) if (file := folder / name).is_file()]


def _wandb() -> Any:
    """The module.

    Raises:
        ValueError: it is not installed.
    """
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # read when wandb is imported, and by the program it starts
    try:
        import wandb  # an extra, and slow to import
    except ImportError as error:
        raise ValueError("logger=wandb needs the package wandb: pip install 'lis[wandb]'") from error
    return wandb


def _resumed(file: Path) -> tuple[str, int]:
    """The run of wandb that an earlier run here belongs to and its last step, or a new one and −1."""
    known: dict[str, Any] = {}
    try:
        known = read_json(file, "which run of wandb this is", _AGAIN) if file.is_file() else {}
        if known and not (isinstance(known.get("id"), str) and isinstance(known.get("step"), int)):
            raise ValueError(f"{file} holds {known!r:.80}: expected id and step; {_AGAIN}")
    except ValueError as error:
        log.warning("%s", error)
        known = {}
    return known.get("id", secrets.token_hex(4)), known.get("step", -1)


def _server_with_key(wandb: Any) -> str:
    """Address of the server that a key is known for; wandb would ask for one.

    Raises:
        ValueError: there is none.
    """
    settings = wandb.setup().settings
    address = str(settings.base_url)
    given = any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
    if not (given or settings.api_key or requests.utils.get_netrc_auth(address)):
        raise ValueError(
            f"logger.mode=online: no key for {address} is known; expected `wandb login` before, WANDB_API_KEY in the "
            "environment, or logger.mode=offline"
        )
    return address


@contextmanager
def _copies_in(folder: Path) -> Iterator[None]:
    """Inside, wandb copies the files of artifacts into a folder, and not into the user's home."""
    name, before = "WANDB_DATA_DIR", os.environ.get("WANDB_DATA_DIR")
    os.environ[name] = str(folder.resolve())
    try:
        yield
    finally:
        del os.environ[name]
        os.environ |= {} if before is None else {name: before}
