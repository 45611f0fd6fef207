# What a person or CI does with this checkout. `make` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# What is downloaded or built once is kept here.
SLUICE_CACHE ?= .cache
override SLUICE_CACHE := $(abspath $(SLUICE_CACHE))
export SLUICE_CACHE

# More for the command behind a target: make test ARGS='-run Fence ./pipeline/broker', make sandbox ARGS='--rate 50'.
ARGS ?=

golangci_version := v2.15.0
golangci := $(SLUICE_CACHE)/bin/golangci-lint-$(golangci_version)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build ./sluice
	go build -o sluice ./cmd/sluice

.PHONY: test
test: ## all tests against a real Kafka, Redis and Redis Cluster, started and stopped, one package after the other; ARGS replaces ./...
	.ci/services run -- go test -count=1 -p=1 -timeout=15m $(or $(ARGS),./...)

.PHONY: race
race: ## the same under the race detector
	.ci/services run -- go test -race -count=1 -timeout=30m $(or $(ARGS),./...)

.PHONY: fuzz
fuzz: ## half a minute of fuzzing the decoder
	go test -run=NONE -fuzz=FuzzDecode -fuzztime=30s ./pipeline/payment

.PHONY: check
check: $(golangci) ## gofmt, go vet, the linters with the import arrows, and every ruleset in deploy/rulesets with its tests
	@unformatted=$$(find . -name '.?*' -prune -o -name '*.go' -print | xargs -r gofmt -l); \
	if [[ -n $$unformatted ]]; then printf 'not formatted, see gofmt -d:\n%s\n' "$$unformatted"; exit 1; fi
	go vet ./...
	$(golangci) run ./...
	@for ruleset in deploy/rulesets/*/; do \
		[[ -d $$ruleset ]] || continue; \
		echo "sluice rules check $$ruleset"; \
		go run ./cmd/sluice rules check --strict "$$ruleset"; \
		echo "sluice rules test $$ruleset"; \
		go run ./cmd/sluice rules test --min-coverage 100 "$$ruleset"; \
	done

.PHONY: bench
bench: ## measure end to end on a real Kafka, beside plain copies, and the engine alone
	.ci/services run kafka -- bash -c 'go run ./cmd/sluice bench --brokers "$$SLUICE_TEST_KAFKA" "$$@"' bench $(ARGS)

.PHONY: storm
storm: ## break everything under a gate while payments flow, and check its promises; ARGS='--payments 50000 --faults 12'
	.ci/services install kafka redis strace
	eval "$$(.ci/services env)"; go run ./benchmarks/storm $(ARGS)

.PHONY: sandbox
sandbox: ## everything in one process, with traffic
	go run ./cmd/sluice sandbox $(ARGS)

.PHONY: schemas
schemas: ## write the JSON Schemas of the files that analysts write into deploy/schemas
	go run ./cmd/sluice rules schema --out deploy/schemas

.PHONY: handbook
handbook: ## replay the Handbook data set from HANDBOOK_DATA and compare every published feature
	go run ./benchmarks/handbook $(ARGS)

.PHONY: tools
tools: $(golangci) ## build the linters into the cache (some minutes, once)

$(golangci):
	GOBIN=$(SLUICE_CACHE)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(golangci_version)
	mv $(SLUICE_CACHE)/bin/golangci-lint $@

.PHONY: clean
clean: ## remove what was built; the cache of downloads stays
	rm -f sluice
