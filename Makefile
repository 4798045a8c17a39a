# thinpool-csi: every target installs what it needs when it is missing, and nothing when it is there.

VENV := .venv
export VENV
# The wire contract's test and csi-sanity need Go; where there is none, this fetches one.
export GO := $(CURDIR)/tests/tools/go
PYTHON := $(VENV)/bin/python
# HOST=1: on this machine's own kernel, when it has dm-thin, instead of in a guest.
GUEST := $(PYTHON) -m tests.guest $(if $(HOST),--host)
SUITE := $(PYTHON) -m tests.tools.suite $(if $(HOST),--host)
# T: the tests to run, files or directories; all when empty.
T :=
# What a guest is given, for `make guest`.
OPTIONS := --disk 8G --disk 8G

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo bench image cluster chart test test-cluster test-faults lint unit kernel sanity guest proto manifests format lock packages clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: packages $(VENV)/ready ## show the driver at work: a node on an embedded pool, driven as the kubelet would
	@$(GUEST) --memory 2048 --disk 24G --timeout 600 -- tests/tools/demo

test: packages $(VENV)/ready ## everything: lint, unit tests, the chart, tests in guest kernels, csi-sanity
	@$(SUITE) all

test-cluster: packages $(VENV)/ready ## tests on a Kubernetes cluster of two nodes, in guests (T=tests/cluster/…)
	@tests/tools/setup cluster >/dev/null
	@$(PYTHON) -m tests.cluster.image >/dev/null
	@$(SUITE) cluster $(T)

test-faults: packages $(VENV)/ready ## crashes, power cuts, hostile input (ROUNDS=… for long, SEED=… to repeat, T=tests/faults/…)
	@$(SUITE) faults $(T)

cluster: packages $(VENV)/ready ## bring such a cluster up, with the driver in it, until Ctrl-C
	@$(PYTHON) -m tests.cluster

bench: packages $(VENV)/ready ## measure the driver beside LVM and what cannot be avoided, in a guest (ONLY=…, QUICK=1)
	@$(GUEST) --memory 1024 --disk 24G --disk 24G --disk 8G --timeout 5400 --share bench -- \
		$(PYTHON) -m bench --output $(if $(HOST),bench,/run/shared) $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

image: packages $(VENV)/ready ## build the container image
	@tests/tools/setup cluster-packages
	@$(PYTHON) -m tests.cluster.image

lint: $(VENV)/ready ## ruff, mypy, layers, generated stubs, the wire contract
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	tests/tools/proto check
	$(PYTHON) -m pytest -q tests/unit/pb

unit: $(VENV)/ready ## unit tests, on this machine, with no privilege (T=tests/unit/…)
	@$(PYTHON) -m pytest $(or $(T),tests/unit)

chart: $(VENV)/ready ## helm lint, template tests, generated files (T=tests/chart/…)
	@$(SUITE) chart $(T)

kernel: packages $(VENV)/ready ## tests on a real kernel's thin pool, in guests (T=tests/kernel/…)
	@$(SUITE) kernel $(T)

sanity: packages $(VENV)/ready ## csi-sanity, in a guest
	@$(SUITE) sanity $(T)

guest: packages $(VENV)/ready ## run CMD='…' in a guest kernel (OPTIONS='--udev --disk 8G …')
	@test -n "$$CMD" || { echo "make guest CMD='dmsetup targets'" >&2; exit 2; }
	@$(GUEST) $(OPTIONS) -- sh -c "$$CMD"
# As it was written: make would expand its dollars.
guest: override export CMD := $(value CMD)

proto: $(VENV)/ready ## write csi/pb anew from proto/
	tests/tools/proto generate

manifests: $(VENV)/ready ## write deploy/ and the chart's README anew from the chart
	@$(PYTHON) -m tests.tools.chart generate

format: $(VENV)/ready ## lay out the code as lint wants it
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

lock: ## pin the newest dependencies that pyproject.toml allows
	tests/tools/setup lock

packages:
	@tests/tools/setup packages

$(VENV)/ready: requirements-dev.lock | packages
	@tests/tools/setup venv

clean: ## remove what make made in the checkout
	rm -rf $(VENV) .hypothesis .mypy_cache .ruff_cache .import_linter_cache dist
	find bench csi tests -name __pycache__ -prune -exec rm -rf {} +
