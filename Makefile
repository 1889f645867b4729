# Everything that one does with Lifeboat's source. `make help` lists it.

SHELL := /bin/bash

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOLANGCI_LINT_VERSION := v2.12.2
GOFUMPT_VERSION := v0.12.0
AZURITE_VERSION := 3.37.0

GOLANGCI_LINT := .cache/bin/golangci-lint-$(GOLANGCI_LINT_VERSION)
AZURITE_DIR := .cache/azurite
GUEST_DIR := .cache/guest

# What `make test` tests, and further flags for it.
PACKAGES ?= ./...
TESTFLAGS ?=
FUZZTIME ?= 10s

.PHONY: help build system setup test demo bench lint fmt fuzz clean distclean

help: ## say what the targets are for
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/lifeboat, a static binary
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/lifeboat ./cmd/lifeboat

system: ## install the system packages that tests and demo need
	@scripts/install-packages.sh

setup: system ## install what the tests need: system packages, Azurite, a guest's kernel
	@scripts/install-azurite.sh $(AZURITE_VERSION) $(AZURITE_DIR)
	@scripts/install-guest.sh $(GUEST_DIR)

test: setup ## run all tests with the race detector
	go test -race -timeout 25m $(TESTFLAGS) $(PACKAGES)

demo: system build ## protect two disks, kill the sidecar, restore, prove it: a minute
	bin/lifeboat demo

bench: system build ## measure with fio against native and loopback
	scripts/bench.sh

lint: $(GOLANGCI_LINT) ## check style, mistakes and the arrows between packages
	@# A cache of its own: in a shared one, findings of another checkout would
	@# come back with that one's paths, which no exclusion here matches.
	GOLANGCI_LINT_CACHE=$(CURDIR)/.cache/golangci-lint $(GOLANGCI_LINT) run ./...

fmt: ## format all Go files
	git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0r go run mvdan.cc/gofumpt@$(GOFUMPT_VERSION) -w

fuzz: ## fuzz every decoder for FUZZTIME (10s)
	@scripts/fuzz.sh $(FUZZTIME)

clean: ## remove what build and test made
	rm -rf bin coverage*

distclean: clean ## remove the installed tools, too
	rm -rf .cache

# The linter is built with this Go and named by its version, so that another
# version is another file.
$(GOLANGCI_LINT):
	@mkdir -p $(@D)
	GOBIN=$(CURDIR)/$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@mv $(@D)/golangci-lint $@
