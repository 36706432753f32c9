# Two commands matter: `make demo` and `make test`. Each sets up all it needs, from the lock file.
SHELL := /bin/bash
export SCORETRACE_HOME ?= $(CURDIR)/var
DEMO_SERVE ?= 1
DEMO_ACCOUNTS ?= 20000
TEST_PROCESSES ?= 2
BIN := .venv/bin
SETUP := .venv/.ready

.PHONY: help setup tools demo test lint bench bench-explain bench-drift bench-watch bench-portal bench-journeys kill-nights kill-commands screenshots audit clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(SETUP)  ## install the locked packages into .venv

$(SETUP): pyproject.toml uv.lock .ci/setup
	.ci/setup
	@touch $@

tools: $(SETUP)
	.ci/setup --for-tests

demo: $(SETUP)  ## the synthetic lender from nothing to an open portal (DEMO_SERVE=0 stops before serving)
	$(BIN)/scoretrace demo --accounts $(DEMO_ACCOUNTS) $(if $(filter 0,$(DEMO_SERVE)),--no-serve,--serve)

lint: $(SETUP)  ## style, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(SETUP) tools lint  ## everything, in a home of its own
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal

bench: $(SETUP)  ## seconds, rows, memory and bytes per stage, beside the floor (ACCOUNTS=410000 NIGHTS=3 STAGES=… COHORTS=2 HOME_AT=…)
	$(BIN)/python -m tests.benchmarks.night --accounts $(or $(ACCOUNTS),41000) --nights $(or $(NIGHTS),3) \
		$(if $(STAGES),--stages $(STAGES)) $(if $(COHORTS),--cohorts $(COHORTS)) $(if $(HOME_AT),--home $(HOME_AT)) $(if $(OUT),--json $(OUT))

bench-explain: $(SETUP)  ## how long a trace and a replay take, and whether it grows (ACCOUNTS=100000 NIGHTS=30 EARLY=10 HOME_AT=…)
	$(BIN)/python -m tests.benchmarks.explain --accounts $(or $(ACCOUNTS),20000) \
		--nights $(or $(NIGHTS),30) --early $(or $(EARLY),10) $(if $(HOME_AT),--home $(HOME_AT))

bench-drift: $(SETUP)  ## drift of 140 features in one scan, and reading 90 nights of it (ROWS=4100000)
	$(BIN)/python -m tests.benchmarks.drift --rows $(or $(ROWS),200000) $(if $(EVIDENTLY),--evidently)

bench-watch: $(SETUP)  ## thirty quiet nights, then each incident: what is told, and the cause named first
	$(BIN)/python -m tests.benchmarks.watching --accounts $(or $(ACCOUNTS),20000)

bench-portal: tools  ## the pages in a real browser, then 20 sessions while a night runs (HOME_AT=a home that is there)
	$(BIN)/python -m tests.benchmarks.portal $(if $(HOME_AT),--home $(HOME_AT)) $(if $(ACCOUNTS),--accounts $(ACCOUNTS))

bench-journeys: tools  ## the portal's three jobs in clicks and seconds (HOME_AT=a demonstration, OUT=folder of pictures)
	$(BIN)/python -m tests.benchmarks.journeys --home $(or $(HOME_AT),$(SCORETRACE_HOME)) --out $(or $(OUT),var/pictures)

screenshots: tools  ## every page in light and dark, 1440 and 1024 wide (OUT=folder; HOME_AT=a demonstration that is there)
	$(BIN)/python -m tests.e2e.screenshots --out $(or $(OUT),var/pictures) $(if $(HOME_AT),--home $(HOME_AT))

kill-nights: $(SETUP)  ## kill the night at random moments of every task, and run it again each time (TIMES=200)
	$(BIN)/python -m tests.faults.kill_nights --times $(or $(TIMES),200)

kill-commands: $(SETUP)  ## the same with the commands that land, train, sign, watch, keep and copy (TIMES=52)
	$(BIN)/python -m tests.faults.kill_commands --times $(or $(TIMES),52)

audit: $(SETUP)  ## ask PyPI's advisories about every locked package; fails where one could not be asked about
	@mkdir -p var
	$(BIN)/uv export --quiet --frozen --no-emit-project --format requirements.txt --output-file var/locked.txt
	$(BIN)/uv tool run pip-audit@2.10.1 --strict --disable-pip --requirement var/locked.txt

clean:  ## remove the environment and the caches; the home folder stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache dbt/target
