# Two targets matter: `make repro` and `make test`. Needs Python >= 3.11 with venv, git and make; nothing else.
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
INSTALLED := $(VENV)/installed
# uv compiles what it installs, as pip does. Where PYTHONDONTWRITEBYTECODE is set, as in many containers, every command would otherwise compile torch again.
export UV_COMPILE_BYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help install repro table search audit diff bench page try-page quick test stress check format lock readme clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with every pinned, hash-checked requirement, and the command affectnet

# uv installs in seconds what pip installs in minutes; pip fetches it, by the same hash-checked list.
$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	awk '/^[a-zA-Z]/ {wanted = /^uv==/} wanted' requirements.txt > $(VENV)/uv.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	$(VENV)/bin/uv pip sync --quiet --require-hashes requirements.txt
	$(VENV)/bin/uv pip install --quiet --no-deps --no-build-isolation --offline --editable .
	@touch $@

# A ZIP download has none.
.git:
	@echo 'error: no Git repository here, and DVC stands on one; clone the project, or run: git init && git add -A && git commit -m start' >&2
	@exit 2

repro: .git install ## run the pipeline on the demo: dvc repro
	dvc repro

check: install ## format, lint and types
	ruff format --check .
	ruff check .
	mypy

table: .git install ## all experiments, one line each, with what differs
	python -m affectnet.search.table

search: .git install ## search over params.yaml, each trial a DVC experiment; SEARCH='--trials 12 --jobs 2'
	python -m affectnet.search $(SEARCH)

# The folds need the faces and their plan, and no trained model.
audit: .git install ## find doubtful labels with networks trained on folds; data/audit.html shows them, clean.label_issues uses them
	dvc repro crop rebalance
	python -m affectnet.search.audit

BASE ?= main

diff: .git install ## what this branch changes, as Markdown and SVG in diff/; BASE=main
	python -m affectnet.search.diff --base $(BASE)

bench: repro ## time everything and its peers, under five minutes; BENCH=--full for the sizes of the goals
	uv pip install --quiet --require-hashes -r benchmarks/requirements.txt
	python -m benchmarks $(BENCH)

# npm checks each package against the hash in page/package-lock.json.
page: install ## build the page on which the model runs in the browser, into site/, for any static host; needs Node 20 with npm
	@command -v npm > /dev/null || { echo 'error: npm: missing; install Node 20 or later, which brings it' >&2; exit 2; }
	npm ci --prefix page --ignore-scripts --no-audit --no-fund --silent
	python -m tools.page

# The page's tests are skipped where npm is missing or reaches no registry.
try-page: install
	@test -d page/node_modules || ! command -v npm > /dev/null || $(MAKE) --no-print-directory page || echo 'page: not built; its tests are skipped'

# Twice as many processes as cores, since many of them wait for others that they start.
SIDE_BY_SIDE := -n $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? 2 * cores : 8)))

quick: install ## under a minute: check, and the tests without torch, DVC, pages, searches and clusters
	$(MAKE) --no-print-directory check
	pytest -n auto --quick

test: .git install ## everything: check and repro, then pytest
	$(MAKE) --no-print-directory -j 2 check repro try-page
	pytest $(SIDE_BY_SIDE) --dist loadfile --no-loadscope-reorder

# One test at a time to each free worker, the longest files first: in larger portions the long ones would wait for one another.
stress: install ## kills, faults and broken data, all of them, under 30 minutes; prints the table of docs/reliability.md
	pytest $(SIDE_BY_SIDE) --dist load --maxschedchunk 1 -m 'stress or not stress' tests/stress tests/test_own_copy.py

format: install ## let ruff format and sort
	ruff format .
	ruff check --fix .

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

lock: install ## compile pyproject.toml into requirements.txt, and the benchmarks' own list
	$(COMPILE) --all-extras --group dev pyproject.toml -o requirements.txt
	$(COMPILE) --group bench -c requirements.txt -o benchmarks/requirements.txt

readme: repro ## take the demo's result over into README.md, once it changed for everybody
	python -m tools.demo_result

clean: ## remove everything that can be made again, the cache included
	rm -rf $(VENV) site page/node_modules affectnet/web/built .dvc/cache .dvc/tmp data/raw data/faces data/*.parquet data/*.html models metrics/train *.egg-info .pytest_cache .mypy_cache .ruff_cache
