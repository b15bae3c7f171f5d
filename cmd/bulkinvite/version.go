package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

type versionCmd struct{}

// Help is shown before the flags.
func (versionCmd) Help() string {
	return `Examples:

    bulkinvite version
    bulkinvite version --json

PostgreSQL's version is told where a database is named or the private one runs; none is started for it.`
}

// versions is what version prints.
type versions struct {
	Version    string  `json:"version"`
	Commit     string  `json:"commit"`
	Go         string  `json:"go"`
	PostgreSQL *string `json:"postgresql"` // nil: no server runs
}

// Run prints the versions.
func (versionCmd) Run(ctx context.Context, p *program) error {
	v := built()
	pool, err := p.runningDatabase(ctx)
	if err != nil {
		return err
	}
	server := "none runs"
	if pool != nil {
		if err := pool.QueryRow(ctx, "show server_version").Scan(&server); err != nil {
			return fmt.Errorf("ask the database for its version: %w", err)
		}
		v.PostgreSQL = &server
	}
	return p.show(v, fmt.Sprintf("bulkinvite  %s\ncommit      %s\nGo          %s\nPostgreSQL  %s\n", v.Version, v.Commit, v.Go, server))
}

// built reads what the toolchain recorded of this binary.
func built() versions {
	v := versions{Version: "(devel)", Commit: "unknown", Go: strings.TrimPrefix(runtime.Version(), "go")}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if modified {
		v.Commit += " and changes"
	}
	return v
}
