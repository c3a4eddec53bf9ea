PYTHON ?= python3
BIN := .venv/bin
.PHONY: run test lint bench clean

run: .venv/ready
	$(BIN)/python app.py

test: .venv/ready-dev
	$(BIN)/python -m pytest

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/ready-dev
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.adapters
	$(BIN)/python -m benchmarks.classroom

.venv/ready: requirements.txt requirements-starter.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt -c constraints.txt
	$(BIN)/pip install --quiet --no-deps -r requirements-starter.txt -c constraints.txt
	touch $@

.venv/ready-dev: .venv/ready requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt -c constraints.txt
	touch $@

clean:
	rm -rf .venv artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis .gradio
