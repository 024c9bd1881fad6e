# make demo: set up, train on the embedded scenes, show scores and pictures.
# make test: set up, then lint, types, documentation and tests.
# make docs: the pages of docs as a site, build/docs/docs/index.html; a broken link fails.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
PIP = $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint types docs tests smoke

demo: $(VENV)/.ready
	$(RUN) -m jaxseg.main --config=configs/hsg_scenes.py --workdir=runs/demo \
	    --config.train.steps=200

test: lint types docs tests

lint: $(VENV)/.ready-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/shellcheck .ci/run launch/*.sh launch/slurm.sbatch launch/kubernetes/*.sh

types: $(VENV)/.ready-dev
	$(RUN) -m mypy

docs: $(VENV)/.ready-dev
	$(RUN) -m sphinx --quiet --fail-on-warning --keep-going --nitpicky -c docs . build/docs

tests: $(VENV)/.ready-dev
	$(RUN) -m pytest -n 2 --dist=loadfile --max-worker-restart=0 --durations=40

# A few steps of training and an evaluation: does this Python's set of versions work at all?
smoke: $(VENV)/.ready
	rm -rf runs/smoke
	$(RUN) -m jaxseg.main --config=configs/infoseg_scenes.py --workdir=runs/smoke \
	    --config.train.steps=3 --config.data.batch_size=8 --config.data.count=16

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "jaxseg needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.ready-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	touch $@
