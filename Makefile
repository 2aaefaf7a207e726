# The one entrance: `make venv`, `make wheel`.
#
# PYTHON    the interpreter that .venv is made from (3.10 or newer; the wheel itself runs on every one of them)
# PROFILE   the Cargo profile of the wheel: `dev-release` builds fast; `make wheel PROFILE=release` is what is published

PYTHON ?= python3
PROFILE ?= dev-release

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
VENV_STAMP := $(STAMPS)/venv
# One stamp per profile, and each build removes the others': what is installed is what the newest stamp says.
WHEEL_STAMP := $(STAMPS)/wheel-$(PROFILE)
WHEEL_SOURCES := Cargo.toml pyproject.toml $(wildcard Cargo.lock) \
	$(shell find core bindings -type f \( -name '*.rs' -o -name '*.sql' -o -name 'Cargo.toml' \) 2>/dev/null) \
	$(shell find python -type f -not -path '*/__pycache__/*' 2>/dev/null)

.PHONY: venv wheel
venv: $(VENV_STAMP)
wheel: $(WHEEL_STAMP)

$(VENV_STAMP): requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	mkdir -p $(STAMPS)
	touch $@

# A deleted source file does not make the stamp old; `make -B wheel` builds whatever the stamps say.
$(WHEEL_STAMP): $(VENV_STAMP) $(WHEEL_SOURCES)
	rm -f dist/taskloom-*.whl $(STAMPS)/wheel-*
	$(BIN)/maturin build --quiet --profile $(PROFILE) --interpreter $(BIN)/python --out dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/taskloom-*.whl
	touch $@
