# make test   all checks that a change must pass (.ci/run does more); README.md has the cost of the first run
# make build  build bin/bulkinvite
# make fmt    format the code

# The steps run one after another, the fast ones first. make names the step that fails.
.NOTPARALLEL:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: test
test: gofmt vet staticcheck errcheck revive imports chromium race
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

# An error is handled, or ignored with _ = and a reason. .errcheck-excludes lists the functions whose
# errors never matter.
.PHONY: errcheck
errcheck:
	@echo "== errcheck"
	@go tool errcheck -tags e2e -exclude .errcheck-excludes ./...

# revive checks doc comments, and a few faults that vet and staticcheck do not find: .revive.toml. It
# has no flag for build tags, so it gets the end-to-end tests by name.
.PHONY: revive
revive:
	@echo "== revive"
	@go tool revive -config .revive.toml -set_exit_status ./... test/e2e/*.go

.PHONY: imports
imports:
	@echo "== imports go one way"
	@go test -run '^TestImport' ./test/repository

# The pages are tested in Chromium. This installs it on Debian, as root or with a sudo that needs no
# password. Elsewhere the tests say what is missing.
.PHONY: chromium
chromium:
	@.ci/chromium

# The tests start their own PostgreSQL, so no server has to run. These packages start no goroutine,
# which TestNoGoroutines checks. The race detector would find nothing there and take three minutes on
# two cores.
SEQUENTIAL = bulkinvite/importer bulkinvite/internal/batch bulkinvite/internal/invitation bulkinvite/internal/ledger bulkinvite/internal/proof bulkinvite/internal/report
.PHONY: race
race:
	@echo "== go test, with -race where anything runs at the same time"
	@failed=0; { \
		go test -race -timeout 30m -v $(filter-out $(SEQUENTIAL),$(shell go list ./...)) || failed=1; \
		go test -timeout 30m -v $(SEQUENTIAL) || failed=1; \
		exit $$failed; \
	} 2>&1 | awk -f .ci/tally.awk

# make promtool     check the alert rules with Prometheus's own tool and run each alert's tests; .ci/run
#                   does it too (the first time: 200 modules, two minutes)
# promtool has its own module, so that its dependencies stay out of go.mod. It is built with only the
# kind of service discovery that prometheus.yaml uses.
.PHONY: promtool
promtool:
	@echo "== promtool"
	@cd deploy/prometheus && export GOFLAGS="$${GOFLAGS:-} -tags=remove_all_sd,enable_dns_sd" && \
	go tool promtool check config --lint=all --lint-fatal prometheus.yaml && \
	go tool promtool test rules alerts_test.yaml

# make upgrade      migrate to this version while workers of the previous version run (one minute)
.PHONY: upgrade
upgrade:
	.ci/upgrade

.PHONY: build
build:
	CGO_ENABLED=0 go build -trimpath -o bin/bulkinvite ./cmd/bulkinvite

.PHONY: fmt
fmt:
	gofmt -w .

# make pages          take the pictures in docs/pages again after a page has changed
.PHONY: pages
pages: chromium
	go test ./cmd/bulkinvite/browsertest -count=1 -update

# make bench          compare the program with its limits and with other programs, and check each floor;
#                     writes docs/bench (20 minutes, 20 GB); PARTS="import budget" runs some and writes nothing
.PHONY: bench
bench:
	go run ./cmd/bench $(PARTS)

# make e2e            run real processes with many people (12 minutes on an idle machine); RUN=TestBudget runs
#                     some; these tests have the build tag e2e, which make race does not set, so it skips none
RUN ?= .
.PHONY: e2e
e2e:
	go test -tags e2e ./test/e2e -run '$(RUN)' -count=1 -parallel 4 -timeout 1h -v

# make fuzz         fuzz the reader of files, the addresses and the headers (50 minutes on one core);
#                   FUZZTIME=1m takes less
FUZZTIME ?= 10m
.PHONY: fuzz
fuzz:
	for target in FuzzRead FuzzClean FuzzHeader FuzzWorkbook FuzzSplit; do \
		go test ./importer -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x -parallel 1; \
	done

# make simulate        run the whole program with the faults of SEEDS seeds; fails if no seed reaches one of the
#                      rare states (two hours on two cores)
# make simulate-short  run 100 other seeds and require no rare state (3 minutes)
#                      LANES is how many run at a time; PACE is how long a second of the workers' own waits
#                      lasts: use more on a busy machine
#                      to run one seed again and see its events:
#                      go test ./test/simulation -run TestSimulate -seed 4711 -v
SEEDS ?= 5000
LANES ?= 4
PACE ?= 40ms
SIMULATE = go test ./test/simulation -run '^TestSimulate$$' -count=1 -parallel $(LANES) -second $(PACE)
.PHONY: simulate simulate-short
simulate:
	$(SIMULATE) -timeout 24h -seeds $(SEEDS) -complete
simulate-short:
	$(SIMULATE) -timeout 20m -seeds 100 -first 10001

# make chaos        inject faults into 500 runs; writes docs/reliability.md (75 minutes)
# make chaos-short  a part of it, at most 10 minutes; SEED=2 selects other faults
SEED ?= 1
.PHONY: chaos chaos-short
chaos:
	go run ./cmd/chaos -seed $(SEED) -runs 500 -report docs/reliability.md
chaos-short:
	go run ./cmd/chaos -seed $(SEED) -short -lanes 3 -duration 9m
