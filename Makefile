# Each target makes the environment in .venv by itself (with uv where it is installed, else with venv and pip).
PYTHON ?= python3
RUN := .venv/bin/python
# Some container images set it; without bytecode on disk every process compiles torch and lightning anew (15 s here).
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test lint clean

quickstart: .venv/ready
	$(RUN) -m hybrid_vit.train experiment=quickstart

test: .venv/ready lint
	$(RUN) -m pytest

lint: .venv/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

.venv/ready: pyproject.toml constraints.txt
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
		uv pip install --quiet --python .venv --constraints constraints.txt --group dev --editable .; \
	else \
		$(PYTHON) -m venv .venv && \
		.venv/bin/pip install --quiet --upgrade 'pip>=25.1' && \
		.venv/bin/pip install --quiet --constraint constraints.txt --group dev --editable .; \
	fi
	@touch $@

clean:
	rm -rf .venv
