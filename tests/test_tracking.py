"""What MLflow shows of trainings that did not end well, in a real store."""

import subprocess
import sys

import pytest

from poreseg.errors import PoresegWarning, told_in_one_line
from poreseg.files import read_json, write_json
from poreseg.tracking import track, tracked


@pytest.fixture
def statuses(tmp_path, monkeypatch):
    """A function that gives the status of each run by its name, in a store of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")

    def read():
        import mlflow

        client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs.db")
        found = client.search_runs([client.get_experiment_by_name("poreseg").experiment_id])
        return {run.info.run_name: run.info.status for run in found}

    return read


DIES = """
import os, sys
from poreseg.tracking import tracked
with tracked(sys.argv[1]) as tracker:
    tracker.claim(sys.argv[2])
    os._exit(9)
"""


def test_a_training_that_goes_on_ends_the_run_that_was_killed(statuses):
    for name, model in (("killed", "a"), ("elsewhere", "b")):
        subprocess.run([sys.executable, "-c", DIES, name, model])
    assert statuses() == {"killed": "RUNNING", "elsewhere": "RUNNING"}
    with tracked("goes on") as tracker:
        tracker.claim("a")
        assert statuses()["goes on"] == "RUNNING"
    assert statuses() == {"killed": "KILLED", "elsewhere": "RUNNING", "goes on": "FINISHED"}


@pytest.mark.parametrize(
    ("reason", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")]
)
def test_what_ends_a_training_is_seen(statuses, reason, status):
    with pytest.raises(reason), tracked("ends"):
        raise reason
    assert statuses() == {"ends": status}


def test_an_interrupt_is_one_line(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended, told_in_one_line(tmp_path / "log"):
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == (tmp_path / "log").read_text() == "interrupted\n"


def test_a_server_that_is_away_is_told_once_and_ends_nothing(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    with pytest.warns(PoresegWarning, match="did not record") as told, tracked("away") as tracker:
        tracker.params({"steps": 1})
        tracker.metrics({"loss": 0.5}, step=1)
    assert len(told) == 1
    assert not tracker.complete


def test_a_record_that_cannot_be_made_is_told_and_the_next_ones_are(statuses, tmp_path):
    with pytest.warns(PoresegWarning, match="did not record") as told, tracked("half") as tracker:
        tracker.metrics({"loss": 0.5}, step=1)
        assert tracker.complete
        tracker.files("results", tmp_path / "nowhere")
        tracker.metrics({"loss": 0.4}, step=2)
    assert len(told) == 1
    assert not tracker.complete
    import mlflow

    assert mlflow.MlflowClient().get_run(tracker.run_id).data.metrics == {"loss": 0.4}
    assert statuses() == {"half": "FINISHED"}


def test_a_build_names_the_runs_that_have_its_scores(statuses, tmp_path, monkeypatch):
    with tracked("there") as tracker:
        run = tracker.run_id
    found = {role: {"iou_mean": 0.5} for role in ("train", "validation", "test")}
    write_json(tmp_path / "metrics.json", found | {"baselines": {}})
    write_json(tmp_path / "poreseg.json", {"mlflow_run_id": run})
    table = tmp_path / "scores.csv"
    table.write_text("image\n")

    def recorded():
        track(tmp_path / "metrics.json", table, table, table, [table], [tmp_path / "poreseg.json"],
              tmp_path / "tracked.json", params={})  # fmt: skip
        return read_json(tmp_path / "tracked.json")["mlflow_runs"]

    assert recorded() == [run]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.warns(PoresegWarning, match="did not record"):
        assert recorded() == []
