# `make run` and `make test` do all the set-up; they need Python 3.11, 3.12 or 3.13, nothing else.
PYTHONS := python3.13 python3.12 python3.11
ifndef PYTHON
# The newest that is here and can make an environment: some are there by name alone.
PYTHON := $(shell for each in $(PYTHONS); do \
	$$each -c 'import ensurepip, venv' >/dev/null 2>&1 && echo $$each && break; done)
endif
VERSION := $(if $(PYTHON),$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
VENV := .venv
READY := $(VENV)/.ready-$(VERSION)
FLAGS ?=

.PHONY: run test test-all check format clean

run: $(READY)
	$(VENV)/bin/python -m rmc_tf.main $(FLAGS)

test: check
	$(VENV)/bin/python -m pytest

# With the tests of whole servers and tools, which take minutes more.
test-all: check
	$(VENV)/bin/python -m pytest -m ""

check: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: $(READY)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# Written last, so that an interrupted installation is begun again; so is one of another Python.
$(READY): requirements.txt
	$(if $(VERSION),,$(error no Python works: tried $(or $(PYTHON),$(PYTHONS)); install one of \
		$(PYTHONS) with its venv, or name one by PYTHON=...))
	@echo "installing what requirements.txt lists, for $(PYTHON) ($(VERSION)); a few minutes, once"
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
