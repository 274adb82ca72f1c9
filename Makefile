# Rebound: `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOFUMPT := mvdan.cc/gofumpt@v0.12.0

# A mistyped target or variable is refused before anything runs.
targets := $(shell awk -F ':' '/^[a-z-]+:.*\#\# /{print $$1}' $(firstword $(MAKEFILE_LIST)))
variables := GO VERSION LDFLAGS T PKG KIND SEED HISTORIES SECONDS RATE PARALLEL REBOUND KEEP SEEDS FUZZTIME FUZZPARALLEL RECORD
$(foreach g,$(filter-out $(targets) bin/%,$(MAKECMDGOALS)),$(error there is no target $(g); `make help` lists them))
$(foreach v,$(filter-out $(addsuffix =%,$(variables)),$(MAKEOVERRIDES)),$(if $(findstring =,$v),$(error no target knows $v; the variables are: $(variables))))

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/rebound
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/rebound ./cmd/rebound

.PHONY: run
run: build ## Run the service on an embedded NATS server
	./bin/rebound serve

.PHONY: demo
demo: build ## See 500 failed operations being redelivered
	./bin/rebound demo --operations 500

.PHONY: deps
deps: ## Install what the tests need and is missing (Debian)
	@.ci/deps

.PHONY: bench-deps
bench-deps: ## Install what `bench compare` measures and is missing (Debian)
	@.ci/deps bench

.PHONY: quick
quick: ## Run the tests of every package without a server or a process
	@GO='$(GO)' .ci/quick

.PHONY: test
test: ## Run all tests with the race detector, or some: T=Name PKG=./path
	@GO='$(GO)' T='$(value T)' PKG='$(value PKG)' .ci/test

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (10s)
	@GO='$(GO)' .ci/fuzz

# Settings of chaos and soak; empty ones are the program's own.
CHAOS = $(if $(KIND),--kind $(KIND)) $(if $(SEED),--seed $(SEED)) $(if $(HISTORIES),--histories $(HISTORIES)) \
	$(if $(SECONDS),--seconds $(SECONDS)) $(if $(RATE),--rate $(RATE)) $(if $(PARALLEL),--parallel $(PARALLEL)) \
	$(if $(KEEP),--keep $(KEEP)) --rebound $(or $(REBOUND),bin/rebound) --seeds $(or $(SEEDS),internal/chaos/testdata/seeds)

.PHONY: chaos
chaos: $(if $(REBOUND),,build) ## Prove that nothing is lost under faults: KIND= SEED= HISTORIES= SECONDS= RATE= PARALLEL= REBOUND= KEEP=
	$(GO) build -o bin/chaos ./internal/chaos/cmd
	./bin/chaos $(CHAOS)

.PHONY: soak
soak: KIND = soak
soak: SECONDS = 1800
soak: $(if $(REBOUND),,build) ## Run half an hour near the peak with faults: SEED= SECONDS= REBOUND= KEEP=
	$(GO) build -o bin/chaos ./internal/chaos/cmd
	./bin/chaos $(CHAOS)

.PHONY: lint
lint: ## Run go vet, golangci-lint, gofumpt and govulncheck
	$(GO) vet ./...
	@unformatted=$$($(GO) run $(GOFUMPT) -l .); if [ -n "$$unformatted" ]; then echo "gofumpt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) run $(GOLANGCI) run ./...
	@.ci/vulncheck

.PHONY: bench
bench: build ## Print the measurements
	cd bench && $(GO) run .
	$(PURE)

# The benchmarks of what decides and encodes, without a server.
PURE = $(GO) test -run '^$$' -bench . -benchmem ./events/wire ./scheduler/policy ./scheduler/gate

.PHONY: compare
compare: build deps ## Measure Rebound beside others, and write docs/compare.md
	cd bench && $(GO) run . compare -out ../docs

.PHONY: bench-check
bench-check: build ## Run the pure benchmarks, and fail if Rebound became slower than recorded: RECORD=1 records
	$(PURE)
	cd bench && $(GO) run . check $(if $(RECORD),-record)
