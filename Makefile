# make test   everything that must hold before a change goes in (.ci/run does more); README.md says what the first run costs
# make build  bin/bulkinvite
# make fmt    format the code

# One step after another, the fast ones first; make names the step that fails.
.NOTPARALLEL:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: test
test: gofmt vet staticcheck imports chromium race
	@echo "== all passed"

.PHONY: gofmt
gofmt:
	@echo "== gofmt"
	@files=$$(gofmt -l .); \
	if [ -n "$$files" ]; then \
		echo "not formatted (make fmt does it):"; echo "$$files"; exit 1; \
	fi

.PHONY: vet
vet:
	@echo "== go vet"
	@go vet -tags e2e ./...

.PHONY: staticcheck
staticcheck:
	@echo "== staticcheck"
	@go tool staticcheck -tags e2e ./...

.PHONY: imports
imports:
	@echo "== imports go one way"
	@go test -run '^TestImport' .

# The pages are tested in Chromium, which is installed where that may be: on
# Debian, by root or by who needs no password for sudo. Elsewhere the tests say
# what is missing.
.PHONY: chromium
chromium:
	@.ci/chromium

# The tests start a PostgreSQL of their own; nothing has to run already.
# importer and invitation start no goroutine, which TestNoGoroutines holds them to: there the race detector would find
# nothing, and take three minutes of two cores.
SEQUENTIAL = bulkinvite/importer bulkinvite/invitation
.PHONY: race
race:
	@echo "== go test, with -race where anything runs at the same time"
	@failed=0; { \
		go test -race -timeout 30m -v $(filter-out $(SEQUENTIAL),$(shell go list ./...)) || failed=1; \
		go test -timeout 30m -v $(SEQUENTIAL) || failed=1; \
		exit $$failed; \
	} 2>&1 | awk -f .ci/tally.awk

# make promtool     the alert rules with Prometheus' own tool, and each alert's tests; .ci/run does it too (the first time: 200 modules, two minutes)
# promtool has a module of its own, so that its modules stay out of go.mod. It is
# built with the one kind of service discovery that prometheus.yaml uses.
.PHONY: promtool
promtool:
	@echo "== promtool"
	@cd deploy/prometheus && export GOFLAGS="$${GOFLAGS:-} -tags=remove_all_sd,enable_dns_sd" && \
	go tool promtool check config --lint=all --lint-fatal prometheus.yaml && \
	go tool promtool test rules alerts_test.yaml

# make upgrade      this version's migrations under the workers of the version before (a minute)
.PHONY: upgrade
upgrade:
	.ci/upgrade

.PHONY: build
build:
	CGO_ENABLED=0 go build -trimpath -o bin/bulkinvite ./cmd/bulkinvite

.PHONY: fmt
fmt:
	gofmt -w .

# make pages          take the pictures in docs/pages anew, when a page has changed
.PHONY: pages
pages: chromium
	go test ./cmd/bulkinvite/browsertest -count=1 -update

# make bench          compares us with limits and peers, floor by floor; writes docs/bench (20 minutes, 20 GB); PARTS="import budget" for some, and writes nothing
.PHONY: bench
bench:
	go run ./cmd/bench $(PARTS)

# make e2e            real processes with many people, for minutes (12 minutes, on a machine that does nothing else); RUN=TestBudget for some
#                     these tests have the build tag e2e, which make race does not set: no test is skipped there
RUN ?= .
.PHONY: e2e
e2e:
	go test -tags e2e ./test/e2e -run '$(RUN)' -count=1 -parallel 4 -timeout 1h -v

# make fuzz         plays with the reader of files, the addresses and the headers (50 minutes, on one core); FUZZTIME=1m for less
FUZZTIME ?= 10m
.PHONY: fuzz
fuzz:
	for target in FuzzRead FuzzClean FuzzHeader FuzzWorkbook FuzzSplit; do \
		go test ./importer -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x -parallel 1; \
	done

# make simulate        runs the whole program under the faults of SEEDS seeds, and fails for a rare state that none reaches (two hours on 2 cores)
# make simulate-short  100 seeds of these, and no state is asked for (3 minutes)
#                      LANES at a time; PACE is a second of the workers' own waits, longer for a busy machine
#                      one seed again, with what happened: go test ./test/simulation -run TestSimulate -seed 4711 -v
SEEDS ?= 5000
LANES ?= 4
PACE ?= 40ms
SIMULATE = go test ./test/simulation -run '^TestSimulate$$' -count=1 -parallel $(LANES) -second $(PACE)
.PHONY: simulate simulate-short
simulate:
	$(SIMULATE) -timeout 24h -seeds $(SEEDS) -complete
simulate-short:
	$(SIMULATE) -timeout 20m -seeds 100 -first 10001

# make chaos        breaks things until 500 runs are made; writes docs/reliability.md (75 minutes)
# make chaos-short  a part of it, at most 10 minutes; SEED=2 throws the dice anew
SEED ?= 1
.PHONY: chaos chaos-short
chaos:
	go run ./cmd/chaos -seed $(SEED) -runs 500 -report docs/reliability.md
chaos-short:
	go run ./cmd/chaos -seed $(SEED) -short -lanes 3 -duration 9m
