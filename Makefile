# The two commands of a newcomer: `make run` and `make test`. Each does its own set-up.

VENV ?= .venv
PY := $(VENV)/bin/python
export VENV

.PHONY: help run test bench crash lint check lock messages clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: ## install what is needed and run everything on this machine (PORT, GATEHOUSE_HOME)
	@scripts/setup.sh lab
	@exec $(PY) manage.py up

test: ## the whole suite on the embedded defaults (ARGS are passed to pytest)
	@scripts/setup.sh dev
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

bench: ## measure (ONLY=sync for one section); writes GATEHOUSE_HOME/bench.json
	@scripts/setup.sh dev
	@$(PY) -m bench $(ONLY)

crash: ## SIGKILLs: twenty in the middle of syncs of 20,000 devices, a hundred while 2,000 commands are sent
	@scripts/setup.sh dev
	@CRASH_KILLS=20 CRASH_DEVICES=20000 CRASH_ACT_KILLS=100 CRASH_ACT_COMMANDS=2000 $(PY) -m pytest -s tests/crash

lint: ## style, types, import rules
	@scripts/setup.sh dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy console sync connectors lab bench tests
	@$(VENV)/bin/lint-imports

check: lint ## lint, migrations, compose file
	@$(PY) manage.py makemigrations --check --dry-run
	@$(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

lock: ## make the locked requirements anew (needs uv)
	@for name in base lab kerberos dev; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
			--no-emit-find-links --no-header requirements/$$name.in -o requirements/$$name.txt || exit 1; \
	done

messages: ## collect the texts to translate and compile the translations (needs gettext)
	@scripts/setup.sh dev
	@$(PY) manage.py makemessages --locale zh_Hant --no-obsolete --ignore '.venv/*' --ignore 'var/*'
	@$(PY) manage.py compilemessages --locale zh_Hant --ignore '.venv/*'

clean: ## remove the virtual environment and caches (not the data)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
