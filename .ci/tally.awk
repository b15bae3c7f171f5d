# Filters the output of `go test -v`. It drops the noise, keeps the result of each test and package,
# and ends with the totals and the failures. A skipped test fails the run: a machine that runs the
# tests must have everything that they need.

/^=== (RUN|PAUSE|CONT|NAME)/ { next }
/^ +--- PASS/ { passed++; next }
/^--- PASS/   { passed++ }
/^ *--- FAIL/ { failed[++failures] = $3 }
/^ *--- SKIP/ { skipped[++skips] = $3 }
/^ok /         { packages++ }
/^FAIL\t/     { broken[++breaks] = $2 }
{ print; fflush() }

END {
	printf "\n%d tests passed, %d failed, %d skipped; %d packages passed, %d failed\n", passed, failures, skips, packages, breaks
	for (i = 1; i <= failures; i++) print "  failed: " failed[i]
	for (i = 1; i <= skips; i++) print "  skipped: " skipped[i]
	for (i = 1; i <= breaks; i++) print "  package failed: " broken[i]
	if (failures + skips + breaks > 0) exit 1
}
