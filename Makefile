# `make` says what there is. Everything a target needs beyond the prerequisites is fetched and cached by itself.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# What many processes of tests import is compiled once.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
UV_VERSION := 0.13.9
CACHE := $(or $(SLIPWAY_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/slipway)
# uv from PATH where there is one, else the pinned one in the cache.
UV := $(or $(shell command -v uv),$(CACHE)/uv-$(UV_VERSION)/bin/uv)
RUN := .venv/bin/python -m
GENERATORS := slipway.api.crd slipway.api.rbac slipway.api.protos slipway.observability.rules \
	slipway.observability.dashboards slipway.api.docs slipway.cli.reference bench.rollouts.page release.argocd

# Makes the targets $(1), one after the other, and says what each took, also when a later one fails.
stages = took=""; trap 'printf "\n%s" "$$took"' EXIT; for stage in $(1); do \
	printf '\n== %s\n' $$stage; started=$$SECONDS; $(MAKE) $$stage; \
	took+="$$(printf '%-14s %4d s' $$stage $$((SECONDS - started)))"$$'\n'; \
done

.PHONY: help
help: ## what there is
	@printf 'Slipway. The two that matter: make demo, make test.\n\n'
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: prerequisites-cluster .venv/synced ## a cluster, the operator, MLflow and a model that answers; it says how long it will take
	@$(RUN) e2e.demo

.PHONY: test
test: prerequisites-cluster prerequisites-browser .venv/synced ## check, then end to end on a real cluster
	@$(RUN) e2e.ledger --begin
	@$(call stages,check cluster-up images e2e)

.PHONY: test-long
test-long: prerequisites-cluster prerequisites-browser ## what is slow or repeated, and every bound of seconds; on a quiet machine
	@$(call stages,cluster-up images long test-kind)

# An engine of its own, and nodes made from packages, where Docker or a registry is not within reach.
.PHONY: test-kind
test-kind: prerequisites-cluster .venv/synced ## the demo and tests of resources and commands, on a kind cluster that comes and goes
	@$(RUN) e2e.cluster.kind

.PHONY: check
check: prerequisites-tests .venv/synced ## what needs no cluster: lint, types, generated files, chart, unit tests
	@$(MAKE) --jobs=2 --output-sync=target lint types generated chart
	@$(MAKE) unit

.PHONY: lint
lint: prerequisites-tests .venv/synced ## formatting, lint, which module may import which, and the words of the docs
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/lint-imports
	@$(RUN) e2e.words

.PHONY: types
types: .venv/synced ## mypy, strict
	@.venv/bin/mypy -p slipway -p slipway_server -p e2e -p bench -p release

.PHONY: generated
generated: .venv/synced ## fail if a generated file or the lock is not up to date
	@$(UV) lock --check --quiet
	@for module in $(GENERATORS); do $(RUN) $$module --check; done

# Two halves at once: one process would leave the other core idle.
APART := tests/server tests/fuzz tests/models tests/observability tests/docs tests/unit/router tests/unit/core
.PHONY: unit unit-apart unit-rest
unit: prerequisites-tests .venv/synced ## the tests that need no cluster, with coverage
	@.venv/bin/coverage erase
	@$(MAKE) --jobs=2 --keep-going --output-sync=line unit-apart unit-rest
	@.venv/bin/coverage combine --quiet
	@.venv/bin/coverage report
unit-apart: .venv/synced
	@.venv/bin/coverage run --parallel-mode -m pytest $(APART) -m 'not long'
unit-rest: .venv/synced
	@.venv/bin/coverage run --parallel-mode -m pytest tests $(APART:%=--ignore=%) -m 'not long'

.PHONY: fuzz
fuzz: .venv/synced ## look for bytes that make the model server fail: 420,000 cases, some minutes
	@$(RUN) tests.fuzz

.PHONY: chart
chart: prerequisites-tests .venv/synced ## helm lint, and the rendered chart against the schemas of Kubernetes
	@$(RUN) e2e.chart

.PHONY: generate
generate: .venv/synced ## write the CRD and the tables that come from the code
	@for module in $(GENERATORS); do $(RUN) $$module; done

.PHONY: docs
docs: prerequisites-tests .venv/synced ## build the docs as a site into build/docs; a broken link fails
	@$(RUN) release.site build/docs

.PHONY: release-dry-run
release-dry-run: .venv/synced ## build what a release offers into build/release, images aside, and install from it
	@PATH="$(dir $(UV)):$$PATH" $(RUN) release dry-run build/release

# For scripts that call uv themselves.
.PHONY: uv-folder
uv-folder:
	@printf '%s\n' $(dir $(UV))

.PHONY: format
format: .venv/synced ## format the code and fix what lint can
	@.venv/bin/ruff check --fix-only --quiet .
	@.venv/bin/ruff format .

.PHONY: cluster-up
cluster-up: prerequisites-cluster .venv/synced ## make or repair the test cluster; kubeconfig in .cluster/kubeconfig
	@$(RUN) e2e.cluster up

.PHONY: cluster-down
cluster-down: .venv/synced ## remove the test cluster and everything it left
	@$(RUN) e2e.cluster down

.PHONY: images
images: prerequisites-cluster .venv/synced ## build the images that changed and load them into the cluster
	@$(RUN) e2e.images build

# TEST=NAME runs the tests with that in their name, long ones too, and nothing else.
# Tests in namespaces of their own wait most of the time: several run at once. The others run alone, after them.
WORKERS ?= 3
.PHONY: e2e e2e-together e2e-alone
ifdef TEST
e2e: .venv/synced
	@$(RUN) pytest $$(grep -lE '$(TEST)' e2e/tests/test_*.py) -k '$(TEST)'
else
e2e: prerequisites-browser .venv/synced ## the end-to-end tests, on the cluster that is up; with TEST=NAME only these
	@$(call stages,e2e-together e2e-alone)
	@$(RUN) e2e.ledger
endif
e2e-together:
	@$(RUN) pytest e2e/tests -m 'not alone and not long' --numprocesses=$(WORKERS) --no-loadscope-reorder
e2e-alone:
	@$(RUN) pytest e2e/tests -m 'alone and not long'

.PHONY: long
long: export SLIPWAY_LONG = 1
long: .venv/synced
	@$(RUN) e2e.ledger --begin
	@failed=0; for folder in tests e2e/tests; do $(RUN) pytest $$folder -m 'long or timed' || failed=1; done; \
	$(RUN) e2e.ledger; exit $$failed

# BENCH="--rounds 1" takes about five minutes; BENCH=--help says what else there is.
.PHONY: bench-server
bench-server: .venv/synced ## the model server beside others, a quarter of an hour; on a quiet machine
	@PATH="$(dir $(UV)):$$PATH" $(RUN) bench.server $(BENCH)

# BENCH="--rounds 1" takes a minute; BENCH=--real-time disturbs it less where the machine is not quiet.
.PHONY: bench-router
bench-router: .venv/synced ## what a router costs, and its neighbours; four minutes, on a quiet machine
	@PATH="$(dir $(UV)):$$PATH" $(RUN) bench.router $(BENCH)

# BENCH="--sizes 100 --monitored 0" takes five minutes; BENCH="--sizes 10000 --monitored 0" half an hour.
# What is found is written after each part.
.PHONY: bench-fleet
bench-fleet: prerequisites-cluster .venv/synced ## the operator with 100 and 1,000 ModelDeployments; on a quiet machine
	@PATH="$(dir $(UV)):$$PATH" $(RUN) bench.fleet $(BENCH)

.PHONY: bench-fleet-real
bench-fleet-real: .venv/synced ## apply to Ready, and a moved alias to its canary, on the cluster that is up
	@$(RUN) bench.fleet.real $(BENCH)

# BENCH="--megabytes 50 --rounds 3" takes a minute, and tells no share.
.PHONY: bench-fetch
bench-fetch: .venv/synced ## a model of 1 GB from S3, beside curl | tee | sha256sum; on a quiet machine
	@$(RUN) bench.fetch $(BENCH)

# BENCH="--sample 0 --module status.py" tries every fault of one module; BENCH="--minutes 20" stops after so long.
.PHONY: mutants
mutants: .venv/synced ## put small faults into the command line and the core, and count what their tests find
	@nice -n 19 $(RUN) bench.mutants $(BENCH)

.PHONY: prerequisites
prerequisites:
	@command -v $(PYTHON) >/dev/null || { echo 'missing: Python 3.11 or newer (apt-get install python3)' >&2; exit 1; }
	@$(PYTHON) e2e/prerequisites.py

.PHONY: prerequisites-tests
prerequisites-tests: prerequisites
	@$(PYTHON) e2e/prerequisites.py --tests

.PHONY: prerequisites-cluster
prerequisites-cluster: prerequisites
	@$(PYTHON) e2e/prerequisites.py --cluster

.PHONY: prerequisites-browser
prerequisites-browser: prerequisites
	@$(PYTHON) e2e/prerequisites.py --browser

$(CACHE)/uv-$(UV_VERSION)/bin/uv: | prerequisites
	@echo 'installing uv $(UV_VERSION) into the cache'
	@$(PYTHON) -m venv $(CACHE)/uv-$(UV_VERSION)
	@$(CACHE)/uv-$(UV_VERSION)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/synced: pyproject.toml uv.lock $(UV) | prerequisites
	@echo 'installing the packages of uv.lock into .venv'
	@$(UV) sync --quiet --frozen --all-extras --group docs --python $(PYTHON)
	@touch $@
