# make demo   the emulator and JupyterLab on it, ready to click
# make test   everything that is tested: Python, TypeScript, and a real browser
# make lint   ruff, mypy, eslint, prettier, stylelint
# make judge  the judgement of the last tests' traffic again; `make test` ends with it
# make bench  side by side with a local kernel and with sshpyk; writes benchmarks/RESULTS.md
#
# Each does the set-up that it needs, says what it is doing, and skips what is done. Everything goes into .venv,
# node_modules and .stamps; `make clean` removes them.

VENV := .venv
BIN := $(abspath $(VENV))/bin
STAMPS := .stamps
export PATH := $(BIN):$(PATH)
export PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD := 1
PYTEST_ARGS ?=
# Tests that run side by side. They mostly wait, so one more than there are cores to be expected.
PYTEST_WORKERS ?= 3
BENCH_ARGS ?=
UI_TEST_ARGS ?=

# What the tests said to the emulated Azure, and Azure's own specification as the judge of it, where that is there.
TRAFFIC := $(abspath $(STAMPS))/traffic
JUDGE := $(BIN)/python tests/support/judge.py --modules $(STAMPS)/oav/node_modules
OAV := $(if $(wildcard ../shared/tools/arm-judge/judge.cjs),$(STAMPS)/oav/done)

SOURCES := $(shell find labextension/src labextension/style labextension/schema -type f 2>/dev/null)

.PHONY: demo test lint format setup test-python judge test-js test-ui bench clean

demo: setup
	@scripts/need sshd openssh-server || echo "   (without OpenSSH's server the emulated machines use asyncssh)"
	@echo "== starting the emulator and JupyterLab; the first start builds the machines' Python"
	@$(BIN)/jupyter dsvm demo

test: test-js test-python test-ui
	@echo "== all tests passed"

setup: $(STAMPS)/install

$(STAMPS)/python: pyproject.toml scripts/setup-python scripts/requirements.py
	@mkdir -p $(STAMPS)
	@scripts/setup-python $(VENV)
	@touch $@

$(STAMPS)/js: $(STAMPS)/python labextension/package.json labextension/yarn.lock
	@echo "== installing the labextension's packages (a minute the first time)"
	@cd labextension && jlpm install --immutable >../$(STAMPS)/jlpm.log 2>&1 || { tail -40 ../$(STAMPS)/jlpm.log; exit 1; }
	@touch $@

$(STAMPS)/labextension: $(STAMPS)/js $(SOURCES) labextension/tsconfig.json labextension/rspack.config.js
	@echo "== building the labextension"
	@cd labextension && jlpm build:prod >../$(STAMPS)/build.log 2>&1 || { tail -40 ../$(STAMPS)/build.log; exit 1; }
	@touch $@

$(STAMPS)/install: $(STAMPS)/labextension pyproject.toml
	@echo "== installing jupyter-dsvm into $(VENV)"
	@SKIP_JUPYTER_BUILDER=1 $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

test-python: setup $(STAMPS)/proxy/done $(OAV)
	@scripts/need sshd openssh-server
	@scripts/need ip iproute2
	@scripts/need dropbear dropbear-bin || echo "   (the tests with dropbear are skipped)"
	@scripts/need /usr/share/jupyter/kernels/ir r-cran-irkernel || echo "   (the test of the R kernel is skipped)"
	@echo "== Python tests"
	@rm -rf $(TRAFFIC)/python
	@DSVM_TESTS_TRAFFIC=$(TRAFFIC)/python scripts/run-tests $(BIN)/python $(PYTEST_WORKERS) $(PYTEST_ARGS)
	@echo "== judging what the Python tests said to the emulated Azure"
	@$(JUDGE) $(if $(PYTEST_ARGS),,--whole) $(TRAFFIC)/python

test-js: $(STAMPS)/js
	@echo "== TypeScript tests"
	@cd labextension && jlpm test

$(STAMPS)/ui: $(STAMPS)/python ui-tests/package.json ui-tests/package-lock.json
	@echo "== installing the browser tests' packages"
	@cd ui-tests && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(STAMPS)/proxy/done: $(STAMPS)/python tests/hub/package.json tests/hub/package-lock.json
	@echo "== installing JupyterHub's proxy"
	@mkdir -p $(@D)
	@cp tests/hub/package.json tests/hub/package-lock.json tests/hub/.npmrc $(@D)
	@cd $(@D) && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

$(STAMPS)/collaboration/done: $(STAMPS)/python ui-tests/collaboration-requirements.txt
	@echo "== installing real-time collaboration for the browser tests"
	@rm -rf $(@D)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $(@D) -r ui-tests/collaboration-requirements.txt
	@touch $@

test-ui: setup $(STAMPS)/ui $(STAMPS)/proxy/done $(STAMPS)/collaboration/done $(OAV)
	@scripts/need chromium chromium fonts-dejavu-core
	@scripts/need sshd openssh-server
	@echo "== browser tests"
	@rm -rf $(TRAFFIC)/ui
	@cd ui-tests && DSVM_TESTS_TRAFFIC=$(TRAFFIC)/ui npx playwright test $(UI_TEST_ARGS)
	@echo "== judging what the browser tests said to the emulated Azure"
	@$(JUDGE) $(TRAFFIC)/ui

$(STAMPS)/oav/done: $(STAMPS)/python tests/judge/package.json tests/judge/package-lock.json
	@echo "== installing Azure's validator"
	@mkdir -p $(STAMPS)/oav
	@cp tests/judge/package.json tests/judge/package-lock.json tests/judge/.npmrc $(STAMPS)/oav
	@cd $(STAMPS)/oav && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

judge: $(OAV)
	@$(JUDGE) $(TRAFFIC)/python $(TRAFFIC)/ui

lint: $(STAMPS)/js
	@echo "== ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== eslint, prettier, stylelint"
	@cd labextension && jlpm lint:check

format: $(STAMPS)/js
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@cd labextension && jlpm lint

$(STAMPS)/peers/done: benchmarks/setup-peers $(STAMPS)/python
	@echo "== installing what the benchmarks compare with"
	@benchmarks/setup-peers $(BIN)/python $(STAMPS)/peers
	@touch $@

bench: setup $(STAMPS)/peers/done
	@scripts/need sshd openssh-server
	@scripts/need ssh openssh-client
	@scripts/need rsync rsync || echo "   (rsync is not measured)"
	@echo "== measuring, for about 20 minutes in which nothing else should run here"
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

clean:
	rm -rf $(VENV) $(STAMPS) labextension/node_modules labextension/lib jupyter_dsvm/labextension ui-tests/node_modules
