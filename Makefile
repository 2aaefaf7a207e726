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
WHEEL_SOURCES := Cargo.toml pyproject.toml $(wildcard Cargo.lock) \
	$(shell find core bindings -type f \( -name '*.rs' -o -name '*.sql' -o -name 'Cargo.toml' \) 2>/dev/null) \
	$(shell find python -type f -not -path '*/__pycache__/*' 2>/dev/null)

.PHONY: wheel venv demo test lint bench soak clean help

wheel: $(WHEEL_STAMP)  ## builds the wheel and installs it into .venv (the default)

venv: $(VENV_STAMP)  ## makes .venv, with what builds and tests need

demo: wheel  ## a census of Python's standard library by two processes, one of which is killed; ARGS="--store memory: --processes 0"
	$(BIN)/python examples/census.py --processes 2 $(ARGS)

test:  ## everything, from nothing; the last line is the sum
	@$(PYTHON) tools/test.py $(ARGS)

lint:  ## the checks that need no build: format, structure, types, clippy
	@$(PYTHON) tools/test.py --fast $(ARGS)

soak:  ## longer versions of the searching tests, again and again; takes hours
	@$(PYTHON) tools/test.py --soak $(ARGS)

bench: wheel  ## measures, and writes docs/benchmarks.md
	$(PYTHON) tools/bench_rust.py
	$(BIN)/python benches/python/run.py $(ARGS)

clean:  ## removes all that was built
	rm -rf target target-* dist .venv .venvs

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 15

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
