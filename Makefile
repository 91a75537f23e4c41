# Conveniences: every target is a line or two that can be typed by hand in an environment with requirements.txt.

VENV ?= .venv
PYTHON ?= python3
PORT ?= 5000

# A new list of requirements has a new sum, so that its stamp is missing.
READY := $(VENV)/.ready-$(shell cat requirements.txt constraints.txt | cksum | cut -d" " -f1)
# Stages call `python`, which the shell looks up on PATH, so the environment's folder comes first.
ENV := export PATH="$$(cd "$(VENV)" && pwd)/bin:$$PATH"

.PHONY: help setup run test ui plots compare page constraints
