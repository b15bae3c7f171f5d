# make test   everything that must hold before a change goes in
# make build  bin/bulkinvite
# make fmt    format the code

# One step after another, the fast ones first; make names the step that fails.
.NOTPARALLEL:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: test
test: gofmt vet staticcheck imports promtool chromium race
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
	@go vet ./...

.PHONY: staticcheck
staticcheck:
	@echo "== staticcheck"
	@go tool staticcheck ./...

.PHONY: imports
imports:
	@echo "== imports go one way"
	@go test -run '^TestImport' .

# Prometheus' own tool reads its configuration, and tries each alert. It has a
# module of its own, since it needs 200 others; of the ways to find targets it is
# built with the one that is used here. The first time takes two minutes.
.PHONY: promtool
promtool:
	@echo "== promtool"
	@cd deploy/prometheus && export GOFLAGS="$${GOFLAGS:-} -tags=remove_all_sd,enable_dns_sd" && \
	go tool promtool check config --lint=all --lint-fatal prometheus.yaml && \
	go tool promtool test rules alerts_test.yaml

# The pages are tested in Chromium, which is installed where that may be: on
# Debian, by root or by who needs no password for sudo. Elsewhere the tests say
# what is missing.
.PHONY: chromium
chromium:
	@.ci/chromium

# The tests start a PostgreSQL of their own; nothing has to run already.
.PHONY: race
race:
	@echo "== go test -race"
	@go test -race -timeout 30m -v ./... 2>&1 | awk -f .ci/tally.awk

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

# make bench-budget   how much of the limits is used, beside plain loops; writes docs/bench (5 minutes a run)
# make show-budget    what the budget promises, with pass or fail; LINES="kill idle" for some (17 minutes)
RUNS ?= 3
.PHONY: bench-budget show-budget
bench-budget:
	go run ./cmd/bench budget -runs $(RUNS)
show-budget:
	go run ./cmd/bench show-budget $(LINES)

# make bench          every figure of speed and cost beside its limit; writes docs/bench (15 minutes, 20 GB); HUGE=3000000 for less than 10,000,000 rows
# make bench-import   of that the import, beside a bare loop; writes docs/bench/import.md (5 minutes); HUGE=1 for 10,000,000 rows too
# make bench-invite   of that inviting, with 200,000 people in each run; writes docs/bench/invite.md (45 minutes)
# make bench-sweep    of that a sweep, of 100,000 revocations (17 minutes)
.PHONY: bench bench-import bench-invite bench-sweep
bench:
	go run ./cmd/bench all -runs $(RUNS) $(if $(HUGE),-huge $(HUGE))
bench-import:
	go run ./cmd/bench import -runs $(RUNS) $(if $(HUGE),-huge)
bench-invite:
	go run ./cmd/bench invite -runs $(RUNS)
bench-sweep:
	go run ./cmd/bench all -only sweep -windows 100 -runs 1

# make bench-micro    the hot pieces alone, ten times each, beside the last figures; writes docs/bench/micro.txt and .md (2 minutes)
.PHONY: bench-micro
bench-micro:
	@now=$$(mktemp); trap 'rm -f "$$now"' EXIT; \
	go test ./importer ./ratelimit ./invitation -run '^$$' -bench '^Benchmark(Read|Clean|Room|Next)$$' \
		-benchtime 200ms -count 10 | tee "$$now"; \
	{ echo "# The hot pieces alone"; echo; echo "\`make bench-micro\` wrote this: the figures before beside those in [micro.txt](micro.txt), by benchstat."; echo; echo '~~~'; \
	  go tool benchstat before=docs/bench/micro.txt now="$$now"; echo '~~~'; } > docs/bench/micro.md; \
	cp "$$now" docs/bench/micro.txt; cat docs/bench/micro.md

# make show-sweep   what sweeps promise, in the same way (6 minutes)
.PHONY: show-sweep
show-sweep:
	go run ./cmd/bench show-sweep $(LINES)
# make show-roster  a roster of 5,000 rows against one of 5,000, of whom 300 are gone and 200 new (3 minutes)
# make show-drift   100,000 invitations, held against our rows, with drift planted by hand (5 minutes)
.PHONY: show-roster show-drift
show-roster:
	go run ./cmd/bench show-roster $(LINES)
show-drift:
	go run ./cmd/bench show-drift $(LINES)

# make show-web     the pages of a batch of 1,000,000 rows: how fast, and what watching costs (5 minutes)
.PHONY: show-web
show-web:
	go run ./cmd/bench show-web $(LINES)

# make show-audit   what auditors ask of 10,000,000 rows, and how long it takes; LINES=million for less (15 minutes, 10 GB)
.PHONY: show-audit
show-audit:
	go run ./cmd/bench show-audit $(LINES)

# make fuzz         plays with the reader of files, the addresses and the headers (50 minutes, on one core); FUZZTIME=1m for less
FUZZTIME ?= 10m
.PHONY: fuzz
fuzz:
	for target in FuzzRead FuzzClean FuzzHeader FuzzWorkbook FuzzSplit; do \
		go test ./importer -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x -parallel 1; \
	done

# make chaos        breaks things until 500 runs are made; writes docs/reliability.md (75 minutes)
# make chaos-short  a part of it, at most 10 minutes; SEED=2 throws the dice anew
SEED ?= 1
.PHONY: chaos chaos-short
chaos:
	go run ./cmd/chaos -seed $(SEED) -runs 500 -report docs/reliability.md
chaos-short:
	go run ./cmd/chaos -seed $(SEED) -short -lanes 3 -duration 9m
