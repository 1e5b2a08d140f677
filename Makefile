# The daily commands, the same on a laptop and in CI. Each installs what it needs on first use.
#   make setup fix check test docs demo bench          PYTHON=/path/to/python chooses another interpreter

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TESTS ?=
JOBS ?= 2
MINUTES ?= 10
ARRAY_PACKAGES := src/morula/core/*,src/morula/kernels/*,src/morula/io/*,src/morula/labels/*,src/morula/representations/*,src/morula/decoders/*,src/morula/measurement/*,src/morula/metrics/*

.PHONY: help setup fix check test test-napari docs demo bench bench-labels models fuzz audit constraints clean
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 20

setup: $(STAMP) ## create .venv with everything pinned in constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv was found. Install it, or give its path: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@echo 'Installing Morula and its dependencies into $(VENV): a few minutes the first time ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	@touch $@

fix: setup ## repair imports, formatting and simple lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: setup ## lint, formatting, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One BLAS/OpenMP thread per worker: as many workers as cores already use the whole machine. Bytecode is stored, which the processes that
# tests start read.
test: setup ## all tests and doctests; line coverage of the array packages >= 95 %
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(JOBS) --dist worksteal --cov=morula --cov-report= $(TESTS)
	@$(BIN)/coverage report --skip-covered --include='$(ARRAY_PACKAGES)' --fail-under=95

# napari and Qt are installed beside .venv, whose packages it uses, so that `make test` stays free of them.
NAPARI_VENV ?= .venv-napari
NAPARI_STAMP := $(NAPARI_VENV)/.installed

$(NAPARI_STAMP): $(STAMP)
	@echo 'Installing napari into $(NAPARI_VENV) ...'
	@test -x $(NAPARI_VENV)/bin/python || $(BIN)/python -m venv $(NAPARI_VENV)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(NAPARI_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/venv.pth"
	@$(NAPARI_VENV)/bin/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[napari]'
	@touch $@

# napari's own pytest plugins are left out: they turn the deprecations of its libraries into errors
test-napari: $(NAPARI_STAMP) ## tests of the napari plugin in a virtual display (needs xvfb)
	MORULA_NAPARI=1 OMP_NUM_THREADS=1 xvfb-run -a -s '-screen 0 1400x900x24' $(NAPARI_VENV)/bin/python -m pytest \
		-p no:napari -p no:napari-plugin-engine -p no:npe2 -o filterwarnings=default -W ignore::DeprecationWarning tests/napari $(TESTS)

docs: setup ## build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

demo: setup ## simulate, train, predict, score, report
	$(BIN)/morula demo --overwrite

bench: setup ## measure the figures of docs/benchmarks
	$(BIN)/python -m bench

bench-labels: setup ## the gain of pretraining and of bundled models with few labels: hours; continues where it stopped
	$(BIN)/python -m bench labels starts

models: setup ## train the bundled models from the images in MORULA_DATA (../shared/data): hours; continues where it stopped
	$(BIN)/python -m models

fuzz: setup ## fuzz every reader for 10 minutes (nightly); what breaks the rule is written to tests/corpus
	$(BIN)/python bench/fuzz.py --minutes $(MINUTES)

audit: setup ## compare constraints.txt with the database of known vulnerabilities; needs a network
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip_audit --requirement constraints.txt --no-deps --disable-pip

constraints: ## write the versions installed in .venv into constraints.txt; lines of packages that are not installed there are kept
	$(BIN)/python -m pip --disable-pip-version-check list --format=freeze --exclude-editable --exclude pip --exclude setuptools 2>/dev/null | sed 's/+[^ ]*$$//' > constraints.new
	awk -F '==' 'NR == FNR { seen[tolower($$1)]; next } !(tolower($$1) in seen)' constraints.new constraints.txt > constraints.more
	cat constraints.more >> constraints.new && rm constraints.more
	LC_ALL=C sort -f -o constraints.new constraints.new
	mv constraints.new constraints.txt

clean: ## remove what the commands created, except .venv
	rm -rf build dist site .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
