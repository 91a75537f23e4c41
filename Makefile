# Shortcuts. In an environment with requirements.txt installed, you can type all of this by hand.

VENV ?= .venv
PYTHON ?= python3

# This empty file marks a finished installation. Its name has a checksum of the requirements, so if they change, make
# installs again.
READY := $(VENV)/.ready-$(shell cat requirements.txt constraints.txt | cksum | cut -d" " -f1)
# DVC runs stages with the first `python` on PATH, so put the environment first.
ENV := export PATH="$$(cd "$(VENV)" && pwd)/bin:$$PATH"

# Run `dvc repro` without its final hint to use `dvc push`, because there is no remote. Only stdout is filtered, so that
# progress bars still see a terminal. The filter ignores Ctrl-C, so that a stage's last messages are printed.
HINT := Use `dvc push` to send your updates to remote storage.
REPRO = exec 4>&1; status=$$({ { dvc repro 3>&-; echo $$? >&3; } | (trap "" INT; \
	    grep --line-buffered -vxF '$(HINT)' || :) >&4 3>&-; } 3>&1); exec 4>&-; (exit $$status)

# The closing lines of `make run`.
MORE := $(if $(filter command line,$(origin VENV)), VENV=$(VENV))
define NEXT
  echo; \
  echo "Look at the pictures:"; \
  echo "  plots/manifolds.png        images decoded from a grid of z, for each label"; \
  echo "  plots/latents.png          the latents of the training images"; \
  echo "  plots/reconstructions.png  test images and their reconstructions"; \
  echo "  plots/styles.png           one z in each row, decoded as every label"; \
  echo "  plots/training.png         the losses over the epochs"; \
  echo "  plots/learning.png         what the decoder drew on the way, animated"; \
  echo "Then, from this folder:"; \
  echo "  make explore$(MORE) opens plots/explorer.html, where you can play with the model"; \
  echo "  make ui$(MORE)      starts MLflow's UI, with these pictures and more"; \
  echo "  make plots$(MORE)   writes them to a page, dvc_plots/index.html"; \
  echo "To keep this result, so that you can return to it: git commit -am 'First result'"; \
  echo "Before you type dvc, cvae or python commands, activate the environment once per terminal:"; \
  echo "  source $(VENV)/bin/activate"
endef

.PHONY: help setup run test test-long audit explore ui serve plots compare page screenshots constraints

help:  ## List these targets.
	@echo "Usage: make TARGET [VENV=folder] [PORT=number] [ARGS=...]"
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | \
	  while IFS='|' read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done

setup: $(READY)  ## Create the virtual environment and install the requirements.

$(READY):
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "Python 3.11 or newer is needed; choose one with PYTHON=..." >&2; exit 1; }
	@echo "Installing the requirements into $(VENV). This happens once; torch and CUDA take about 7 GB."
	test -x "$(VENV)/bin/python" || $(PYTHON) -m venv "$(VENV)"
	"$(VENV)/bin/python" -m pip install --disable-pip-version-check --progress-bar off -r requirements.txt
	@touch "$@"

run: $(READY)  ## Run the pipeline, on scikit-learn's digits if the data set cannot be downloaded.
	@$(ENV); offline=; dataset=$$(sed -n 's/^dataset: *\([a-z-]*\).*/\1/p' params.yaml); \
	dvc status -q download || python -m stages.download --check || case $$? in 3) offline=yes;; *) exit 1;; esac; \
	if [ -z "$$offline" ] || dvc repro -q download 2>/dev/null; then \
	  echo "Running the pipeline: dvc repro"; $(REPRO) || exit; \
	else \
	  echo; \
	  echo "The data set is not in the cache and cannot be downloaded. The pipeline now runs on 'digits' instead:"; \
	  echo "1,797 small handwritten digits that come with scikit-learn. The results differ from the article's."; \
	  echo "  dvc exp run -S dataset=digits"; \
	  echo; \
	  dvc exp run -S dataset=digits || exit; \
	  echo; \
	  echo "This ran on 'digits'. With a network, or MNIST_MIRROR=<folder or URL of its files>, switch back with:"; \
	  echo "  dvc exp run -S dataset=$$dataset"; \
	fi; \
	$(NEXT)

test: $(READY)  ## Check style and imports, and run the tests.
	@$(ENV); set -ex; ruff check .; ruff format --check .; lint-imports --no-cache; \
	  workers=$$(python -c "import os; print(min(os.cpu_count() + 1, 5))"); \
	  python -m pytest -n $$workers --dist loadscope --no-loadscope-reorder $(ARGS)

test-long: $(READY)  ## Run the long tests, such as kills and fuzzing. They take an hour or more.
	@$(ENV); set -ex; python -m pytest -m long --timeout 0 $(ARGS)

audit: $(READY)  ## Check the dependencies for known vulnerabilities. This needs a network.
	@$(ENV); set -ex; python -m pip check; python -m venv .venv-audit; trap 'rm -rf .venv-audit' EXIT; \
	  .venv-audit/bin/pip install -q pip-audit; \
	  .venv-audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip --strict --progress-spinner off

explore: $(READY)  ## Open a page that runs the model in the browser, or another run's with ARGS="--run NAME".
	@$(ENV); PYTHONPATH=src python -m cvae explore $(ARGS)

ui: $(READY)  ## Start the MLflow UI on 127.0.0.1, and print a link to the charts.
	@$(ENV); PYTHONPATH=src exec python -m cvae ui --port $(or $(PORT),5000)

serve: $(READY)  ## Serve the current model on 127.0.0.1, or another run's with ARGS="--run NAME".
	@$(ENV); PYTHONPATH=src exec python -m cvae serve --port $(or $(PORT),5001) $(ARGS)

plots: $(READY)  ## Write all plots to a page, dvc_plots/index.html.
	@$(ENV); dvc plots show

page: $(READY)  ## Rebuild the template of that page after a change in .dvc/plots.
	@$(ENV); python .dvc/plots/page.py

compare: $(READY)  ## Compare DVC experiments, all or those named in ARGS, in tables and a picture.
	@$(ENV); PYTHONPATH=src python -m cvae compare $(ARGS)

screenshots: $(READY)  ## Photograph the pages for docs/, with two experiments named in ARGS. This needs Chromium.
	@$(ENV); PYTHONPATH=src:tests python docs/screenshots.py $(ARGS)

constraints:  ## Update constraints.txt after a change in requirements.txt or requirements-team.txt.
	@$(PYTHON) -m venv .venv-uv; trap 'rm -rf .venv-uv' EXIT; .venv-uv/bin/pip install -q uv; \
	  grep -hv '^-[ce]' requirements.txt requirements-team.txt | .venv-uv/bin/uv pip compile - \
	  --universal --python-version 3.11 --strip-extras --no-header --no-annotate --no-emit-index-url -q -o constraints.txt
