"""MLflow records what happened; it drives nothing.

`Tracker` and its null twin `Silent` have the same methods, so that training has no `if`.
A tracker that fails warns and lets the work go on; once its server is away, it only tries to end its run.
"""

import logging
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from poreseg.errors import warn
from poreseg.files import read_json, write_json
from poreseg.metrics import ROLES

STORE = "sqlite:///mlflow.db"
EXPERIMENT = "poreseg"
REFUSED = re.compile(r"[^\w\-. :/]")  # by MLflow in metric names, which contain image names
MANNERS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else a server that is away costs minutes a call
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # s
}


class Silent:
    """Records nothing."""

    run_id: str | None = None
    complete = False  # whether everything was recorded

    def claim(self, model: Path | str) -> None:
        """Claim the model folder for this run; running runs that had claimed it end as killed."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Params of the run."""

    def tags(self, values: Mapping[str, Any]) -> None:
        """Tags of the run."""

    def metrics(self, values: Mapping[str, float | None], step: int | None = None) -> None:
        """Metrics; undefined ones are left out."""

    def files(self, folder: str, *paths: Path | str) -> None:
        """Files, in a folder of the run."""

    def model(self, network: Any, example: Any) -> None:
        """A network, loadable with mlflow.pytorch.load_model."""


def _while_it_answers(method: Callable[..., None]) -> Callable[..., None]:
    """Make a `Tracker` method warn instead of fail, and do nothing once the server is away."""

    @wraps(method)
    def record(self: "Tracker", *args: Any, **kwargs: Any) -> None:
        if self.away:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.complete, self.away = False, _is_away(error)
            _tell(error)

    return record


class Tracker(Silent):
    """Records into one MLflow run. Make one with `tracked`."""

    def __init__(self, mlflow: Any, run_id: str) -> None:
        self._mlflow, self.run_id = mlflow, run_id
        self.complete, self.away = True, False

    @_while_it_answers
    def claim(self, model: Path | str) -> None:
        # a killed run stays RUNNING in MLflow; only one training at a time writes a folder
        place = f"{platform.node()}:{Path(model).resolve()}"
        client, own = self._mlflow.MlflowClient(), self._mlflow.active_run().info
        for run in client.search_runs([own.experiment_id], "attributes.status = 'RUNNING'"):
            if run.data.tags.get("writes") == place:
                client.set_terminated(run.info.run_id, "KILLED")
        self._mlflow.set_tags({"writes": place})

    @_while_it_answers
    def params(self, values: Mapping[str, Any]) -> None:
        self._mlflow.log_params(dict(values))

    @_while_it_answers
    def tags(self, values: Mapping[str, Any]) -> None:
        self._mlflow.set_tags({k: v for k, v in values.items() if v is not None})

    @_while_it_answers
    def metrics(self, values: Mapping[str, float | None], step: int | None = None) -> None:
        named = {REFUSED.sub("_", key): value for key, value in values.items() if value is not None}
        self._mlflow.log_metrics(named, step=step)

    @_while_it_answers
    def files(self, folder: str, *paths: Path | str) -> None:
        for path in paths:
            self._mlflow.log_artifact(str(path), artifact_path=folder)

    @_while_it_answers
    def model(self, network: Any, example: Any) -> None:
        logging.getLogger("mlflow.pytorch").setLevel(logging.ERROR)  # it warns about pickle
        self._mlflow.pytorch.log_model(
            network, name="model", input_example=example,
            serialization_format="pickle",  # traced, it would accept only the example's size
            pip_requirements=["torch", "segmentation-models-pytorch==0.6.*"],
        )  # fmt: skip


@contextmanager
def tracked(name: str, run_id: str | None = None, parent: str | None = None) -> Iterator[Silent]:
    """Open a new run, or an earlier one by its id, in the project's own database.

    A new run may be a child of a `parent` run. MLFLOW_TRACKING_URI, if set, names another
    store; "none" records nothing, and neither does a store that cannot be opened.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", STORE)
    if uri == "none":
        yield Silent()
        return
    for variable, value in MANNERS.items():
        os.environ.setdefault(variable, value)
    import mlflow  # takes seconds, so only if used

    run = None
    with _harmless():
        mlflow.set_tracking_uri(uri)
        with FileLock("mlflow.db.lock") if uri == STORE else nullcontext():
            mlflow.set_experiment(EXPERIMENT)  # creates the database, one process at a time
        tags = {"mlflow.parentRunId": parent} if parent else None
        run = mlflow.start_run(run_id=run_id, run_name=None if run_id else name, tags=tags)
    if run is None:
        yield Silent()
        return
    try:
        yield Tracker(mlflow, run.info.run_id)
    except BaseException as reason:
        with _harmless():
            mlflow.end_run("KILLED" if isinstance(reason, KeyboardInterrupt) else "FAILED")
        raise
    with _harmless():
        mlflow.end_run()


@contextmanager
def _harmless() -> Iterator[None]:
    """Turn errors into warnings, so that recording never ends a training."""
    try:
        yield
    except Exception as error:  # each store and server raises its own
        _tell(error)


def _tell(error: Exception) -> None:
    warn(
        f"MLflow did not record all of the run ({type(error).__name__}: {error}); the work goes on"
    )


def _is_away(error: BaseException | None) -> bool:
    """Whether a server could not be reached or timed out, as it would the next time."""
    from requests.exceptions import ConnectionError, Timeout  # MLflow's HTTP client

    while error is not None and not isinstance(error, ConnectionError | Timeout):
        error = error.__cause__ or error.__context__
    return error is not None


def track(
    metrics: Path | str,
    scores: Path | str,
    porosity: Path | str,
    page: Path | str,
    overlays: Sequence[Path | str],
    cards: Sequence[Path | str],
    record: Path | str,
    *,
    params: Mapping[str, Any],
) -> None:
    """Add a build's scores, tables, page and overlays to the runs of its trainings.

    Parameters
    ----------
    metrics, scores, porosity, page, overlays
        What evaluate, measure, report and segment wrote.
    cards
        The models' cards, which name their runs.
    record
        JSON to write: the runs that recorded all of it.
    params
        All of params.yaml as it was for this build.
    """
    summary = read_json(metrics)
    figures = {
        f"{role}/{key}.{kind}": value  # MLflow groups metrics by the part before the slash
        for kind, found in [("unet", summary), *summary["baselines"].items()]
        for role in ROLES
        for key, value in found[role].items()
        if isinstance(value, float)
    }
    recorded = []
    for run in [run for card in cards if (run := read_json(card)["mlflow_run_id"])]:
        with tracked("", run) as tracker, TemporaryDirectory() as folder:
            used = Path(folder) / "params.json"
            write_json(used, params)
            tracker.metrics(figures)
            tracker.files("results", metrics, scores, porosity, page, used)
            tracker.files("overlays", *overlays)
        if tracker.complete:
            recorded.append(run)
    write_json(record, {"mlflow_runs": recorded})
