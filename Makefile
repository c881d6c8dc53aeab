# Sconce. `make` alone prints what there is; `make run` is where to begin.
#
# Everything that a target installs goes under .cache/ in this folder; deleting it
# is a clean start.

GO      ?= go
# The first Python that is new enough and can make a virtual environment.
PYTHON  ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
             $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
CACHE   := .cache
BIN     := bin/sconce
LINT    := $(CACHE)/bin/golangci-lint-2.15.0
VULN    := $(CACHE)/bin/govulncheck-1.1.4
SBOM    := $(CACHE)/bin/cyclonedx-gomod-1.9.0

# Where the set-up of the tests puts a redis-server, if there was none.
export PATH := $(CURDIR)/$(CACHE)/e2e/bin:$(PATH)

# What `sconce dev` needs. createDataFrame of PySpark 4.2 fails on Sail 0.7.2.
SAIL_PACKAGES  := pysail==0.7.2 pyspark-client==4.1.3 "pandas<3" "pyarrow<24"
SPARK_PACKAGES := "pyspark[connect]==4.1.4" "pandas<3" "pyarrow<24" setuptools

.DEFAULT_GOAL := help
.PHONY: help run run-spark build test test-go test-race test-e2e soak fuzz lint vuln vulndb sbom bench bench-spark bench-wake proto \
        setup-sail setup-spark setup-e2e setup-lint check-python clean

help: ## what there is
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build setup-sail ## try it: Sconce, a Redis and a Sail on this machine, one query through the port
	@$(BIN) dev --python $(CACHE)/venv/sail/bin/python

run-spark: build setup-spark ## the same with Apache Spark (needs Java 17)
	@$(BIN) dev --cluster spark --python $(CACHE)/venv/spark/bin/python

build: ## the binary, bin/sconce
	@echo "building $(BIN)"
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o $(BIN) ./cmd/sconce

test: setup-e2e test-go test-race test-e2e ## every test, end to end too; prepares what they need

test-go: ## vet and unit tests, of the benchmark too
	$(GO) vet ./...
	$(GO) test -timeout 40m $(shell $(GO) list ./... | grep -v /cmd/sconce/e2e)
	cd bench && $(GO) vet ./... && $(GO) test -timeout 40m ./...

test-race: ## the unit tests again with the race detector
	$(GO) test -race -timeout 40m $(shell $(GO) list ./... | grep -v /cmd/sconce/e2e)

test-e2e: build ## real clients through the binary to real servers
	$(GO) test -count=1 -timeout 55m ./cmd/sconce/e2e/...

fuzz: ## what reads bytes from outside, a minute for each target; FUZZTIME=10m for more
	.ci/fuzz

soak: build setup-e2e ## 200 sessions and random faults for 20 minutes, and the report, docs/soak.md (SEED=, FOR=)
	$(GO) test -count=1 -timeout 90m ./cmd/sconce/e2e -run '^TestSoak$$' -v -soak.for $(or $(FOR),20m) -soak.seed $(or $(SEED),0) -soak.report $(CURDIR)/docs/soak.md

lint: setup-lint ## golangci-lint with gosec, known vulnerabilities, licences of dependencies
	$(LINT) run ./...
	cd bench && $(abspath $(LINT)) run --config ../.golangci.yml ./...
	$(GO) run ./.ci/vulndb unpack .ci/vulndb.json $(CACHE)/vulndb
	$(VULN) -db file://$(CURDIR)/$(CACHE)/vulndb ./...
	$(GO) test ./docs -run TestLicences

vuln: $(VULN) ## vulnerabilities as known today; needs https://vuln.go.dev
	$(VULN) ./...

vulndb: ## make .ci/vulndb.json anew: VULNDB=<clone of github.com/golang/vulndb>
	@test -n "$(VULNDB)" || { echo "say where a fresh clone of https://github.com/golang/vulndb is: make vulndb VULNDB=/path/to/it" >&2; exit 1; }
	$(GO) run ./.ci/vulndb pack $(VULNDB) .ci/vulndb.json

sbom: $(SBOM) ## what is in the binary, as CycloneDX: bin/sconce.cdx.json
	@mkdir -p bin
	CGO_ENABLED=0 $(SBOM) app -json -licenses -main cmd/sconce -output bin/sconce.cdx.json .

bench: ## Sconce beside nginx, HAProxy, nghttpx and grpc-go; a table in markdown
	cd bench && $(GO) run ./cmd/bench

bench-spark: build ## PySpark toArrow of a million rows, direct and through Sconce
	cd bench && $(GO) run ./cmd/bench-spark

bench-wake: setup-sail setup-spark ## seconds to the first row of new and of idle sessions
	cd bench && $(GO) run ./cmd/bench-wake

proto: ## the Go beside proto/**/*.proto, and the API by JSON
	proto/generate.sh

setup-sail: $(CACHE)/venv/sail/ready ## the Python of `make run`
setup-spark: $(CACHE)/venv/spark/ready ## the Python of `make run-spark`
setup-e2e: ## what the end-to-end tests need
	cmd/sconce/e2e/setup.sh
setup-lint: $(LINT) $(VULN) ## golangci-lint and govulncheck, compiled once

$(CACHE)/venv/sail/ready: Makefile | check-python
	$(call venv,$(@D),$(SAIL_PACKAGES))

$(CACHE)/venv/spark/ready: Makefile | check-python
	$(call venv,$(@D),$(SPARK_PACKAGES))

# venv FOLDER,PACKAGES: a virtual environment, made anew.
define venv
@echo 'preparing Python in $(1) (once; it downloads some 150 MB): $(2)'
@rm -rf $(1) && mkdir -p $(dir $(1)) && $(PYTHON) -m venv $(1) || \
  { echo "no virtual environment could be made: install Python's venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
@$(1)/bin/pip install --disable-pip-version-check --no-input $(2) || \
  { rm -rf $(1); echo "the packages could not be installed: see pip's words above, and whether PyPI can be reached" >&2; exit 1; }
@touch $(1)/ready
endef

check-python:
	@test -n "$(PYTHON)" || \
	  { echo "no Python 3.11 or newer with its venv module found: install one (Debian: apt-get install python3 python3-venv), or say where it is with PYTHON=/path/to/python3" >&2; exit 1; }

$(LINT):
	@echo "compiling golangci-lint (once; some minutes)"
	@mkdir -p $(@D)
	@GOBIN=$(abspath $(@D)) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	@mv $(@D)/golangci-lint $@

$(VULN):
	@mkdir -p $(@D)
	@GOBIN=$(abspath $(@D)) $(GO) install golang.org/x/vuln/cmd/govulncheck@v1.1.4
	@mv $(@D)/govulncheck $@

$(SBOM):
	@mkdir -p $(@D)
	@GOBIN=$(abspath $(@D)) $(GO) install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0
	@mv $(@D)/cyclonedx-gomod $@

clean: ## remove what was built; .cache stays
	rm -rf bin
