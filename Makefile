# The door for every command: `make demo` to see it work, `make test` to see that it is right.

PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL = $(BIN)/pip install --quiet --no-compile --constraint constraints.txt
JOBS ?= 2
DEMO ?= demo
DEMO_SERVE ?= 1
DEMO_PORT ?= 8000
export ASTERISM_DATA ?= ./data
export HF_HUB_OFFLINE ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Some machines forbid it; every process would then compile thousands of modules anew, half of what its start takes.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help setup packages page demo test check audit bench clean

help:
	@echo "make demo    simulate a market, train on it, measure, serve the feed (DEMO_SERVE=0: do not serve)"
	@echo "make test    run the tests (JOBS=2 at a time)      make check   lint, types and bandit"
	@echo "make setup   .venv              make page    build the web page (needs Node 20)"
	@echo "make packages  what the tests start from Debian, where root"
	@echo "make audit   known vulnerabilities of the pinned packages (asks over the network)"
	@echo "make bench   the benchmarks, each ending in one line of JSON"

setup: .venv/.ready

# torch first: a resolver left alone may take a newer one with gigabytes of CUDA.
.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) --editable '.[all]'
	@touch $@

# What only the tests need (a browser driver among it) must not lengthen the demo.
.venv/.ready-for-tests: .venv/.ready
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@

# Servers and a browser that the tests start themselves; without them, or without the right to install them, those skip.
packages:
	@command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ] || { echo "packages: not on Debian as root, so nothing is installed"; exit 0; }; \
	missing=""; \
	for pair in chromium:chromium promtool:prometheus pg_config:postgresql; do \
		command -v "$${pair%%:*}" > /dev/null || missing="$$missing $${pair##*:}"; \
	done; \
	[ -z "$$missing" ] || (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing fonts-dejavu) || \
	echo "packages: could not install$$missing; their tests will be skipped"

page: src/asterism/serving/http/page/index.html

src/asterism/serving/http/page/index.html: $(shell find web -type f -not -path '*/node_modules/*' 2>/dev/null)
	@(cd web && npm ci --silent --no-audit --no-fund && npm run --silent build) || \
	echo "the page was not built, so the API will be served without it; install Node 20 with npm and run 'make page'"

demo: setup page
	@rm -rf $(DEMO)
	$(BIN)/asterism data simulate --output $(DEMO)/market
	$(BIN)/asterism train --config configs/demo.toml --output $(DEMO)/bundle
	$(BIN)/asterism evaluate --bundle $(DEMO)/bundle --split test --json $(DEMO)/evaluation.json --html $(DEMO)/report.html
	@if [ "$(DEMO_SERVE)" != 0 ]; then $(BIN)/asterism serve --bundle $(DEMO)/bundle --port $(DEMO_PORT); \
	else echo "to serve it: $(BIN)/asterism serve --bundle $(DEMO)/bundle"; fi

test: export OMP_NUM_THREADS = 1
test: .venv/.ready-for-tests page
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

check: .venv/.ready-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive -c pyproject.toml src

# Asks a database of known vulnerabilities over the network; what it has not heard of is a failure, not a pass.
audit: .venv/.ready-for-tests
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict || \
	{ echo "a pinned package is vulnerable, or the database cannot be asked from here; see above which" >&2; exit 1; }

bench: setup
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv $(DEMO) runs .cache web/node_modules src/asterism/serving/http/page
