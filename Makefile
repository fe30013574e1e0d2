# Everything runs in .venv, which the first target that needs it makes from requirements.lock. Only Python 3.11 to 3.13
# (with its venv module) and make are needed. Paths are relative: the folder's own may hold spaces.
# Another interpreter or environment: make test PYTHON=python3.13 VENV=.venv313

PYTHON ?= python3
VENV ?= .venv
WORLD ?=
SEEDS ?= $(if $(WORLD:sim=),8,40)
JOBS ?= 2

RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
PIP := -m pip --disable-pip-version-check --quiet
DIST := build/dist
CHECK_VENV := build/wheel-venv

.DEFAULT_GOAL := help
.PHONY: help demo test check bench mutants lock clean

help:
	@echo "make demo   break workers, links and PostgreSQL while money is moved, judge what happened, write a report;"
	@echo "            make demo WORLD=procs does it to real processes"
	@echo "make test   run the tests"
	@echo "make check  ruff, mypy (strict, on the installed wheel), import layers"
	@echo "make bench  compare with other engines (minutes)"
	@echo "make mutants  how many seeds it takes to find each subtle bug of a set (hours; goes on where it stopped)"
	@echo "make lock   write requirements.lock anew from pyproject.toml"
	@echo "make clean  remove environments and build results"

demo: $(READY)
	@$(RUN) -m duress run payments $(addprefix --world ,$(WORLD)) --seeds $(SEEDS) --jobs $(JOBS)

test: $(READY)
	@PYTHONHASHSEED=0 $(RUN) -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(READY) $(CHECK_VENV)/.ready
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check --output-format concise .
	$(VENV)/bin/lint-imports
	@rm -rf $(DIST) && $(RUN) -m build --no-isolation --skip-dependency-check --outdir $(DIST) . > build.log 2>&1 || { cat build.log; exit 1; }
	@rm -f build.log
	@$(CHECK_VENV)/bin/python $(PIP) install --no-deps --force-reinstall $(DIST)/*.whl
	cd $(CHECK_VENV) && bin/python -m mypy --config-file ../../pyproject.toml -p duress

bench: $(READY)
	@$(RUN) -m benchmarks

mutants: $(READY)
	@PYTHONHASHSEED=0 $(RUN) -m benchmarks.mutants $(ARGS)

lock: $(READY)
	$(RUN) $(PIP) install uv
	printf '%s\n' '# Versions and hashes of everything that the make targets install, for Python 3.11 to 3.13. Written by `make lock`.' > requirements.lock
	$(RUN) -m uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev --no-header pyproject.toml >> requirements.lock

clean:
	rm -rf $(VENV) build dist duress.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# Made again when a version or the project's own metadata changes.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "duress needs Python 3.11 to 3.13; $(PYTHON) is `$(PYTHON) --version 2>&1`. Name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON) (once, a minute or two) ..." >&2
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module does not work here; on Debian and Ubuntu: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@$(RUN) $(PIP) install --require-hashes -r requirements.lock
	@$(RUN) $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(READY)

# The environment of its own that the wheel is installed and type-checked in.
$(CHECK_VENV)/.ready: requirements.lock
	@$(PYTHON) -m venv $(CHECK_VENV)
	@$(CHECK_VENV)/bin/python $(PIP) install --require-hashes -r requirements.lock
	@touch $@
