package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type configCmd struct{}

// Help is shown before the flags.
func (configCmd) Help() string {
	return `Examples:

    bulkinvite config
    bulkinvite config --config bulkinvite.yaml --json

What is in force, and where each came from: a flag, the environment, the configuration file, or the default. Of the commands' own flags it shows those that a variable or the file sets. Secrets are hidden. Needs no database and no key.`
}

// inForce is one setting as config prints it.
type inForce struct {
	Name  string `json:"name"`  // a flag's; for a command's own flag "work sweep-at"; or a variable's
	Value string `json:"value"` // empty: unset, and the default is said in words
	From  string `json:"from"`  // flag, environment, file or default
	Where string `json:"where"` // the variable or the file; empty for the others
}

// secretVariables hold what is shown to nobody. They are no flags, since the list
// of processes shows flags.
var secretVariables = []string{keyVariable, usersVariable, openIDSecretVariable, webhookVariable, "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"}

// Run prints what is in force.
func (configCmd) Run(ctx *kong.Context, c *cli, p *program) error {
	var file kong.Resolver
	if c.settings.Config != "" {
		var err error
		if file, err = ctx.LoadConfig(string(c.settings.Config)); err != nil {
			return usage(err)
		}
	}
	list, err := settingsInForce(ctx, c, file)
	if err != nil {
		return err
	}
	for _, name := range slices.Concat(secretVariables, tracesVariables) {
		if value, set := os.LookupEnv(name); set {
			list = append(list, inForce{Name: name, Value: hidden(name, value), From: "environment", Where: name})
		}
	}
	t := table{head: []string{"SETTING", "VALUE", "FROM"}}
	for _, s := range list {
		from := s.From
		if s.Where != "" {
			from += " " + s.Where
		}
		t.add(s.Name, s.Value, strings.TrimSpace(from))
	}
	return p.show(list, t.on(p.outDisplay()))
}

// settingsInForce lists every setting of all commands, and the commands' own flags
// that the environment or the file sets.
func settingsInForce(ctx *kong.Context, c *cli, file kong.Resolver) ([]inForce, error) {
	given := map[*kong.Value]bool{}
	for _, step := range ctx.Path {
		if step.Flag != nil && !step.Resolved {
			given[step.Flag.Value] = true
		}
	}
	var list []inForce
	for _, node := range append([]*kong.Node{ctx.Model.Node}, ctx.Model.Children...) {
		for _, f := range node.Flags {
			setting := f.Group != nil && f.Group.Key == settingsGroup
			s, value, err := trace(ctx, c, node, f, file)
			switch {
			case err != nil:
				return nil, err
			case setting:
				value = shown(ctx, c, f)
				if given[f.Value] {
					s.From, s.Where = "flag", ""
				}
			case node.Parent == nil || s.From == "default":
				continue
			default:
				s.Name = node.Name + " " + f.Name
			}
			s.Value = hidden(f.Name, value)
			list = append(list, s)
		}
	}
	return list, nil
}

// trace finds where a flag that is not on the command line has its value from,
// and the value as it is written there.
func trace(ctx *kong.Context, c *cli, node *kong.Node, f *kong.Flag,
	file kong.Resolver) (s inForce, value string, err error) {
	s = inForce{Name: f.Name, From: "default"}
	for _, name := range f.Envs {
		if value, set := os.LookupEnv(name); set {
			s.From, s.Where = "environment", name
			return s, value, nil
		}
	}
	if file == nil {
		return s, "", nil
	}
	at := &kong.Path{}
	if node.Parent != nil {
		at.Command = node
	}
	said, err := file.Resolve(ctx, at, f)
	if err != nil || said == nil {
		return s, "", err
	}
	s.From, s.Where = "file", string(c.settings.Config)
	return s, fmt.Sprint(said), nil
}

// shown writes the value of a setting. Where it has none, its default is what
// its help says.
func shown(ctx *kong.Context, c *cli, f *kong.Flag) string {
	switch f.Name {
	case "data-dir":
		if dir, err := c.dataDir(); err == nil {
			return dir
		}
	case "database-url":
		if dir, err := c.dataDir(); err == nil && c.DatabaseURL == "" {
			return "a private PostgreSQL in " + filepath.Join(dir, "postgres")
		}
	}
	value := fmt.Sprint(ctx.FlagValue(f))
	if f.Target.Kind() == reflect.Pointer && f.Target.IsNil() || value == "" {
		_, byDefault, _ := strings.Cut(f.Help, "Default: ")
		return strings.TrimSuffix(byDefault, ".")
	}
	return value
}

// passwordWord finds the password in a connection string of words.
var passwordWord = regexp.MustCompile(`(?i)(password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)`)

// hidden takes what is secret out of a value.
func hidden(name, value string) string {
	switch {
	case slices.Contains(secretVariables, name), name == "webhook-url": // whoever has such a URL may often post to it
		return "set, and hidden"
	case !slices.Contains([]string{"database-url", "postgres-from", otelEndpoint, otelTracesEndpoint}, name):
		return value
	}
	u, err := url.Parse(value)
	if err != nil && strings.Contains(value, "://") {
		return "set, and hidden: it is no URL"
	}
	if err != nil || u.Scheme == "" {
		return passwordWord.ReplaceAllString(value, "${1}xxxxx")
	}
	query := u.Query()
	for _, secret := range []string{"password", "sslpassword"} {
		if query.Has(secret) {
			query.Set(secret, "xxxxx")
			u.RawQuery = query.Encode()
		}
	}
	return u.Redacted()
}
