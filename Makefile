# `make run` and `make test` do all the set-up; they need Python 3.11 and nothing else.
PYTHON ?= python3.11
VENV := .venv
READY := $(VENV)/.ready
FLAGS ?=

.PHONY: run test check format clean

run: $(READY)
	$(VENV)/bin/python -m rmc_tf.main $(FLAGS)

test: check
	$(VENV)/bin/python -m pytest

check: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: $(READY)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# Written last, so that an interrupted installation is begun again.
$(READY): requirements.txt
	@echo "installing what requirements.txt lists; this takes a few minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
