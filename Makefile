# The two commands are `make demo` and `make test`. Both set up what they need first: Debian packages (only where they
# are missing), a virtual environment with pinned packages (.venv; the demo's, .venv-demo, is small), and a release
# build. One build configuration, release, serves the daemon and the tests.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Headers and libraries that the build links, OpenBLAS (loaded when a method needs it), what strips programs, and the
# Python that the tests and the demo run.
APT_PACKAGES := binutils libdeflate-dev libhdf5-dev libjansson-dev libopenblas0 pkg-config python3 python3-venv zlib1g-dev
# What the editor extensions are tested in.
EDITOR_PACKAGES := neovim nodejs
SWIFT_BUILD := swift build -c release
PYTHON := .venv/bin/python
export ESPALIER_SERVER := $(CURDIR)/.build/release/espalierd
# ONNX Runtime's library is in the package that the virtual environment holds.
export ESPALIER_ONNXRUNTIME := $(CURDIR)/.venv
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help
help: ## Show these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: apt-packages swift-toolchain .venv/stamp ## Install what is missing: Debian packages, .venv

.PHONY: apt-packages
apt-packages:
	@if ! command -v dpkg-query >/dev/null; then \
	  pkg-config --exists hdf5-serial jansson libdeflate zlib || \
	    { echo "Please install pkg-config, HDF5, jansson, libdeflate and zlib with their headers." >&2; exit 1; }; \
	  exit 0; \
	fi; \
	$(call install_missing,$(APT_PACKAGES))

.PHONY: editors
editors:
	@command -v nvim >/dev/null && command -v node >/dev/null && exit 0; \
	if command -v dpkg-query >/dev/null; then $(call install_missing,$(EDITOR_PACKAGES)); fi; \
	command -v nvim >/dev/null && command -v node >/dev/null || \
	  { echo "Neovim 0.7 and Node.js 18 or newer are needed to test the editor extensions." >&2; exit 1; }

# Installs those of the named Debian packages that are not there.
define install_missing
	missing=(); \
	for package in $(1); do \
	  [[ "$$(dpkg-query -W -f='$${db:Status-Status}' "$$package" 2>/dev/null)" == installed ]] || missing+=("$$package"); \
	done; \
	if (( $${#missing[@]} )); then \
	  echo "Installing $${missing[*]}"; \
	  root=(); (( EUID == 0 )) || root=(sudo); \
	  "$${root[@]}" apt-get update -qq; \
	  "$${root[@]}" env DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; \
	fi
endef

.PHONY: swift-toolchain
swift-toolchain:
	@command -v swift >/dev/null || { echo "Swift 6.2 or newer is needed: https://www.swift.org/install" >&2; exit 1; }

# Whichever python3 comes first may be old or lack venv; the Debian one, just installed, has it.
PYTHONS := python3 /usr/bin/python3
PYTHON_VERSIONS := 3.11 or newer
PYTHON_FITS := sys.version_info >= (3, 11)
# TensorFlow 2.15, the last before Keras 3, runs in nothing newer.
.venv-tfkeras/stamp: PYTHONS += python3.11
.venv-tfkeras/stamp: PYTHON_VERSIONS := 3.11
.venv-tfkeras/stamp: PYTHON_FITS := sys.version_info[:2] == (3, 11)
.venv/stamp: Tests/requirements.txt
.venv-demo/stamp: Tests/requirements-demo.txt
.venv-zoo/stamp: Tests/requirements-zoo.txt
.venv-bench/stamp: Tests/requirements-bench.txt
.venv-digits/stamp: Tests/requirements-digits.txt
.venv-tfkeras/stamp: Tests/requirements-tfkeras.txt
.venv/stamp .venv-demo/stamp .venv-zoo/stamp .venv-bench/stamp .venv-digits/stamp .venv-tfkeras/stamp: clients/python/pyproject.toml | apt-packages
	@for python in $(PYTHONS); do \
	  "$$python" -c 'import ensurepip, sys, venv; sys.exit(not ($(PYTHON_FITS)))' 2>/dev/null && break; \
	  python=; \
	done; \
	[[ -n "$$python" ]] || { echo "Python $(PYTHON_VERSIONS) is needed for $(@D)." >&2; exit 1; }; \
	echo "Making $(@D) with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $(filter %.txt,$^)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --editable clients/python
	@touch $@

.PHONY: build
build: apt-packages swift-toolchain ## Build the daemon: .build/release/espalierd, espalier-hdf5
	$(SWIFT_BUILD) --product espalier-hdf5
	$(SWIFT_BUILD) --product espalierd

# Builds the programs as well, which the Python and the editor tests run: SwiftPM compiles most of them anew where they are
# asked for by themselves.
.PHONY: build-tests
build-tests: apt-packages swift-toolchain
	$(SWIFT_BUILD) --build-tests

.PHONY: test
test: lint test-swift test-python test-editors ## Run everything: format lint, Swift, Python and editor tests

.PHONY: lint
lint: swift-toolchain
	swift format lint --strict --recursive Sources Tests Package.swift

.PHONY: test-swift
test-swift: build-tests .venv/stamp
	swift test -c release --skip-build --disable-xctest

# pytest.ini says where the tests are. pytest fails where it collects nothing (status 5), and so does this.
.PHONY: test-python
test-python: build-tests .venv/stamp
	$(PYTHON) -m pytest

.PHONY: wheel
wheel: build .venv/stamp ## Make the Python package with the daemon in it: dist/espalier-*.whl
	$(PYTHON) clients/python/make_wheel.py

PREFIX ?= /usr/local
bindir := $(PREFIX)/bin
unitdir := $(PREFIX)/lib/systemd/user
PROGRAMS := espalierd espalier-hdf5
UNITS := espalierd.socket espalierd.service

.PHONY: install
install: build ## Install the daemon and its systemd user units below PREFIX (default /usr/local)
	install -d $(DESTDIR)$(bindir) $(DESTDIR)$(unitdir)
	install --strip $(addprefix .build/release/,$(PROGRAMS)) $(DESTDIR)$(bindir)
	for unit in $(UNITS); do \
	  sed 's|@bindir@|$(bindir)|' "clients/systemd/$$unit" >"$(DESTDIR)$(unitdir)/$$unit"; \
	done

.PHONY: uninstall
uninstall: ## Remove what install put below PREFIX
	rm -f $(addprefix $(DESTDIR)$(bindir)/,$(PROGRAMS)) $(addprefix $(DESTDIR)$(unitdir)/,$(UNITS))

# Apart from the others because not everybody has the one Python that TensorFlow 2.15 and its pins run in, and 1.3 GB for it.
.PHONY: test-tfkeras
test-tfkeras: build .venv/stamp .venv-tfkeras/stamp ## Test files of tf.keras 2.15 with tf.keras 2.15 (Python 3.11)
	$(PYTHON) -m pytest -m tfkeras Tests/Keras

# Apart from the others for the time and the memory that it takes; `make test` has the same networks for small images.
.PHONY: test-applications
test-applications: build .venv/stamp ## Prune, prove and train every network of keras.applications in full
	$(PYTHON) -m pytest -m applications -s Tests/Keras

.PHONY: test-editors
test-editors: build-tests .venv/stamp editors
	$(PYTHON) -m pytest clients/neovim/tests
	node --test clients/vscode/test/*.test.js

.PHONY: demo
demo: export ESPALIER_ONNXRUNTIME := $(CURDIR)/.venv-demo
demo: build .venv-demo/stamp ## Compress two trained networks and measure what is left of them
	@.venv-demo/bin/python clients/python/examples/demo.py --output demo-output

.PHONY: bench
bench: build .venv/stamp .venv-bench/stamp ## Measure latency, memory and throughput, and the tools one could use instead
	$(PYTHON) Tests/Benchmarks/bench.py
	.venv-bench/bin/python Tests/Benchmarks/peers.py
	.venv-bench/bin/python Tests/Benchmarks/decomposition.py
	.venv-bench/bin/python Tests/Benchmarks/reconstruction.py
	.venv-bench/bin/python Tests/Benchmarks/torch_files.py
	.venv-bench/bin/python Tests/Benchmarks/keras_files.py

.PHONY: zoo
zoo: .venv-zoo/stamp ## Export the architectures whose skeletons the tests read (with PyTorch, in .venv-zoo)
	.venv-zoo/bin/python Tests/Zoo/make_zoo.py

.PHONY: zoo-table
zoo-table: build .venv/stamp ## Prune every network of the zoo and write docs/zoo.md
	$(PYTHON) Tests/Zoo/table.py

# The daemon gets its ONNX Runtime from .venv.
.PHONY: digits-table
digits-table: build .venv/stamp .venv-digits/stamp ## Decompose trained networks; write docs/decomposition.md, its plot
	.venv-digits/bin/python Tests/Digits/decomposition.py

.PHONY: reconstruction-table
reconstruction-table: build .venv/stamp .venv-digits/stamp ## Refit trained networks, beside other tools; docs/reconstruction.md
	.venv-digits/bin/python Tests/Digits/reconstruction.py

.PHONY: sentence-encoder
sentence-encoder: build .venv/stamp .venv-zoo/stamp ## Compress a pretrained sentence encoder; docs/reconstruction.md
	.venv-zoo/bin/python Tests/Benchmarks/sentence_encoder.py

.PHONY: networks
networks: .venv-zoo/stamp .venv/stamp ## Train the networks of the demo and of digits-table again (with PyTorch, in .venv-zoo)
	.venv-zoo/bin/python clients/python/examples/train_digits.py
	.venv-zoo/bin/python Tests/Digits/train.py
	$(PYTHON) Tests/Keras/make_digits.py

.PHONY: format
format: swift-toolchain ## Format the Swift sources
	swift format --in-place --recursive Sources Tests Package.swift

.PHONY: clean
clean: ## Remove everything that was built or produced
	rm -rf .build .venv .venv-bench .venv-demo .venv-digits .venv-tfkeras .venv-zoo demo-output dist clients/python/*.egg-info
