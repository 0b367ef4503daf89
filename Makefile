# `make help` lists the targets. Everything runs from here; .ci/run adds nothing but strictness.

SHELL := /bin/bash
.DEFAULT_GOAL := help

GO ?= go
TOOL := $(GO) tool -modfile=internal/tools/go.mod
# One package at a time: its tests run two at a time with servers of their own. With more of them two cores do not keep what has to happen within a second or two.
TESTFLAGS ?= -p 1 -timeout 15m
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: servers build ## the whole chain on this machine: a flag edited in SQL, servers killed, answers that stay (KEEP=1 leaves it running)
	@$(GO) run ./deploy/demo $(if $(KEEP),--keep)

.PHONY: test
test: servers ## all tests, against real servers
	$(GO) test $(TESTFLAGS) ./...

.PHONY: test-clients
test-clients: servers ## the official SDKs against the real decide (installs their npm packages and Chromium)
	.ci/clients
	TEST_REQUIRE_SERVERS=1 $(GO) test -count=1 -run 'PostHog|OFREP|Mobile' ./cmd/decide

.PHONY: test-matrix
test-matrix: servers ## the whole chain on every major of Postgres, 14 to 18
	.ci/postgres-majors.sh 14 15 16 17 18
	for v in 14 15 16 17 18; do echo "== Postgres $$v"; TEST_POSTGRES_VERSION=$$v $(GO) test -count=1 -p 1 -timeout 15m ./replication ./cachewriter ./cmd/replicator ./internal/soak ./internal/faults || exit 1; done

.PHONY: soak
soak: servers ## load and random faults, judged all the time: make soak DURATION=1h SEED=7, or FAULTS=500
	EVERFLAG_SOAK_TIME=$(or $(DURATION),10m) EVERFLAG_SOAK_FAULTS=$(FAULTS) EVERFLAG_SOAK_SEED=$(SEED) $(GO) test -count=1 -v -timeout 0 -run '^TestSoak$$' ./internal/soak

.PHONY: bench
bench: servers build ## the figures of docs/performance.md on this machine, side by side with their floors (about half an hour; ARGS=--quick)
	@.ci/servers wrk:wrk
	$(GO) run ./bench $(ARGS)

.PHONY: screenshots
screenshots: servers ## the pictures in docs/images
	EVERFLAG_SCREENSHOTS=$(CURDIR)/docs/images $(GO) test ./cmd/replicator -run TestPagesInBrowser -count 1

.PHONY: images
images: ## both container images, compiled with the local Go (BINARIES=compiled: inside the build), and checked
	.ci/docker-images $(VERSION)

.PHONY: test-compose
test-compose: ## docker-compose.yml brought up, used, broken and taken down (a private engine and stand-in images where there are none)
	.ci/with-docker .ci/compose-test

.PHONY: test-docker
test-docker: ## the server tests in containers (what no container offers, such as a standby or a Cluster, takes local binaries)
	.ci/with-docker sh -c '.ci/docker-standins postgres:17 redis:7 && TEST_SERVERS=docker TESTCONTAINERS_RYUK_DISABLED=true \
		TESTCONTAINERS_HOST_OVERRIDE=localhost $(GO) test -count=1 -p 1 -timeout 30m \
		./internal/testenv ./replication ./cachewriter ./decide/store ./cmd/replicator ./cmd/decide ./internal/faults'

.PHONY: test-valkey
test-valkey: servers ## all that speaks to Redis against Valkey: standalone, replicas, Sentinel, Cluster
	PATH="$$(.ci/valkey):$$PATH" TEST_SERVERS=local $(GO) test -count=1 -p 1 -timeout 30m ./internal/testenv ./cachewriter ./decide/store ./cmd/replicator ./internal/faults

.PHONY: release
release: ## archives of the commit for Linux and macOS in dist/, with checksums and bills of materials (OUT=elsewhere)
	.ci/release $(or $(OUT),dist)

.PHONY: reproducible
reproducible: ## builds the release twice, in two places, and compares every byte (PLATFORM=linux/amd64 for one)
	.ci/reproducible $(PLATFORM)

.PHONY: helm
helm: ## lint the chart, render it, hold the renders against the schemas and the files in the repository
	.ci/helm

.PHONY: servers
servers: # Postgres and Redis binaries; installs Debian's packages when root, else names what is missing
	@.ci/servers

.PHONY: build
build: ## both programs into bin/
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/replicator ./cmd/decide

.PHONY: check
check: ## everything that CI runs
	.ci/run

.PHONY: lint
lint: ## formatting, vet, staticcheck
	@test -z "$$($(TOOL) gofumpt -l . | tee /dev/stderr)" || { echo 'run "make fmt"'; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

.PHONY: fmt
fmt: ## format the code
	$(TOOL) gofumpt -w .

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
