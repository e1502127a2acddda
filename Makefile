# SPDX-License-Identifier: Apache-2.0
# Every way to build, check and run Headrace. `make` alone explains itself.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ENGINE := dataplane/engine
C_FOLDERS := $(ENGINE) dataplane/cni tests/cluster
BUILD := build/engine
BUILD_SANITIZE := build/engine-sanitize
BUILD_TSAN := build/engine-tsan
BUILD_FUZZ := build/engine-fuzz
BIN := .venv/bin
# Arguments for the benchmark: make bench BENCH_ARGS='--only ipv4-4k'
BENCH_ARGS ?=
# Arguments for deploy.lock: make lock LOCK_ARGS=--upgrade
LOCK_ARGS ?=
# Arguments for pytest: make test PYTEST_ARGS='-k overlay'
PYTEST_ARGS ?=
# Tests side by side: 0 runs them one by one, with what they print as it comes.
PYTEST_WORKERS ?= 3
# SSH key that signs a release, and registry to push it to: make release KEY=FILE REGISTRY=HOST/PATH
KEY ?=
REGISTRY ?=
# Arguments for the demo on kind: make kind-demo KIND_ARGS=--help
KIND_ARGS ?=
# Seconds for each fuzzer: make fuzz FUZZ_SECONDS=600
FUZZ_SECONDS ?= 30
# Seconds of each random walk of make soak.
SOAK_SECONDS ?= 1800
# What make test-dpdk tests with: Debian releases, and arm64.
DPDK_TARGETS ?= bookworm trixie sid arm64

LOCK := deploy/lock/all.txt
VENV_STAMP := .venv/stamp-$(firstword $(shell cat pyproject.toml $(LOCK) | sha256sum))

DEBIAN_PACKAGES := \
	clang clang-format gcc libclang-rt-dev libdpdk-dev libjansson-dev libpcap-dev meson ninja-build pkg-config \
	dpdk-dev ethtool iperf3 iproute2 iputils-ping procps python3-venv tcpdump
# What a cluster for the tests consists of, besides Kubernetes itself, and what makes images.
CLUSTER_PACKAGES := \
	buildah conntrack containerd containernetworking-plugins etcd-server iptables libc6-dev \
	docker-registry lua5.4 mmdebstrap nftables openssh-client openssl prometheus runc skopeo

say = printf '\033[1m==> %s\033[0m\n'

.PHONY: help setup setup-cluster venv lock build build-sanitize build-tsan demo kind-demo kind-delete test test-quick \
	test-sriov test-dpdk soak \
	lint format bench fuzz cluster cluster-up cluster-down images chart release clean

help: ## Show this list
	@echo 'Headrace: Kubernetes objects in, DPDK dataplanes out. Start with: make demo'
	echo
	sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## Install the Debian packages that are missing (needs root; nothing missing: no network)

setup-cluster: setup ## Install what the tests' cluster and the images need besides

setup: PACKAGES := $(DEBIAN_PACKAGES)
setup-cluster: PACKAGES := $(CLUSTER_PACKAGES)
setup setup-cluster:
	@if ! command -v dpkg-query apt-get >/dev/null; then
		missing=
		for tool in meson ninja pkg-config cc clang clang-format ip ping iperf3 tcpdump ethtool; do
			command -v $$tool >/dev/null || missing+=" $$tool"
		done
		pkg-config --exists 'libdpdk >= 22.11' jansson 2>/dev/null || missing+=" DPDK>=22.11 jansson"
		[ -z "$$missing" ] && exit 0
		echo "This is not Debian or Ubuntu: install with your own package manager:$$missing" >&2
		exit 1
	fi
	installed=$$(dpkg-query -W -f '$${db:Status-Abbrev} $${Package}\n' | sed -n 's/^.i. *//p')
	missing=$$(comm -23 <(tr ' ' '\n' <<<'$(PACKAGES)' | sort) <(sort -u <<<"$$installed"))
	[ -z "$$missing" ] && exit 0
	if [ "$$(id -u)" != 0 ]; then
		echo "Packages are missing. Run: sudo apt-get install" $$missing >&2
		exit 1
	fi
	$(say) "installing $$(echo $$missing)"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends $$missing

venv: setup $(VENV_STAMP) ## Make .venv with Headrace (editable) and what its tests need

# A virtual environment of an older lock is brought up to date, not made anew.
$(VENV_STAMP):
	@python=
	for candidate in python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do
		$$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
			2>/dev/null && python=$$candidate && break
	done
	[ -n "$$python" ] || { echo 'Python 3.11 or newer, with venv, is needed.' >&2; exit 1; }
	$(say) "virtual environment: .venv, $$($$python --version)"
	[ -x $(BIN)/python ] || $$python -m venv .venv
	install='$(BIN)/python -m pip install --quiet --disable-pip-version-check'
	$$install --require-hashes --requirement $(LOCK)
	$$install --no-deps --no-build-isolation --editable .
	rm -f .venv/stamp-*
	touch $@

lock: venv ## Write the locks of the Python packages, deploy/lock (LOCK_ARGS=--upgrade: the newest)
	@$(BIN)/python -m deploy.lock $(LOCK_ARGS)

build: setup ## Build the engine: build/engine/headrace-engine
	@$(say) "engine: $(BUILD)"
	[ -f $(BUILD)/build.ninja ] || meson setup $(BUILD) $(ENGINE)
	ninja -C $(BUILD)

build-sanitize: setup ## Build the engine with AddressSanitizer and UndefinedBehaviorSanitizer
	@$(say) "engine with sanitizers: $(BUILD_SANITIZE)"
	[ -f $(BUILD_SANITIZE)/build.ninja ] || meson setup $(BUILD_SANITIZE) $(ENGINE) \
		--buildtype=debugoptimized -Db_sanitize=address,undefined
	ninja -C $(BUILD_SANITIZE)

build-tsan: setup ## Build the engine's test of threads with ThreadSanitizer
	@$(say) "threads with ThreadSanitizer: $(BUILD_TSAN)"
	[ -f $(BUILD_TSAN)/build.ninja ] || meson setup $(BUILD_TSAN) $(ENGINE) \
		--buildtype=debugoptimized -Db_sanitize=thread
	ninja -C $(BUILD_TSAN) race_test

demo: venv build ## Two tenants with the same addresses, one engine, real packets (needs root)
	@$(say) "demo"
	$(BIN)/headrace demo

kind-demo: $(VENV_STAMP) ## The same on a kind cluster, with Prometheus and Grafana (needs docker, kind, helm)
	@$(BIN)/python -m deploy.kind $(KIND_ARGS)

kind-delete: $(VENV_STAMP) ## Delete that cluster
	@$(BIN)/python -m deploy.kind --delete $(KIND_ARGS)

test: setup-cluster venv build build-sanitize build-tsan ## Run every test: the engine's, with and without sanitizers, then pytest
	@$(MAKE) fuzz FUZZ_SECONDS=20 &
	fuzzing=$$!
	$(say) "engine tests"
	meson test -C $(BUILD) --no-rebuild --print-errorlogs --timeout-multiplier=4
	$(say) "engine tests with sanitizers"
	meson test -C $(BUILD_SANITIZE) --no-rebuild --print-errorlogs --timeout-multiplier=8
	$(say) "threads"
	meson test -C $(BUILD_TSAN) --no-rebuild --print-errorlogs --timeout-multiplier=8 race_test
	wait "$$fuzzing"
	$(say) "pytest"
	$(BIN)/pytest --numprocesses=$(PYTEST_WORKERS) -m 'not sriov' $(PYTEST_ARGS)

test-quick: venv ## Run the tests that need neither root, nor the engine, nor a cluster
	@$(BIN)/pytest -m 'not engine and not root and not cluster' $(PYTEST_ARGS)

test-sriov: setup-cluster venv ## Run the tests on a node with SR-IOV: a virtual machine, emulated (needs root)
	@$(say) "a node with SR-IOV"
	$(BIN)/pytest -m sriov -o faulthandler_timeout=1800 --durations=0 --durations-min=1 tests/sriov $(PYTEST_ARGS)

test-dpdk: setup-cluster venv ## Test the engine with the DPDK of other Debian releases, and on arm64 (needs root)
	@$(BIN)/python -m tests.dpdk $(DPDK_TARGETS)

soak: FUZZ_SECONDS := 600
soak: setup-cluster venv build build-sanitize fuzz ## Run what is too long for each change: new seeds, upgrades, other DPDKs
	@$(MAKE) test-dpdk
	$(say) "commits under traffic, $(SOAK_SECONDS) s"
	HEADRACE_TEST_CHURN_SECONDS=$(SOAK_SECONDS) $(BUILD_SANITIZE)/race_test
	$(say) "pytest"
	export HEADRACE_TEST_SEED=$${HEADRACE_TEST_SEED:-new}
	export HEADRACE_TEST_LONG=yes HEADRACE_TEST_PODS=200 HEADRACE_TEST_AWAY_SECONDS=300
	export HEADRACE_TEST_CHURN_SECONDS=$(SOAK_SECONDS)
	export HEADRACE_TEST_UPGRADE_FROM=$${HEADRACE_TEST_UPGRADE_FROM-$$(git tag --merged=HEAD^ --list 'v*' --sort=-version:refname | head -1)}
	$(BIN)/pytest -m 'not sriov' $(PYTEST_ARGS)
	$(MAKE) test-sriov

cluster: setup-cluster venv ## Build the programs of the tests' Kubernetes cluster (once, 4 to 15 minutes)
	@$(BIN)/python -m tests.cluster.cluster build

cluster-up: setup-cluster venv ## Start a two-node Kubernetes cluster on this machine (needs root)
	@$(BIN)/python -m tests.cluster.cluster up

cluster-down: venv ## End it
	@$(BIN)/python -m tests.cluster.cluster down

images: setup-cluster ## Build the container images: build/images/*.tar (needs root)
	@deploy/images/build.sh

lint: venv build ## Check style, types, import rules, the CRDs, and that the C compiles without a warning
	@$(say) "ruff"
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(say) "mypy"
	$(BIN)/mypy crds common operator dataplane cli tests bench deploy/{grafana,kind,krew,lock,release}
	$(say) "import-linter"
	$(BIN)/lint-imports --no-logo
	$(say) "locks are those of pyproject.toml"
	$(BIN)/python -m deploy.lock --check
	$(say) "CRDs are what the models say"
	$(BIN)/python -m headrace_api.crd --check
	$(BIN)/python -m headrace_api.reference --check
	$(say) "dashboards are what their code says"
	$(BIN)/python -m deploy.grafana --check
	$(say) "clang-format"
	find $(C_FOLDERS) -name '*.[ch]' -print0 | xargs -0 clang-format --dry-run --Werror

format: venv ## Bring Python and C into the house style
	@$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	find $(C_FOLDERS) -name '*.[ch]' -print0 | xargs -0 clang-format -i

bench: venv build ## Measure the engine against its peers in one run (needs root)
	@$(say) "bench"
	$(BIN)/headrace bench -- $(BENCH_ARGS)

fuzz: setup ## Run all fuzzers side by side for FUZZ_SECONDS (default 30)
	@$(say) "fuzzers, $(FUZZ_SECONDS) s: $(BUILD_FUZZ)"
	[ -f $(BUILD_FUZZ)/build.ninja ] || CC=clang meson setup $(BUILD_FUZZ) $(ENGINE) \
		--buildtype=debugoptimized -Dfuzzers=true -Db_sanitize=address,undefined -Db_lundef=false
	ninja -C $(BUILD_FUZZ) fuzzers
	declare -A running
	for fuzzer in $(BUILD_FUZZ)/*_fuzz; do
		mkdir -p "$$fuzzer.corpus"
		"$$fuzzer" -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -artifact_prefix="$$fuzzer." \
			"$$fuzzer.corpus" "$(ENGINE)/tests/corpus/$${fuzzer##*/}" >"$$fuzzer.log" 2>&1 &
		running[$$fuzzer]=$$!
	done
	failed=0
	for fuzzer in "$${!running[@]}"; do
		wait "$${running[$$fuzzer]}" && continue
		tail -n 60 "$$fuzzer.log" >&2
		failed=1
	done
	exit "$$failed"

chart: setup-cluster venv ## Package the Helm chart into dist/
	@helm=$$(PYTHON=$(CURDIR)/$(BIN)/python tests/cluster/build.sh)/bin/helm
	$$helm lint --strict helm/headrace
	$$helm package helm/headrace --destination dist

release: setup-cluster venv ## Make a release of a tagged commit: dist/release (KEY signs, REGISTRY is pushed to)
	@helm=$$(PYTHON=$(CURDIR)/$(BIN)/python tests/cluster/build.sh)/bin/helm
	$(BIN)/python -m deploy.release --helm $$helm $(if $(KEY),--key $(KEY)) $(if $(REGISTRY),--registry $(REGISTRY))

clean: ## Remove what was built; .venv stays (rm -r .venv removes that)
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
