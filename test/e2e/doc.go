// Package e2e runs real processes against the sandbox for minutes, with many people and with
// windows of some seconds. It shows what no short test shows. Its tests have the build tag e2e, so
// `make test` does not run them; `make e2e` does.
package e2e
