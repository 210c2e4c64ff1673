# Commands for people; the pipeline itself is the Snakefile.
PYTHON ?= python3.11
BIN := .venv/bin
# MLflow's page of the runs, in its view for training
UI := http://127.0.0.1:5000/\#/experiments/1/runs?workflowType=machine_learning&compareRunsMode=CHART
.DEFAULT_GOAL := help
.PHONY: help setup run test lint ui lock clean

help:  ## list these commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1	\2/' | expand -t 14

setup: .venv/installed  ## create the environment in .venv
.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.txt requirements-uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

run: setup  ## run the pipeline on data/raw, or on the demo study if that is empty
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all

test: setup lint  ## run everything that CI runs
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest -n 2 --dist loadfile

lint: setup  ## check style and types (the rules are reviewed by snakemake --lint in the tests)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" snakefmt --check Snakefile

ui: setup  ## serve the MLflow UI
	@echo "curves and scores of all trainings: $(UI)"
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000

lock: setup  ## recompile requirements.txt from pyproject.toml
	$(BIN)/uv pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --upgrade -o requirements.txt
	echo "uv==$$($(BIN)/uv --version | cut -d' ' -f2)" | $(BIN)/uv pip compile --quiet - --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements-uv.txt

clean:  ## remove results and the demo study; images, labels and MLflow runs stay
	rm -rf results data/demo
