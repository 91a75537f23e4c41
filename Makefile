# Conveniences: every target is a line or two that can be typed by hand in an environment with requirements.txt.

VENV ?= .venv
PYTHON ?= python3

# A new list of requirements has a new sum, so that its stamp is missing.
READY := $(VENV)/.ready-$(shell cat requirements.txt constraints.txt | cksum | cut -d" " -f1)
# Stages call `python`, which the shell looks up on PATH, so the environment's folder comes first.
ENV := export PATH="$$(cd "$(VENV)" && pwd)/bin:$$PATH"

# `dvc repro` without its closing hint at `dvc push`, since there is no remote. Only stdout goes through the filter, so
# progress bars keep their terminal; the filter outlives Ctrl-C, so that a stage's last words arrive.
HINT := Use `dvc push` to send your updates to remote storage.
REPRO = exec 4>&1; status=$$({ { dvc repro 3>&-; echo $$? >&3; } | (trap "" INT; \
	    grep --line-buffered -vxF '$(HINT)' || :) >&4 3>&-; } 3>&1); exec 4>&-; (exit $$status)

# The last lines of `make run`.
MORE := $(if $(filter command line,$(origin VENV)), VENV=$(VENV))
define NEXT
  echo; \
  echo "Look at the pictures:"; \
  echo "  plots/manifolds.png        what the decoder draws across the latents, for each label"; \
  echo "  plots/latents.png          where the encoder puts the training images"; \
  echo "  plots/reconstructions.png  test images and what comes back"; \
  echo "  plots/styles.png           one z in each row, drawn as every label"; \
  echo "  plots/training.png         the losses"; \
  echo "Then, from this folder:"; \
  echo "  make ui$(MORE)      the same and more in MLflow"; \
  echo "  make plots$(MORE)   the same as a page, dvc_plots/index.html"; \
  echo "Before dvc, cvae and python commands, activate the environment once in each terminal:"; \
  echo "  source $(VENV)/bin/activate"
endef

.PHONY: help setup run test test-long audit ui serve plots compare page constraints

help:  ## List the targets.
	@echo "Usage: make TARGET [VENV=folder] [PORT=number] [ARGS=...]"
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done

setup: $(READY)  ## Make the virtual environment and install the requirements.

$(READY):
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("Python 3.11 or newer is needed; PYTHON=... names one")'
	@echo "Installing the requirements into $(VENV), once; torch and CUDA are about 5 GB."
	test -x "$(VENV)/bin/python" || $(PYTHON) -m venv "$(VENV)"
	"$(VENV)/bin/python" -m pip install --disable-pip-version-check --progress-bar off -r requirements.txt
	@touch "$@"

run: $(READY)  ## Run the pipeline; where its data cannot be had, run it on scikit-learn's digits.
	@$(ENV); offline=; dataset=$$(sed -n 's/^dataset: *\([a-z-]*\).*/\1/p' params.yaml); \
	dvc status -q download || python -m stages.download --check || case $$? in 3) offline=yes;; *) exit 1;; esac; \
	if [ -z "$$offline" ] || dvc repro -q download 2>/dev/null; then \
	  echo "Running the pipeline: dvc repro"; $(REPRO) || exit; \
	else \
	  echo; \
	  echo "The data set is neither in the cache nor within reach, so the pipeline now runs on 'digits':"; \
	  echo "1,797 small handwritten digits that come with scikit-learn. Its figures are not the article's."; \
	  echo "  dvc exp run -S dataset=digits"; \
	  echo; \
	  dvc exp run -S dataset=digits || exit; \
	  echo; \
	  echo "This ran on 'digits'. To come back, with a network or MNIST_MIRROR=<folder or URL of the four files>:"; \
	  echo "  dvc exp run -S dataset=$$dataset"; \
	fi; \
	$(NEXT)

test: $(READY)  ## Check the style and the order of the rooms, and run the tests.
	@$(ENV); set -ex; ruff check .; ruff format --check .; lint-imports --no-cache; \
	  workers=$$(python -c "import os; print(min(os.cpu_count() + 1, 5))"); \
	  python -m pytest -n $$workers --dist loadscope --no-loadscope-reorder $(ARGS)

test-long: $(READY)  ## Run the long forms of the tests: kills, fuzzing, speed beside faults; an hour or more.
	@$(ENV); set -ex; python -m pytest -m long $(ARGS)

audit: $(READY)  ## Look all dependencies up among the known vulnerabilities; this needs the network.
	@$(ENV); set -ex; python -m pip check; python -m venv .venv-audit; trap 'rm -rf .venv-audit' EXIT; \
	  .venv-audit/bin/pip install -q pip-audit; \
	  .venv-audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip --strict --progress-spinner off

ui: $(READY)  ## Start the MLflow UI on 127.0.0.1 and print the link of the charts.
	@$(ENV); PYTHONPATH=src exec python -m cvae ui --port $(or $(PORT),5000)

serve: $(READY)  ## Serve the present model on 127.0.0.1, or ARGS="--run NAME", and print a request to try.
	@$(ENV); PYTHONPATH=src exec python -m cvae serve --port $(or $(PORT),5001) $(ARGS)

plots: $(READY)  ## Write the page of `dvc plots show`: dvc_plots/index.html.
	@$(ENV); dvc plots show

page: $(READY)  ## Make that page's template anew, .dvc/plots/page.html, after a change beside it or of Vega.
	@$(ENV); python .dvc/plots/page.py

compare: $(READY)  ## Compare DVC's experiments, all or those in ARGS: a table, plots/rate_distortion.png and .csv.
	@$(ENV); PYTHONPATH=src python -m cvae compare $(ARGS)

constraints:  ## Pin everything that requirements.txt pulls in again, in constraints.txt.
	@$(PYTHON) -m venv .venv-uv; trap 'rm -rf .venv-uv' EXIT; .venv-uv/bin/pip install -q uv; \
	  grep -v '^-[ce]' requirements.txt | .venv-uv/bin/uv pip compile - \
	  --universal --python-version 3.11 --strip-extras --no-header --no-annotate --no-emit-index-url -q -o constraints.txt
