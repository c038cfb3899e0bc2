# make demo  sets everything up and runs the main job on pictures it makes up
# make test  sets everything up and passes the tests
# make lint  style and types
# make docs  the documentation as a site, in site-docs/
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint docs clean

# mmcv asks for opencv-python, which needs libGL; bare servers and containers lack it. The headless
# build holds the same module, so it takes the place of the other.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	$(PIP) uninstall -q -y opencv-python opencv-python-headless
	$(PIP) install -q --no-deps -c constraints.txt opencv-python-headless
# lightly is what tests and benchmarks compare with; its losses need none of its dependencies
	$(PIP) install -q --no-deps -c constraints.txt lightly
	@touch $@

demo: $(READY)
	$(BIN)/vicregl-bench data make voc --out demo/data --train 48 --val 24 --seed 0
	$(BIN)/vicregl-bench run --ckpt random:resnet18 --task voc_linear --profile ci \
		--data-root demo/data --out demo/runs --pictures 4
	$(BIN)/vicregl-bench leaderboard --records demo/runs

# Two processes of one thread each: small tests gain nothing from more, and each takes up to 6 GB.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 2

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) demo site-docs
