# Deliberately minimal: README.md lists the plain commands behind `run` and `test`.
PORT ?= 8000
VENV ?= .venv
# Four processes for two cores, as many tests wait for servers; worksteal keeps a module, and its servers, in one process.
TEST_OPTIONS ?= -n 4 --dist worksteal
BIN = $(VENV)/bin
# `make run` ignores an operator's settings in the shell: a developer's are in .env.
IGNORED_VARIABLES = DATABASE_URL MIGRATION_DATABASE_URL BETTER_AUTH_SECRET BETTER_AUTH_URL JWKS_URL JWT_ISSUER JWT_AUDIENCE \
  MCP_URL MCP_ISSUER METRICS_TOKEN LOG_HASH_KEY
DEVELOPMENT_ENV = env $(foreach name,$(IGNORED_VARIABLES),-u $(name) -u $(name)_FILE) ENVIRONMENT=development

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/requirements.txt .env ## Serve on 127.0.0.1:8000 (PORT=) with SQLite and print a curl command with a token
	@$(BIN)/python -c 'import socket, sys; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", int(sys.argv[1])))' "$(PORT)" 2>/dev/null \
	  || { echo "Port $(PORT) is in use, or no port: choose another, as in make run PORT=8042" >&2; exit 1; }
	@$(DEVELOPMENT_ENV) $(BIN)/flask db upgrade
	@token=$$($(DEVELOPMENT_ENV) $(BIN)/flask token developer 2>/dev/null); \
	  echo "Read and try the API in a browser: http://127.0.0.1:$(PORT)/docs"; \
	  echo "The tasks are at http://127.0.0.1:$(PORT)/api/tasks; paste this into another terminal:"; \
	  echo "curl -H 'Authorization: Bearer $${token:-A_TOKEN_OF_YOUR_BETTER_AUTH}' http://127.0.0.1:$(PORT)/api/tasks"
	@exec $(DEVELOPMENT_ENV) $(BIN)/flask run --port $(PORT)

test: $(VENV)/requirements-dev.txt ## Run the tests on SQLite and PostgreSQL (90 seconds)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest $(TEST_OPTIONS)

test-slow: $(VENV)/requirements-dev.txt ## Run the slow tests: a million rows, 20,000 generated requests, Better Auth, the image (8 minutes)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -m slow $(TEST_OPTIONS) --dist loadfile

test-faults: $(VENV)/requirements-dev.txt ## Inject faults under load (7 minutes); WRITE=yes updates docs/reliability.md
	@PATH="$(abspath $(BIN)):$$PATH" WRITE="$(WRITE)" $(BIN)/python -m pytest -m faults -p no:randomly

test-e2e: $(VENV)/requirements-dev.txt ## Test the docs page and CORS in a browser (3 minutes; needs Chromium)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -m e2e

test-client: $(VENV)/requirements-dev.txt ## Test the TypeScript client and its types against the service (30 seconds; needs Node.js)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -m "client or not client" tests/openapi/test_typescript_client.py

test-mcp: $(VENV)/tests/mcp/requirements.txt ## Test the MCP server with the official suite, official clients and Better Auth (2 minutes; needs Node.js)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -m mcp $(TEST_OPTIONS) --dist loadfile

test-pooler: $(VENV)/requirements-dev.txt ## Test routes and lost connections through PgBouncer in transaction mode (1 minute)
	@PATH="$(abspath $(BIN)):$$PATH" TEST_POOLER=yes $(BIN)/python -m pytest $(TEST_OPTIONS) -k postgresql \
	  -m "not (slow or citus or direct)" tests/tasks tests/database/test_lost_connections.py

test-citus: $(VENV)/requirements-dev.txt ## Test routes and statements on a Citus cluster (4 minutes; TEST_CITUS_URL= of its coordinator)
	@[ -n "$$TEST_CITUS_URL" ] || { echo "TEST_CITUS_URL must name a database of a coordinator: docs/scale-out.md" >&2; exit 1; }
	@PATH="$(abspath $(BIN)):$$PATH" TEST_DATABASE_URL="$$TEST_CITUS_URL" $(BIN)/python -m pytest $(TEST_OPTIONS) -k postgresql \
	  -m "citus or not (slow or faults or client or e2e or one_server)" tests/tasks tests/database tests/telemetry/test_health.py tests/test_cli.py tests/test_errors.py

test-example: ## Test the Next.js example in a browser (6 minutes; needs Node.js and Chromium)
	@PATH="$(abspath $(BIN)):$$PATH" $(MAKE) --no-print-directory -C examples/nextjs test VENV="$(abspath $(VENV))"

bench: $(VENV)/bench/requirements.txt ## Measure speed and consistency against their targets (2 minutes; URL=, USERS=, OUT=)
	@$(BIN)/python -m bench.run $(if $(URL),--url "$(URL)") $(if $(REMOTE),--remote) $(if $(USERS),--users "$(USERS)") $(if $(OUT),--out "$(OUT)")

bench-growth: $(VENV)/bench/requirements.txt ## Measure requests and query plans as the table grows to 2 million tasks (OUT=)
	@$(BIN)/python -m bench.growth $(if $(OUT),--out "$(OUT)")

bench-size: $(VENV)/bench/requirements.txt ## Measure every route on 5 million tasks, and the upgrade of such a table (10 minutes; OUT=)
	@$(BIN)/python -m bench.size $(if $(OUT),--out "$(OUT)")

lint: $(VENV)/requirements-dev.txt ## Check style, types and imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo

audit: $(VENV)/requirements-dev.txt ## Look for known vulnerabilities in production's packages
	@$(BIN)/pip-audit --requirement requirements.txt --disable-pip --progress-spinner off

lock: $(VENV)/requirements-dev.txt ## Compile each requirements.in to requirements.txt (UPGRADE=yes takes the newest versions)
	@for name in requirements requirements-dev bench/requirements .ci/requirements tests/mcp/requirements; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-package pip \
	    --annotation-style line --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) $$name.in -o $$name.txt || exit 1; done

.env:
	@cp .env.example .env

$(VENV)/requirements.txt: requirements.txt
$(VENV)/requirements-dev.txt: requirements-dev.txt
$(VENV)/bench/requirements.txt: bench/requirements.txt $(VENV)/requirements-dev.txt
$(VENV)/tests/mcp/requirements.txt: tests/mcp/requirements.txt $(VENV)/requirements-dev.txt
$(VENV)/%.txt: | $(BIN)/python
	@echo "Installing $*.txt ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --retries 1 -r $*.txt >$(VENV)/pip.log 2>&1 \
	  || { echo "The packages could not be installed (is there a network?); see $(VENV)/pip.log" >&2; exit 1; }
	@mkdir -p $(@D) && cp $*.txt $@

$(BIN)/python:
	@for python in python3 python3.15 python3.14 python3.13 python3.12 python3.11 python none; do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && break; done; \
	  [ $$python != none ] || { echo "Python 3.11 or newer is needed: https://www.python.org/downloads/" >&2; exit 1; }; \
	  echo "Making $(VENV) with $$($$python --version) ..."; \
	  $$python -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); \
	    echo "$$python lacks its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }

.PHONY: help run test test-slow test-faults test-client test-pooler test-citus test-e2e test-mcp test-example bench bench-growth bench-size lint audit lock
.DELETE_ON_ERROR:
