# Every check that a change must pass is one target here; CI only calls them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Each of these can be given on the command line: make test MODULES=pkg.
MODULES = $(patsubst $(CURDIR)/%,%,$(shell go list -m -f '{{.Dir}}'))
TESTFLAGS =
FUZZTIME = 10s
BENCH = .
AGAINST = origin/main

# The tests that wait the longest come first, so that the others run meanwhile.
LONGEST = services/scheduler services/standalone
PACKAGES = $(patsubst %,./%/...,$(filter $(LONGEST),$(MODULES)) $(filter-out $(LONGEST),$(MODULES)))
BINARIES = $(sort $(notdir $(patsubst %/main.go,%,$(wildcard services/*/cmd/*/main.go))))
SERVICES = $(filter-out postrider,$(BINARIES))
SHELL_SCRIPTS = $(shell git ls-files -co --exclude-standard -- .ci scripts docs/receivers | xargs -r grep -lsE '^.!/.*sh( |$$)')

# Packages without tests say so in a line each; those are left out.
go_test = go test $(TESTFLAGS)
quiet = | { grep -v '\[no test files\]$$' || true; }

.PHONY: help
help: ## Show this help.
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z][a-z0-9\/%-]*:.*## / { sub("%", "<name>", $$1); printf "  %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Build

.PHONY: modules build run generate docs
modules: ## Fetch the modules that building and testing take, if they are not there.
	@go list -deps -test -tags 'integration e2e chaos' $(PACKAGES) > /dev/null

build: $(BINARIES:%=build/%) ## Build every binary into bin.

build/%: ## Build one binary into bin, such as build/router.
	@dir=$$(echo services/*/cmd/$*); \
	[ -d "$$dir" ] || { echo "no service has a cmd/$*" >&2; exit 1; }; \
	go build -trimpath -o bin/$* ./$$dir

run: ## Run everything in one process, state below var.
	@go run ./services/standalone/cmd/postrider up $(ARGS)

generate: bin/buf bin/protoc-gen-go bin/protoc-gen-go-grpc bin/protoc-gen-grpc-gateway ## Generate code and the OpenAPI document.
	@bin/buf generate
	@scripts/openapi > services/api/internal/openapi/.new && mv services/api/internal/openapi/.new services/api/internal/openapi/openapi.json

docs: build bin/buf docs/dashboards ## Generate the documentation that is made from code.
	@scripts/configuration-docs > docs/configuration.md
	@scripts/api-reference > docs/api-reference.md
	@POSTRIDER_WRITE_DOCS=1 go test -count 1 -run '^TestTheMetricsPageIsTrue$$' ./services/standalone

.PHONY: docs/dashboards
docs/dashboards: ## Write the dashboards of deploy/grafana.
	@GOWORK=off go -C test/alerts run ./cmd/dashboards "$(CURDIR)/deploy/grafana/dashboards"

.PHONY: images sbom licences nats/permissions k8s/monitoring
# The module of what is deployed is outside of the workspace, and so are its dependencies.
in_deploy = GOWORK=off go -C deploy
VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
REVISION = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

images: $(BINARIES:%=image/%) ## Build every container image as an OCI layout into var/images, without an engine.

image/%: ## Build one image, such as image/router.
	@$(in_deploy) run ./cmd/image -root '$(CURDIR)' -out '$(CURDIR)/var/images' -version '$(VERSION)' -revision '$(REVISION)' $*

sbom: build bin/cyclonedx-gomod ## Write what is in each binary, as CycloneDX, into var/sbom.
	@mkdir -p var/sbom
	@for b in $(BINARIES); do bin/cyclonedx-gomod bin -json -output var/sbom/$$b.cdx.json bin/$$b; done

licences: build ## Check that the licences of everything in the binaries are among those that we accept.
	@$(in_deploy) run ./cmd/licences $(BINARIES:%='$(CURDIR)/bin/%')

nats/permissions: ## Write what each service may do on NATS, from its table.
	@mkdir -p var
	@$(in_deploy) run ./cmd/nats-permissions > var/permissions.conf
	@cp var/permissions.conf deploy/nats/permissions.conf

k8s/monitoring: ## Write rules and dashboards to where the manifests have them.
	@$(in_deploy) run ./cmd/monitoring '$(CURDIR)/k8s/components/prometheus'

.PHONY: cluster
cluster: build bin/nats-server need/redis ## Run every service as processes of its own, state below var.
	@go run ./test/cmd/cluster $(ARGS)

##@ Test

.PHONY: test test/race test/integration test/e2e test/console test/compat test/fuzz chaos chaos/broken chaos/short bench bench/packages
test: ## Run the tests that need nothing but Go.
	@$(go_test) $(PACKAGES) $(quiet)

test/race: ## Run the same tests under the race detector.
	@$(go_test) -race -timeout 20m $(PACKAGES) $(quiet)

test/integration: need/redis ## Run the tests that need real servers too, under the race detector.
	@$(go_test) -race -tags integration -timeout 20m $(PACKAGES) $(quiet)

test/e2e: build bin/nats-server need/redis test/node/node_modules ## Run the scenarios over standalone and over separate processes.
	@$(go_test) -tags e2e -count 1 -timeout 20m ./test/e2e/... ./pkg/ecmajson/ $(quiet)

test/console: build test/node/node_modules need/chromium ## Walk through the console and the portal in Chromium, and ask axe-core about every page.
	@$(go_test) -tags e2e -count 1 -timeout 10m ./test/console/

test/compat: build test/node/node_modules ## Hold Postrider to the checks of the source systems, and docs/compatibility.md to the result.
	@mkdir -p var
	@go test -json -tags e2e -count 1 -timeout 20m ./test/compat > var/compat.json \
	  || { jq -r 'select(.Action == "output") | .Output' var/compat.json | tail -300 >&2; exit 1; }
	@go run ./test/cmd/compatibility < var/compat.json | diff -u docs/compatibility.md - || { echo "docs/compatibility.md is stale: run make docs/compatibility" >&2; exit 1; }

.PHONY: docs/compatibility
docs/compatibility: ## Write docs/compatibility.md from the last run of test/compat.
	@go run ./test/cmd/compatibility < var/compat.json > var/compatibility.md
	@cp var/compatibility.md docs/compatibility.md

test/fuzz: ## Run every fuzz target for FUZZTIME.
	@scripts/fuzz $(FUZZTIME) $(PACKAGES)

chaos: build bin/nats-server need/redis ## Kill, flush and restart things under load, and count what arrived.
	@# Drills that mostly wait run two at a time, after the others.
	@$(go_test) -tags chaos -count 1 -timeout 60m -parallel 2 -v -skip '^Test(Short|Broken)' ./test/chaos/...

chaos/broken: build bin/nats-server need/redis ## Swap two steps of an order rule in the code, and see that a drill catches it.
	@$(go_test) -tags chaos -count 1 -timeout 20m -v -run '^TestBroken' ./test/chaos/...

chaos/short: build bin/nats-server need/redis ## Run the same drills small, side by side, in a few minutes.
	@$(go_test) -tags chaos -count 1 -timeout 10m -parallel 3 -run '^(TestShort|TestLedger)' ./test/chaos/...

bench: build bin/nats-server need/redis ## Measure the whole system against a plain net/http loop; ARGS=-quick for a short run.
	@mkdir -p var
	@go build -o bin/bench ./test/cmd/bench
	@bin/bench -json var/bench.json $(ARGS)

.PHONY: bench/scale
bench/scale: build bin/nats-server need/redis ## Measure what grows with webhooks, retries, accounts, dispatchers and streams, an hour; ARGS='-only webhooks,retries-1m' for parts.
	@mkdir -p var
	@go build -o bin/bench ./test/cmd/bench
	@bin/bench scale -json var/scale.json $(ARGS)

bench/packages: need/redis ## Run the packages' benchmarks that match BENCH.
	@$(go_test) -tags integration -run '^$$' -bench '$(BENCH)' -benchmem $(PACKAGES) $(quiet)

.PHONY: bench/profile
bench/profile: ONLY ?= batch
bench/profile: TOP ?= 15
bench/profile: build bin/nats-server need/redis ## Run one configuration (ONLY=batch) short, and print where CPU and allocations go, the TOP (15) functions of each process.
	@go build -o bin/bench ./test/cmd/bench
	@scripts/bench-profile '$(ONLY)' '$(TOP)' $(ARGS)

.PHONY: bench/compare
bench/compare: COUNT ?= 6
bench/compare: BENCHTIME ?= 1s
bench/compare: bin/benchstat need/redis ## Compare the packages' benchmarks that match BENCH at BASE with those of the working tree, COUNT (6) runs of BENCHTIME (1s) each.
	@[ -n "$(BASE)" ] || { echo "say what to compare with: make bench/compare BASE=<revision>" >&2; exit 2; }
	@scripts/bench-compare '$(BASE)' '$(BENCH)' '$(COUNT)' '$(BENCHTIME)' $(PACKAGES)

.PHONY: bench/log
bench/log: ATTEMPTS ?= 1000000
bench/log: build bin/nats-server need/redis ## Measure both stores of the delivery log with ATTEMPTS (1 000 000) in them: questions, pages, recording, deliveries without a log.
	@go test -tags 'integration logbench' -run '^$$' -bench 'BenchmarkLog' -benchtime 1x -timeout 60m -v ./services/api/internal/logstore -args -attempts $(ATTEMPTS)
	@go test -tags logbench -run '^$$' -bench 'BenchmarkLog' -benchtime 1x -timeout 60m -v ./test/bench -args -attempts $(ATTEMPTS)

# Receivers in the source systems' own language; the end-to-end tests deliver to them.
test/node/node_modules: test/node/package.json test/node/package-lock.json
	@npm ci --prefix test/node --silent --no-audit --no-fund
	@touch $@

.PHONY: need/redis need/chromium need/nsenter
# Health checks are run in containers by nsenter; that of NATS is wget.
need/nsenter:
	@command -v nsenter >/dev/null && command -v wget >/dev/null || { echo "nsenter or wget is not installed" >&2; exit 1; }

need/chromium:
	@command -v chromium chromium-browser google-chrome >/dev/null || { echo "chromium is not installed" >&2; exit 1; }

need/redis:
	@command -v redis-server >/dev/null || { echo "redis-server is not installed" >&2; exit 1; }

##@ Check

# A module of its own, so that Prometheus' thousand packages are in nobody else's build.
.PHONY: check/alerts
check/alerts: ## Check rules, runbooks and dashboards against the metrics, and that alerts fire when they should.
	@GOWORK=off go -C test/alerts test -count 1 .

# In the order of what is cheap to learn first. test/integration runs everything that test/race does,
# and more, so that is not run twice.
CHECKS = fmt/check lint verify build/nowork tidy/check check/manifests licences test/integration test/e2e test/console test/compat chaos/short

.PHONY: check check/names verify fmt fmt/check lint lint/go lint/imports lint/proto lint/breaking lint/shell lint/actions
check: $(CHECKS) ## Run what a change must pass.

check/names:
	@echo $(CHECKS)

verify: build bin/buf bin/protoc-gen-go bin/protoc-gen-go-grpc bin/protoc-gen-grpc-gateway ## Check that the generated code is what generate makes.
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	bin/buf generate --output "$$tmp"; \
	git --no-pager diff --no-index --exit-code proto/gen/go "$$tmp/proto/gen/go" || { echo "generated code is stale: run make generate" >&2; exit 1; }; \
	scripts/openapi | diff -u services/api/internal/openapi/openapi.json - || { echo "the OpenAPI document is stale: run make generate" >&2; exit 1; }; \
	scripts/configuration-docs | diff -u docs/configuration.md - || { echo "docs/configuration.md is stale: run make docs" >&2; exit 1; }; \
	scripts/api-reference | diff -u docs/api-reference.md - || { echo "docs/api-reference.md is stale: run make docs" >&2; exit 1; }

fmt: bin/golangci-lint bin/buf bin/shfmt ## Format Go, proto and shell.
	@bin/golangci-lint fmt
	@bin/buf format -w
	@bin/shfmt -w $(SHELL_SCRIPTS)

fmt/check: bin/golangci-lint bin/buf bin/shfmt ## Show what fmt would change, and fail on it.
	@bin/golangci-lint fmt --diff
	@bin/buf format -d --exit-code
	@bin/shfmt -d $(SHELL_SCRIPTS)

lint: lint/go lint/imports lint/proto lint/shell lint/actions ## Run every linter.

lint/go: bin/golangci-lint ## Lint Go, all modules in one load.
	@bin/golangci-lint run --allow-parallel-runners $(PACKAGES)

# Its inputs lie outside its module, where the test cache does not look.
lint/imports: bin/golangci-lint ## Check the import rules, and on planted violations that they bite.
	@go test -count 1 -tags bans ./test/arch

lint/proto: bin/buf ## Lint proto.
	@bin/buf lint

lint/breaking: bin/buf ## Check proto for changes that break against AGAINST.
	@bin/buf breaking --against '.git#ref=$(AGAINST)'

lint/shell: bin/shfmt ## Lint shell scripts.
	@if command -v shellcheck >/dev/null; then shellcheck -x $(SHELL_SCRIPTS); \
	elif [ -n "$${CI:-}" ]; then echo "shellcheck is not installed" >&2; exit 1; \
	else echo "shellcheck is not installed: scripts are not linted" >&2; fi
	@bin/shfmt -d $(SHELL_SCRIPTS)

lint/actions: bin/actionlint ## Lint the CI workflow.
	@bin/actionlint

.PHONY: check/manifests check/images
check/images: ## Build images twice, compare them with each other and with the Dockerfile, and run them.
	@$(in_deploy) test -count 1 ./image

check/manifests: ## Check manifests, the compose file and the Dockerfile without a cluster and without an engine.
	@$(in_deploy) vet ./...
	@$(in_deploy) mod tidy -diff
	@$(in_deploy) run ./cmd/nats-permissions | diff -u deploy/nats/permissions.conf - || { echo "permissions.conf is stale: run make nats/permissions" >&2; exit 1; }
	@$(in_deploy) test $$($(in_deploy) list ./... | grep -v /image$$)
	@GOWORK=off go -C test/kube test ./manifest ./composefile

# A module of its own as well, for the renderer of manifests and for Prometheus.
.PHONY: check/manifests/run kube/binaries
kube/binaries: $(BINARIES:%=kube/binary/%)

kube/binary/%:
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o var/kube/bin/$* ./services/*/cmd/$*

check/manifests/run: kube/binaries bin/nats-server need/redis ## Run production as its manifests say, as processes, and roll it under load. Needs root.
	@GOWORK=off go -C test/kube test -count 1 -v -timeout 20m -run '^TestProduction' .

.PHONY: check/compose/run
check/compose/run: kube/binaries bin/nats-server need/redis need/nsenter ## Run docker-compose.yml as processes, take the README's tour, kill one of each, and stop it. Needs root and PostgreSQL.
	@GOWORK=off go -C test/kube test -count 1 -v -timeout 20m -run '^TestCompose$$' .

.PHONY: gameday
gameday: kube/binaries build/postrider bin/nats-server need/redis ## Let four things go wrong in production as processes, follow the runbooks, and see which alerts fire. Needs root and half an hour.
	@rm -rf var/gameday
	@GOWORK=off go -C test/kube test -count 1 -v -timeout 50m -run '^TestGameDay$$' .
	@GOWORK=off go -C test/alerts test -tags gameday -count 1 -v -run '^TestGameDay$$' .

.PHONY: check/kube
check/kube: bin/kube-apiserver bin/kubectl bin/etcd ## Ask a real API server whether it takes both overlays and the commands of the runbooks. Needs root, and minutes to build it.
	@$(in_deploy) run ./cmd/schemas -crds '$(CURDIR)/var/kube/crds'
	@GOWORK=off go -C test/kube test -count 1 -v -timeout 20m ./apiserver

.PHONY: build/nowork tidy tidy/check vuln
# Each of these tells of every module before it fails.
each_module = failed=; for m in $(MODULES); do ( $(1) ) || failed="$$failed $$m"; done; \
	[ -z "$$failed" ] || { echo "$(2):$$failed" >&2; exit 1; }

build/nowork: ## Build each module without the workspace.
	@$(call each_module,GOWORK=off go -C "$$m" build ./...,these do not build without the workspace)

tidy: ## Tidy each module.
	@$(call each_module,GOWORK=off go -C "$$m" mod tidy,these could not be tidied)

tidy/check: ## Show what tidy would change, and fail on it.
	@$(call each_module,GOWORK=off go -C "$$m" mod tidy -diff,these are not tidy; run make tidy)

vuln: bin/govulncheck ## Look for known vulnerabilities that the code reaches.
	@scripts/vuln $(MODULES)

##@ Tools

# A tool is built when it is missing, or when the module that pins it has changed.
# Its build is renamed into place, so that one in use is never half written.
define tool
TOOLS += bin/$(1)
bin/$(1): tools/$(2)/go.mod tools/$(2)/go.sum
	@echo "building $(1)"
	@mkdir -p bin
	@GOWORK=off go -C tools/$(2) build -trimpath -o '$$(CURDIR)/bin/.$(1).new' $(3)
	@mv bin/.$(1).new $$@
endef

$(eval $(call tool,actionlint,actionlint,github.com/rhysd/actionlint/cmd/actionlint))
$(eval $(call tool,benchstat,benchstat,golang.org/x/perf/cmd/benchstat))
$(eval $(call tool,buf,buf,github.com/bufbuild/buf/cmd/buf))
$(eval $(call tool,gofumpt,format,mvdan.cc/gofumpt))
$(eval $(call tool,goimports,format,golang.org/x/tools/cmd/goimports))
$(eval $(call tool,golangci-lint,golangci,github.com/golangci/golangci-lint/v2/cmd/golangci-lint))
$(eval $(call tool,govulncheck,vuln,golang.org/x/vuln/cmd/govulncheck))
$(eval $(call tool,grpcurl,grpcurl,github.com/fullstorydev/grpcurl/cmd/grpcurl))
$(eval $(call tool,nats-server,nats,github.com/nats-io/nats-server/v2))
$(eval $(call tool,protoc-gen-go,protoc,google.golang.org/protobuf/cmd/protoc-gen-go))
$(eval $(call tool,protoc-gen-go-grpc,protoc,google.golang.org/grpc/cmd/protoc-gen-go-grpc))
$(eval $(call tool,protoc-gen-grpc-gateway,protoc,github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway))
$(eval $(call tool,shfmt,format,mvdan.cc/sh/v3/cmd/shfmt))

# Not among the tools: it is large, and no check needs it.
bin/cyclonedx-gomod: tools/sbom/go.mod tools/sbom/go.sum
	@echo "building cyclonedx-gomod"
	@GOWORK=off go -C tools/sbom build -trimpath -o '$(CURDIR)/$@' github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod

# Neither are these: Kubernetes takes minutes to build, and only check/kube asks it.
bin/kube-apiserver bin/kubectl: bin/%: tools/kube/go.mod tools/kube/go.sum
	@echo "building $*"
	@GOWORK=off go -C tools/kube build -trimpath -o '$(CURDIR)/$@' k8s.io/kubernetes/cmd/$*

bin/etcd: tools/etcd/go.mod tools/etcd/go.sum
	@echo "building etcd"
	@GOWORK=off go -C tools/etcd build -trimpath -o '$(CURDIR)/$@' go.etcd.io/etcd/server/v3

.PHONY: tools
tools: $(TOOLS) ## Build the pinned tools into bin.
