# Two commands do everything on a fresh machine: `make demo` and `make test`.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
RUST := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock
PYTHON := $(shell find python -name '*.py' -o -name '*.pyi' -o -name '*.yaml' -o -name '*.npz' -o -name py.typed) pyproject.toml README.md LICENSE

.PHONY: help
help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(VENV)/.wheel ## Make a small planet, train on it, probe the encoder (under 5 minutes after set-up)
	rm -rf demo
	$(BIN)/geossl demo demo

.PHONY: test
test: $(VENV)/.wheel lint test-rust test-python ## Run every check and test

.PHONY: build
build: $(VENV)/.wheel ## Build the wheel and install it in .venv

.PHONY: lint
lint: $(VENV)/.wheel ## Formatting, lints and types
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=benches $(BIN)/mypy benches/*.py
	MYPYPATH=tools $(BIN)/mypy tools/*.py
	$(BIN)/python -m mypy.stubtest geossl._core --mypy-config-file pyproject.toml

.PHONY: test-rust
test-rust: | $(VENV)/.tools ## Tests of the core
	cargo test --locked

.PHONY: test-python
test-python: $(VENV)/.wheel ## Tests of the package, as installed from the wheel
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

.PHONY: bench
bench: $(VENV)/.wheel ## The loader beside the peers that are installed, on two sets (about two minutes)
	$(BIN)/python benches/loader.py --quick --work target/bench

.PHONY: bench-peers
bench-peers: $(VENV)/.wheel ## The loader beside all peers, installed for it; writes docs/benchmarks.md (network; about half an hour)
	benches/peers/install_libraries.sh
	$(BIN)/python benches/loader.py --peers all --work target/bench --json target/bench/results.json \
		--report docs/benchmarks.md --plot docs/benchmarks.svg

.PHONY: bench-geotiff
bench-geotiff: $(VENV)/.wheel ## GeoTIFFs beside rasterio and torchgeo; writes docs/benchmarks-geotiff.md (network; minutes)
	$(BIN)/python benches/geotiff.py --work target/bench --json target/bench/geotiff.json \
		--report docs/benchmarks-geotiff.md

.PHONY: bench-geography
bench-geography: $(VENV)/.wheel ## Clustering, neighbours and the index beside their peers; writes docs/benchmarks-geography.md (network; minutes)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet -r benches/peers/geography.txt
	$(BIN)/python benches/geography.py --json target/bench/geography.json --report docs/benchmarks-geography.md

.PHONY: bench-trainer
bench-trainer: $(VENV)/.wheel ## The trainer beside a loop by hand, lightly and solo-learn; writes docs/benchmarks-trainer.md (network; half an hour)
	$(BIN)/python benches/trainer.py --work target/bench --json target/bench/trainer.json \
		--report docs/benchmarks-trainer.md

.PHONY: soak
soak: $(VENV)/.wheel ## A hundred thousand batches with flat memory; writes docs/soak.md
	$(BIN)/python tools/soak.py --report docs/soak.md

FUZZ := rust/geossl-core/fuzz
FUZZ_SECS ?= 600
.PHONY: fuzz
fuzz: | $(VENV)/.tools ## Broken TIFFs without end, for ten minutes (FUZZ_SECS=600)
	rustup toolchain list | grep -q nightly || rustup toolchain install nightly --profile minimal
	command -v cargo-fuzz > /dev/null || cargo install --locked cargo-fuzz
	mkdir -p target/fuzz/corpus
	cargo +nightly fuzz run --fuzz-dir $(FUZZ) --target-dir target/fuzz tiff target/fuzz/corpus $(FUZZ)/seeds/tiff -- \
		-max_total_time=$(FUZZ_SECS) -timeout=10 -rss_limit_mb=1024 -max_len=65536 -artifact_prefix=target/fuzz/

.PHONY: results-bmng
results-bmng: $(VENV)/.wheel ## All arms on the Blue Marble tiles; writes docs/results.md (about an hour on two cores)
	$(BIN)/python tools/results_bmng.py

.PHONY: results-planet
results-planet: $(VENV)/.wheel ## The arms on the synthetic planet, three seeds; writes docs/results.md (about an hour on two cores)
	$(BIN)/python tools/results_planet.py

.PHONY: results-laptop
results-laptop: $(VENV)/.wheel ## Learning rate and temperature of the recipe `laptop`, on held-out training places; writes docs/results.md (two hours on two cores)
	$(BIN)/python tools/results_laptop.py

.PHONY: results-ablations
results-ablations: $(VENV)/.wheel ## What the paper leaves on the table, on held-out training places; writes docs/results.md (hours on two cores)
	$(BIN)/python tools/results_ablations.py

.PHONY: results-transfer
results-transfer: $(VENV)/.wheel ## What an encoder of the planet is worth for other tasks, three seeds; writes docs/results.md (an hour and a half on two cores, after results-planet)
	$(BIN)/python tools/results_transfer.py

.PHONY: results-geo
results-geo: $(VENV)/.wheel ## What the geo head may predict, compared; writes its section of docs/results.md (half an hour)
	$(BIN)/python tools/results_geo.py

.PHONY: backbones
backbones: $(VENV)/.wheel ## Some backbones and the images they take; writes the table of docs/backbones.md
	$(BIN)/python tools/backbones.py

.PHONY: results-loss
results-loss: $(VENV)/.wheel ## Runs that go well and badly; writes the curves of docs/loss.md (a quarter of an hour)
	$(BIN)/python tools/loss_curves.py

.PHONY: format
format: $(VENV)/.deps ## Format all code
	cargo fmt --all
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: lock
lock: $(VENV)/.deps ## Resolve the dependencies anew into requirements.lock and Cargo.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command 'make lock' --group dev pyproject.toml -o requirements.lock
	cargo update

.PHONY: clean
clean: ## Remove everything that was made
	rm -rf $(VENV) target dist demo

# The compilers that the extension's libjpeg-turbo needs, and Python's venv.
$(VENV)/.tools: tools/install_tools.sh
	tools/install_tools.sh
	[ -x $(BIN)/python ] || python3 -m venv $(VENV)
	touch $@

$(VENV)/.deps: requirements.lock | $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	touch $@

$(VENV)/.wheel: $(VENV)/.deps $(RUST) $(PYTHON)
	rm -rf dist
	$(BIN)/maturin build --quiet --release --locked --out dist
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --reinstall dist/*.whl
	touch $@
