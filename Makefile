# `make` alone lists the targets. `make check` is exactly what CI runs.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
REGAL := v0.42.0
REGO := policies/lictor policies/local policies/site policies/system
# Tests that run at once. Each has OPAs, servers and maybe a JVM of its own; the quick ones wait more than they work.
WORKERS ?= 2
QUICK_WORKERS ?= 3
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lictor
# What the plugin promises to work with.
FASTMCP ?= $(shell sed -n 's/^mcp = \["\(fastmcp[^"]*\)".*/\1/p' pyproject.toml)
TASKS := $(shell sed -n 's/^tasks = .*"\(fastmcp-tasks[^"]*\)".*/\1/p' pyproject.toml)
# What a test starts in processes of its own imports the same modules: they are compiled once.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/$(BIN):$(CACHE)/bin:$(PATH)

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv installs in a third of pip's time; pip itself checks and installs uv. For a private index, set
# PIP_INDEX_URL and UV_DEFAULT_INDEX.
$(VENV)/run: requirements/uv.txt requirements/run.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(INSTALL) --require-hashes -r requirements/run.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/dev: $(VENV)/run requirements/dev.txt
	$(INSTALL) --require-hashes -r requirements/dev.txt
	touch $@

.PHONY: setup
setup: $(VENV)/dev ## Install all that development needs: Python packages, OPA, Regal
	python -m bundles.opa.binary
	$(MAKE) --no-print-directory regal

# Regal's own `go install` fails, and it must not share a module with OPA: each pins its own versions.
.PHONY: regal
regal:
	if command -v regal > /dev/null; then regal version | head -1; \
	elif command -v go > /dev/null; then \
	  echo "building regal $(REGAL) with Go; this takes a minute or two, once"; \
	  folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; mkdir -p $(CACHE)/bin; \
	  printf 'module build\ngo 1.26\nrequire github.com/open-policy-agent/regal %s\n' $(REGAL) > $$folder/go.mod; \
	  cd $$folder && GOFLAGS=-mod=mod CGO_ENABLED=0 go build -o $(CACHE)/bin/regal github.com/open-policy-agent/regal \
    || echo "regal could not be built: the Rego will not be linted"; \
	else echo "regal is not installed and Go is not there to build it: the Rego will not be linted"; fi

.PHONY: demo
demo: $(VENV)/run ## Watch real MCP clients being allowed and refused by a real OPA (KEEP=1 leaves it running)
	lictor demo $(if $(KEEP),--keep)

# With coverage in CI alone: it costs a quarter of the time.
RUN := $(if $(COVERAGE),coverage run -m) pytest
TIERS := system model conformance neo4j docs

.PHONY: test
test: $(VENV)/dev ## Run the tests of every promise, in under four minutes
	$(RUN) -n $(QUICK_WORKERS) --dist worksteal -m "quick or not ($(subst $() $(), or ,$(TIERS)))"

# A file of faults runs its rows in one go, so files are not split here.
.PHONY: $(TIERS:%=test-%)
test-system: $(VENV)/dev ## Faults, scenarios, killed processes, several servers
test-model: $(VENV)/dev ## Ten thousand queries to OPA and to a model of the rules
test-conformance: $(VENV)/dev ## MCP's conformance suite and TypeScript clients (need npm)
test-neo4j: $(VENV)/dev ## A real Neo4j (needs a JDK and Maven)
test-docs: $(VENV)/dev ## Every command and table of the docs
$(TIERS:%=test-%):
	$(RUN) -n $(WORKERS) --dist loadfile -m "$(@:test-%=%) and not quick"

# All long tiers in one run, so that one waits while another works.
.PHONY: test-long
test-long: $(VENV)/dev
	$(RUN) -n $(WORKERS) --dist loadfile -m "($(subst $() $(), or ,$(TIERS))) and not quick"

# Whichever is not the locked one gets an environment of its own, which keeps what is pinned as far as it can.
# Releases of fastmcp-tasks come after FastMCP's, or not at all, and each fits one FastMCP alone.
.PHONY: test-fastmcp
test-fastmcp: $(VENV)/dev ## Test the plugin with the oldest and the newest FastMCP that can be installed
	@found() { uv pip compile --quiet --python-version 3.11 --resolution $$1 - <<< "$$2" | pinned; }; \
	pinned() { sed -n 's/^fastmcp==\([^ ]*\).*/\1/p' "$$@"; }; \
	pin() { $(COMPILE) --upgrade-package "fastmcp==$$version" --upgrade-package "fastmcp-slim==$$version" \
	  --upgrade-package fastmcp-tasks --extra all --group dev "$$@" pyproject.toml requirements/build.in -o $$venv/dev.txt; }; \
	locked=$$(pinned requirements/dev.txt); \
	if ! oldest=$$(found lowest-direct '$(FASTMCP)') || ! newest=$$(found highest '$(FASTMCP)') \
	  || ! tasks=$$(found highest $$'$(FASTMCP)\n$(TASKS)'); then \
	  echo "$(FASTMCP): no index says what there is, so only the locked $$locked was tested"; exit; \
	fi; \
	echo "$(FASTMCP): the oldest that can be installed is $$oldest, the newest $$newest, and $$tasks with tasks;" \
	  "tested already: $$locked"; \
	for version in $$(printf '%s\n' $$oldest $$newest $$tasks | sort -u | grep -vxF $$locked); do \
	  venv=$(CACHE)/fastmcp-$$version-$$(cat pyproject.toml requirements/dev.txt | sha256sum | cut -c1-8); \
	  if [[ ! -e $$venv/ready ]]; then \
	    uv venv --quiet --clear --python $(BIN)/python $$venv; cp requirements/dev.txt $$venv; \
	    if pin --extra tasks 2> /dev/null; then :; \
	    elif pin; then echo "fastmcp-tasks has no release for $$version, so its tests are left out there"; \
	    else echo "$$version does not go with what else lictor needs, so it was not tested"; continue; fi; \
	    uv pip install --quiet --python $$venv/bin/python --require-hashes -r $$venv/dev.txt; \
	    touch $$venv/ready; \
	  fi; \
	  uv pip install --quiet --python $$venv/bin/python --no-deps --no-build-isolation --editable .; \
	  tests=tests/mcp_plugin; \
	  if [[ $$version == "$$tasks" && $$version != "$$newest" ]]; then tests=$$tests/test_tasks.py; fi; \
	  echo "fastmcp $$version, $$tests:"; \
	  PATH=$$venv/bin:$$PATH $$venv/bin/python -m pytest $$tests -q -rs -n $(WORKERS) --dist loadfile; \
	done

.PHONY: opa-test
opa-test: $(VENV)/dev ## Check, test and lint the Rego
	opa=$$(python -m bundles.opa.binary); \
	"$$opa" fmt --list --fail $(REGO); \
	"$$opa" check --strict --schema policies/schemas $(REGO); \
	"$$opa" test --timeout 60s --coverage --threshold 100 --format pretty $(REGO) tests/cases > /dev/null; \
	"$$opa" test --timeout 60s $(REGO) tests/cases; \
	if command -v regal > /dev/null; then regal lint policies; \
	else echo "regal is not installed, so the Rego was not linted (make setup builds it where Go is)"; fi

.PHONY: mutants
mutants: $(VENV)/dev ## Change lictor's own Rego in many small ways, each of which a test must notice
	lictor policies mutate --product --threshold 100

.PHONY: mutants-python
mutants-python: $(VENV)/dev ## Change the client and the plugin in small ways (SAMPLE=N, SEED=N, MODULES=globs)
	python tests/system/mutation/run.py $(if $(SAMPLE),--sample $(SAMPLE)) --seed $(or $(SEED),1) \
	  --workers $(WORKERS) $(foreach module,$(MODULES),'$(module)')

.PHONY: lint
lint: $(VENV)/dev ## Check format, lint, import arrows and types
	ruff format --check .
	ruff check .
	lint-imports
	mypy

.PHONY: check
check: setup lint opa-test ## Everything that CI checks: lint, types, Rego, all tests, coverage
	coverage erase
	$(MAKE) --no-print-directory test COVERAGE=1 QUICK_WORKERS=$(WORKERS)
	$(MAKE) --no-print-directory test-long COVERAGE=1
	$(MAKE) --no-print-directory test-fastmcp
	coverage combine --quiet
	coverage report --fail-under 95

.PHONY: fuzz
fuzz: $(VENV)/dev ## Send a million queries to OPA and to the model of the rules (QUERIES=N, SEED=N)
	python -m tests.system.model.fuzz --queries $(or $(QUERIES),1000000) --seed $(or $(SEED),1)

.PHONY: scenarios
scenarios: $(VENV)/dev ## Run random scenarios with a running lictor: commands, kills, calls (SCENARIOS=N)
	LICTOR_SCENARIOS=$(or $(SCENARIOS),100) python -m pytest tests/system/scenarios -s --show-capture=no

.PHONY: faults
faults: $(VENV)/dev ## Break every part of a running lictor, each in many ways (SEEDS=N, FAULT=words)
	python -m tests.system.faults --seeds $(or $(SEEDS),20) $(if $(FAULT),--fault "$(FAULT)",--write)

.PHONY: bench
bench: $(VENV)/dev ## Measure decisions, peers, MCP calls, growth and the fleet, in ten minutes (FULL=1: all sizes)
	python -m bench.run $(if $(FULL),--full) $(if $(PARTS),--only $(PARTS))

.PHONY: soak
soak: $(VENV)/dev ## Load the example server for an hour: nothing may grow (MINUTES=N)
	python -m bench.soak --minutes $(or $(MINUTES),60)

.PHONY: audit
audit: $(VENV)/dev ## Look for known vulnerabilities in what is pinned
	pip-audit --requirement requirements/dev.txt --require-hashes --disable-pip

.PHONY: lock
lock: ## Pin the newest packages that fit, with their hashes
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) --extra all pyproject.toml requirements/build.in -o requirements/run.txt
	$(COMPILE) --extra all --extra tasks --group dev -c requirements/run.txt pyproject.toml requirements/build.in \
	  -o requirements/dev.txt

.PHONY: clean
clean: ## Remove what make made here (not the cache)
	rm -rf $(VENV) .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
