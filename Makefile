# Needs Python 3.11 to 3.13, make and PyPI. `make repro` and `make test` set up what they need.
PYTHON ?= python3
GIT_REMOTE ?= origin
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test lint bench torture verify verify-cache compare current explore share setup requirements

repro: setup  ## run what is out of date, from photographs to the report
	dvc repro

test: setup  ## the tests
	pytest -n 2 --dist loadfile  # a test file is the work of one of two processes

lint: setup  ## formatting and likely mistakes
	ruff check .
	ruff format --check .

bench: setup  ## rates of each step, epochs, memory and time to a model, against Keras, the engine and the floor
	@for one in steps epoch memory race; do echo "$$one:"; python benchmarks/$$one.py || failed="$$failed $$one"; done; \
	  test -z "$$failed" || { echo "not measured:$$failed"; exit 1; }

torture: setup  ## kills, full disks and odd surroundings, after which `dvc repro` yields the same bytes
	python benchmarks/torture.py

verify: setup  ## run the last commit anew in a scratch clone: is every output identical?
	python benchmarks/verify.py

verify-cache: setup  ## look for damage in DVC's cache, and in outputs that came out of it
	python benchmarks/verify.py --cache

compare: setup  ## the experiments of this commit side by side, as a table and a picture
	python src/compare.py

current: setup  ## fail where dvc.lock is not current: where `dvc repro` would run a stage
	@would=$$(dvc repro --dry --allow-missing) && ! echo "$$would" | grep "^Running stage" || \
	  { echo "dvc.lock is not current: run dvc repro, and commit what it wrote"; exit 1; }

explore: setup  ## the run in FiftyOne: its App, until Ctrl-C
	python src/explore.py

share: setup  ## data, models, run cache and experiments to the DVC remote
	dvc push
	python src/share.py --git-remote $(GIT_REMOTE)

setup: .venv/installed  ## the environment, from requirements.txt alone

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else \
	  f"thaw: Python 3.11 to 3.13 is needed, $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	test -x .venv/bin/uv || { sed -n '/^uv==/,/ # via/p' requirements.txt > .venv/uv.txt && \
	  .venv/bin/python -m pip install --quiet --require-hashes -r .venv/uv.txt; }
	.venv/bin/uv pip sync --quiet --compile-bytecode --require-hashes requirements.txt
	touch $@

requirements: setup  ## pin anew what pyproject.toml asks for
	uv pip compile --quiet --upgrade --universal --generate-hashes --group dev pyproject.toml -o requirements.txt
	uv pip compile --quiet --universal --generate-hashes --group fiftyone -c requirements.txt -o requirements-fiftyone.txt
