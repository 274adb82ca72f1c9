# Rebound: `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOFUMPT := mvdan.cc/gofumpt@v0.12.0

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

.PHONY: test
test: deps ## Run all tests with the race detector
	$(GO) test -race -timeout 9m ./...
	cd bench && $(GO) vet ./... && $(GO) test -timeout 2m ./...

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (10s)
	@GO='$(GO)' .ci/fuzz

.PHONY: lint
lint: ## Run go vet, golangci-lint, gofumpt and govulncheck
	$(GO) vet ./...
	@unformatted=$$($(GO) run $(GOFUMPT) -l .); if [ -n "$$unformatted" ]; then echo "gofumpt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) run $(GOLANGCI) run ./...
	@.ci/vulncheck

.PHONY: bench
bench: build ## Print the measurements
	cd bench && $(GO) run .
	$(GO) test -run '^$$' -bench . -benchmem ./events ./scheduler ./scheduler/gate
