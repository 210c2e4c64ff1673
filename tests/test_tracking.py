"""What MLflow shows of trainings that did not end well, in a real store."""

import subprocess
import sys

import pytest

from poreseg.errors import told_in_one_line
from poreseg.tracking import tracked


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
