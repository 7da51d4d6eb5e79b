# Everything a person or a pipeline does with the project. `make help` lists it.
#
# Debian's own Python is preferred where it is there: it is built with profile-guided optimisation, which is worth
# about a fifth of the processor time of each request. Set PYTHON to use another (3.11 or newer).
PYTHON ?= $(shell for p in /usr/bin/python3 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
DEBIAN_PACKAGES := nginx-light libnginx-mod-stream prometheus chromium wrk strace systemd haproxy apache2-bin \
	libapache2-mod-auth-openidc
TOOLS := /usr/sbin/nginx /usr/lib/nginx/modules/ngx_stream_module.so /usr/bin/prometheus /usr/bin/promtool \
	/usr/bin/chromium /usr/bin/wrk /usr/bin/strace /usr/bin/systemd-analyze /usr/sbin/haproxy /usr/sbin/apache2 \
	/usr/lib/apache2/modules/mod_auth_openidc.so

.DEFAULT_GOAL := help
.PHONY: help demo test check authority bench crash drops faults flood slow timing tamper big fuzz docs format lock tools clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.runtime ## Start the whole gateway with two sample applications (PORT=8443); Ctrl-C stops it
	@$(BIN)/python -m gateway demo $(if $(PORT),--port $(PORT))

test: $(VENV)/.dev tools check ## All tests, from the units to real processes and a real browser
	$(BIN)/python -m pytest -m "not alone" -n auto --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -m alone

check: $(VENV)/.dev ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev tools ## What a request costs beside others, and what is promised, in one run
	$(BIN)/python -m tests.bench

crash: $(VENV)/.dev tools ## The long form of the crash tests: 200 kills under load
	BTB_CRASHES=200 $(BIN)/python -m pytest tests/system/test_crash.py --timeout 3000

authority: $(VENV)/.dev tools ## The long form of the table of changes and exchanges: 10,000 streams of one identity
	BTB_STREAMS=10000 $(BIN)/python -m pytest tests/system/test_authority.py -s --timeout 600

drops: $(VENV)/.dev tools ## The long form of the test that no request is lost: 100,000, through restarts and reloads
	BTB_DROPS=100000 $(BIN)/python -m pytest tests/system/test_restart.py -s --timeout 3000

faults: $(VENV)/.dev tools ## The long form of the table of faults: each 20 times, when chance has it (ROUNDS=20 SEED=1)
	BTB_FAULTS=$(or $(ROUNDS),20) $(if $(SEED),BTB_SEED=$(SEED)) $(BIN)/python -m pytest tests/system/test_faults.py -s

flood: $(VENV)/.dev ## The long form of the flood tests: two minutes of wrong passwords, a million refusals
	BTB_FLOOD_SECONDS=120 $(BIN)/python -m pytest tests/system/test_flood.py --timeout 600
	BTB_FLOOD_REQUESTS=1000000 $(BIN)/python -m pytest tests/system/test_refused_flood.py --timeout 3600

slow: $(VENV)/.dev ## The long form of the test of slow clients: 4,000 of them
	BTB_SLOW_CLIENTS=4000 $(BIN)/python -m pytest tests/system/test_slow_clients.py --timeout 1800

timing: $(VENV)/.dev ## The long form of the timing tests: a thousand pairs of names that are there and are not
	BTB_PAIRS=1000 $(BIN)/python -m pytest tests/portal/test_indistinguishable.py tests/system/test_indistinguishable.py \
		--timeout 1800

tamper: $(VENV)/.dev ## Change 2,000 copies of a record at random, and see what verify misses (SEED=1)
	$(BIN)/python -m tests.audit.tamper --copies 2000 $(if $(SEED),--seed $(SEED))

big: $(VENV)/.dev ## The long form of the test of large bodies: 1 GiB each way, and what a worker grows by
	BTB_BIG_MIB=$(or $(MIB),1024) $(BIN)/python -m pytest tests/system/test_large.py -s

fuzz: $(VENV)/.dev ## The long form of the fuzzing: ten minutes for each reader of bytes (SECONDS=600)
	BTB_FUZZ_SECONDS=$(or $(SECONDS),600) $(BIN)/python -m pytest tests/fuzz -s

docs: $(VENV)/.dev ## Write the reference pages under docs/ from the code
	$(BIN)/python -m docs.generate

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.dev ## Lock the dependencies again, with hashes
	$(PYTHON) -m pip install --quiet --target build/uv uv
	PYTHONPATH=build/uv build/uv/bin/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 \
		--no-emit-index-url --no-header pyproject.toml -o requirements.lock
	PYTHONPATH=build/uv build/uv/bin/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 \
		--no-emit-index-url --no-header pyproject.toml --group dev --group bench -o requirements-dev.lock

tools: $(TOOLS)

# The tests run against the real programs, as Debian packages them.
$(TOOLS) &:
	@if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "The tests need these Debian packages: $(DEBIAN_PACKAGES)"; exit 1; fi
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(DEBIAN_PACKAGES) </dev/null

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer with venv is needed (Debian: apt-get install python3-venv)."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@ $(VENV)/.runtime

clean: ## Remove what was built
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
