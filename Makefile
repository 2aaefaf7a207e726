# The one entrance. `make` builds the wheel into .venv; `make help` lists the rest.
#
# PYTHON    the interpreter that .venv is made from (3.10 or newer; the wheel itself runs on every one of them)
#
# There is one profile of the wheel, `release`: what is tested and measured is what is published.

PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
VENV_STAMP := $(STAMPS)/venv
WHEEL_STAMP := $(STAMPS)/wheel
NODE_STAMP := node/dist/.built
NODE_SOURCES := Cargo.toml $(wildcard Cargo.lock) node/package.json node/tsconfig.json \
	$(shell find core bindings/allocator bindings/bridge bindings/node -type f \( -name '*.rs' -o -name '*.sql' -o -name 'Cargo.toml' \) 2>/dev/null) \
	$(shell find node/src -type f 2>/dev/null)
WHEEL_SOURCES := Cargo.toml pyproject.toml $(wildcard Cargo.lock) \
	$(shell find core bindings -type f \( -name '*.rs' -o -name '*.sql' -o -name 'Cargo.toml' \) 2>/dev/null) \
	$(shell find python -type f -not -path '*/__pycache__/*' 2>/dev/null)

.PHONY: wheel venv node node-packed node-test demo demo-node test lint bench bench-node bench-command-line soak clean help

wheel: $(WHEEL_STAMP)  ## builds the wheel and installs it into .venv (the default)

venv: $(VENV_STAMP)  ## makes .venv, with what builds and tests need

node: $(NODE_STAMP)  ## builds the npm package in node/, which can then be required or linked as it is

node-packed: node tests/node/node_modules/.installed examples/node/node_modules/.installed  ## packs it as it is published, and installs that for the tests

node-test: node-packed  ## the tests of the npm package
	cd tests/node && npm test --silent

demo: wheel demo-node  ## a census of Python's standard library by two processes, one of which is killed, and of npm by threads; then the tour: workers of the command line in both languages
	$(BIN)/python examples/census.py --processes 2 $(ARGS)
	$(BIN)/python examples/tour/tour.py

demo-node: examples/node/node_modules/.installed  ## the latter by itself; NODE_ARGS="--store sqlite:census.db --threads 4"
	node examples/node/census.mjs $(NODE_ARGS)

test:  ## everything, from nothing; the last line is the sum
	@$(PYTHON) tools/test.py $(ARGS)

lint:  ## the checks that need no build: format, structure, types, clippy
	@$(PYTHON) tools/test.py --fast $(ARGS)

bench-command-line: wheel  ## how long the command takes over a million tasks; writes its part of docs/benchmarks.md
	$(BIN)/python benches/command_line/million_tasks.py --write $(ARGS)

soak:  ## longer versions of the searching tests, again and again; takes hours
	@$(PYTHON) tools/test.py --soak $(ARGS)

bench: wheel  ## measures, and writes docs/benchmarks.md
	$(PYTHON) tools/bench_rust.py
	$(BIN)/python benches/python/run.py $(ARGS)

bench-node: node  ## the npm package beside its peers; writes its part of docs/benchmarks.md
	cd benches/node && npm ci --no-audit --ignore-scripts --loglevel=error
	node -e "import('node:sqlite')" 2>/dev/null || (cd benches/node && npm rebuild --loglevel=error better-sqlite3)
	cd benches/node && npm run --silent bench -- --write $(ARGS)

clean:  ## removes all that was built
	rm -rf target target-* dist .venv .venvs node/dist node/npm node/node_modules tests/node/node_modules examples/node/node_modules

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 15

$(VENV_STAMP): requirements-dev.txt requirements-test.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	mkdir -p $(STAMPS)
	touch $@

# A deleted source file does not make the stamp old; `make -B wheel` builds whatever the stamps say.
$(WHEEL_STAMP): $(VENV_STAMP) $(WHEEL_SOURCES)
	rm -rf dist/new
	$(BIN)/maturin build --quiet --release --interpreter $(BIN)/python --out dist/new
	rm -f dist/taskloom-*.whl
	mv dist/new/taskloom-*.whl dist/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/taskloom-*.whl
	touch $@

node/node_modules/.installed: node/package.json node/package-lock.json
	cd node && npm ci --no-audit --ignore-scripts --loglevel=error
	touch $@

$(NODE_STAMP): node/node_modules/.installed $(NODE_SOURCES)
	cd node && npm run --silent build
	touch $@

# npm leaves a package alone that has the version of the one it finds, so the old one goes first.
tests/node/node_modules/.installed: tests/node/package.json tests/node/package-lock.json $(NODE_STAMP) $(wildcard node/*.mjs node/*.mts) node/README.md tools/pack_node.py
	$(PYTHON) tools/pack_node.py
	cd tests/node && npm ci --no-audit --ignore-scripts --loglevel=error
	cd tests/node && npm install --no-save --offline --no-audit --ignore-scripts --loglevel=error ../../dist/npm/*.tgz
	touch $@

examples/node/node_modules/.installed: examples/node/package.json examples/node/package-lock.json tests/node/node_modules/.installed
	cd examples/node && npm ci --no-audit --ignore-scripts --loglevel=error
	cd examples/node && npm install --no-save --offline --no-audit --ignore-scripts --loglevel=error ../../dist/npm/*.tgz
	touch $@
