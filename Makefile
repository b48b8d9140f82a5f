# Each target first makes the environment in .venv with uv, which it puts there if it is not installed.
# PYTHON chooses the interpreter: make clean quickstart PYTHON=python3.12
PYTHON ?= python3
RUN := .venv/bin/python
# Some container images set it; without bytecode on disk every process compiles torch and lightning anew (15 s here).
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test lint docs clean
.NOTPARALLEL:

quickstart: .venv/ready
	$(RUN) -m hybrid_vit.train experiment=quickstart

test: .venv/ready
	$(RUN) -m pytest

lint: .venv/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The site, in site/; a broken link or a key without a meaning is an error.
docs: export PATH := $(PATH):$(CURDIR)/.venv/bin
docs: .venv/ready
	@uv pip install --quiet --python .venv --constraints constraints.txt --group docs || exit 1
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

# The make of macOS (3.81) finds a command in the PATH that is exported here only if the line needs a shell: hence && and ||.
# .venv/begun is left by an installation that was interrupted: the next one begins afresh.
.venv/ready: export PATH := $(PATH):$(CURDIR)/.venv/bin
.venv/ready: pyproject.toml constraints.txt
	@test ! -e .venv/begun || rm -rf .venv
	@uv --version >/dev/null 2>&1 || { $(PYTHON) -m venv .venv && .venv/bin/pip install --quiet --force-reinstall uv; }
	@uv venv --quiet --seed --allow-existing --python "$$(command -v $(PYTHON) || echo $(PYTHON))" .venv && touch .venv/begun
	@uv pip install --quiet --python .venv --constraints constraints.txt --group dev --editable '.[all,demo,openvino]' && mv .venv/begun $@

clean:
	rm -rf .venv
