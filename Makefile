# make demo | test | test-all | check | docs | bench | release-check | lock: each makes .venv first and installs what it needs from the package index.
PYTHON ?= python3
RUN = .venv/bin/python -m
JOBS ?= 2
INSTALLED = .venv/.installed
RUNS = .venv/.runs

.PHONY: demo test test-all check docs bench release-check lock clean

demo: $(RUNS)
	@$(RUN) mixflight.cli.app demo -o build/demo

test: $(INSTALLED)
	@$(RUN) pytest -n $(JOBS) --dist worksteal -q

test-all: $(INSTALLED)
	@$(RUN) pytest -n $(JOBS) --dist worksteal -q -m "slow or not slow"

check: $(INSTALLED)
	@$(RUN) ruff check .
	@$(RUN) mypy

docs: $(INSTALLED)
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs --quiet build --strict
	@echo build/site/index.html

bench: $(INSTALLED)
	@$(RUN) mixflight.bench

# Archives of the last commit, installed and used in clean environments of every Python in PYTHONS.
release-check: $(INSTALLED)
	@$(RUN) pytest -q -m slow tests/test_release.py

lock: $(INSTALLED)
	@$(RUN) mixflight.lock pyproject.toml > constraints.tmp && mv constraints.tmp constraints.txt

clean:
	rm -rf build .venv .pytest_cache .mypy_cache .ruff_cache

$(INSTALLED): pyproject.toml bootstrap.py constraints.txt
	@$(PYTHON) bootstrap.py
	@touch $@ $(RUNS)

$(RUNS): pyproject.toml bootstrap.py constraints.txt
	@$(PYTHON) bootstrap.py run
	@touch $@
