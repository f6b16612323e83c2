# Needs Python 3.11 to 3.13, make and PyPI. `make repro` and `make test` set up what they need.
PYTHON ?= python3
GIT_REMOTE ?= origin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONPATH PYTHONHOME
# By its path: the make of macOS looks for commands in the PATH that it was started with.
RUN = .venv/bin/python

.PHONY: repro test lint bench torture verify verify-processors verify-cache compare current explore try share docs doctor \
  setup requirements

# The path reaches the script through the environment, as it was typed: it may hold spaces, quotes, and `$`.
ifneq ($(origin PHOTOS),undefined)
override PHOTOS := $(value PHOTOS)
export PHOTOS
PREPARE = $(RUN) src/photographs.py
endif

repro: setup  ## run all stages that are out of date, from the photographs to the report; PHOTOS=path: your own photographs
	$(PREPARE)
	@git rev-parse --git-dir > /dev/null || \
	  echo "thaw: DVC needs a Git repository: clone this one, or run git init where an archive was unpacked" >&2
	$(RUN) -m dvc repro
	@$(RUN) src/result.py

test: setup  ## run the tests
	@$(MAKE) --no-print-directory .venv/docs/installed || echo "without MkDocs: tests that build the handbook are skipped"
	@$(MAKE) --no-print-directory .venv/ray-installed || echo "without Ray: tests of several machines are skipped"
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder  # two processes; each file runs in one, the slowest first

lint: setup  ## check the formatting and find likely mistakes
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

bench: setup  ## measure speed and memory, one benchmark after the other: MINUTES=30 NAMES="steps race"
	$(RUN) benchmarks/bench.py $(NAMES) $(if $(MINUTES),--minutes $(MINUTES))

torture: setup  ## kill stages, fill disks, change the environment; then `dvc repro` must give the same bytes
	$(RUN) benchmarks/torture.py

verify: setup  ## run the last commit again in a temporary clone, and compare every output
	$(RUN) benchmarks/verify.py

verify-processors: setup  ## run a small pipeline under emulated processors (needs qemu-user), and compare every output
	$(RUN) benchmarks/verify_processors.py

verify-cache: setup  ## find damaged files in DVC's cache, and outputs that were copied from them
	$(RUN) benchmarks/verify.py --cache

compare: setup  ## compare the experiments of this commit, as a table and a picture
	$(RUN) src/compare.py

current: setup  ## fail if dvc.lock is out of date: if `dvc repro` would run a stage
	@plan=$$($(RUN) -m dvc repro --dry --allow-missing) && ! echo "$$plan" | grep "^Running stage" | grep -v "fingerprints" || \
	  { echo "dvc.lock is not current: run dvc repro, and commit what it wrote"; exit 1; }

explore: setup  ## open the run in the FiftyOne App; Ctrl-C ends it
	$(RUN) src/explore.py

try: setup  ## open a page to try the model on pictures of your own; PORT=number; Ctrl-C ends it
	@$(RUN) src/try.py $(if $(PORT),--port $(PORT))

share: setup  ## push data, models, the run cache and experiments to the DVC remote
	$(RUN) -m dvc push
	$(RUN) src/share.py --git-remote $(GIT_REMOTE)

docs: setup .venv/docs/installed  ## write the generated pages of the handbook, and build its site into site/
	$(RUN) src/handbook.py
	NO_MKDOCS_2_WARNING=1 .venv/docs/bin/python -m mkdocs build --quiet --strict
	@echo "open site/index.html"

doctor:  ## print what somebody needs to help you: no path, no name, no secret
	@if test -x .venv/bin/python; then $(RUN) src/doctor.py; else $(PYTHON) src/doctor.py; fi

setup: .venv/installed  ## make the environment .venv from requirements.txt
	@$(RUN) -c "" || { echo "thaw: the Python of .venv is gone: rm -r .venv, and run make again" >&2; exit 1; }

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else \
	  f"thaw: Python 3.11 to 3.13 is needed, $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import platform, sys; sys.exit((sys.platform, platform.machine()) == ("darwin", "x86_64") and \
	  "thaw: there is no TensorFlow for Macs with Intel: use Linux, or Apple silicon with a Python for it" or None)'
	{ $(RUN) -c "" && { test -x .venv/bin/uv || $(RUN) -m pip --version; }; } > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	test -x .venv/bin/uv || { sed -n '/^uv==/,/ # via/p' requirements.txt > .venv/uv.txt && \
	  $(RUN) -m pip install --quiet --require-hashes -r .venv/uv.txt; }
	.venv/bin/uv pip sync --quiet --python $(RUN) --compile-bytecode --require-hashes requirements.txt
	touch $@

.venv/docs/installed: requirements-docs.txt .venv/installed  # its own environment: the pipeline does not need it
	test -x .venv/docs/bin/python || .venv/bin/uv venv --quiet --python $(RUN) .venv/docs
	.venv/bin/uv pip sync --quiet --python .venv/docs/bin/python --require-hashes requirements-docs.txt
	touch $@

.venv/ray-installed: requirements-ray.txt .venv/installed  # beside the rest: `.venv/installed` removes it again
	.venv/bin/uv pip install --quiet --python $(RUN) --require-hashes -r requirements-ray.txt
	touch $@

requirements: setup  ## pin the packages of pyproject.toml again, with hashes
	.venv/bin/uv pip compile --quiet --upgrade --universal --generate-hashes --group dev pyproject.toml -o requirements.txt
	.venv/bin/uv pip compile --quiet --universal --generate-hashes --group fiftyone -c requirements.txt -o requirements-fiftyone.txt
	.venv/bin/uv pip compile --quiet --universal --generate-hashes --group docs -c requirements.txt -o requirements-docs.txt
	.venv/bin/uv pip compile --quiet --universal --generate-hashes --group ray -c requirements.txt -o requirements-ray.txt
