package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// readsOf finds which of the package's functions and which settings each function mentions.
type readsOf struct {
	functions map[*types.Func][]*types.Func
	settings  map[*types.Func][]string
	run       map[string]*types.Func // Run of each command, by the name of its type
}

// checkedPackage type-checks this package as the compiler does, without its tests.
func checkedPackage(t *testing.T) *readsOf {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-export", "-deps", "-json=ImportPath,Export,GoFiles", ".")
	out, err := list.Output()
	must.OK(t, err)
	exports := map[string]string{}
	var own struct{ GoFiles []string }
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Export string
			GoFiles            []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		own.GoFiles = p.GoFiles // this package comes last
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range own.GoFiles {
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		must.OK(t, err)
		files = append(files, file)
	}
	info := &types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}
	compiled := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	config := types.Config{Importer: importer.ForCompiler(set, "gc", compiled)}
	pkg, err := config.Check("bulkinvite/cmd/bulkinvite", set, files, info)
	must.OK(t, err)
	fields := map[types.Object]string{}
	flags := map[string]string{} // a field's name: its flag's
	for _, f := range commandLine().Flags {
		flags[strings.ToLower(strings.ReplaceAll(f.Name, "-", ""))] = f.Name
	}
	settings := pkg.Scope().Lookup("settings").Type().Underlying().(*types.Struct)
	for field := range settings.Fields() {
		name := flags[strings.ToLower(field.Name())]
		if name == "" {
			t.Fatalf("no flag is the setting %s", field.Name())
		}
		fields[field] = name
	}
	program := pkg.Scope().Lookup("program").Type()
	opens := map[string]string{ // what dispatch binds
		"*pgxpool.Pool": "database", "*main.takingBack": "openTakingBack",
	}
	r := &readsOf{map[*types.Func][]*types.Func{}, map[*types.Func][]string{}, map[string]*types.Func{}}
	for _, file := range files {
		for _, declared := range file.Decls {
			f, ok := declared.(*ast.FuncDecl)
			if !ok {
				continue
			}
			self := info.Defs[f.Name].(*types.Func)
			if f.Name.Name == "Run" && f.Recv != nil {
				kind := f.Recv.List[0].Type
				if star, ok := kind.(*ast.StarExpr); ok {
					kind = star.X
				}
				r.run[kind.(*ast.Ident).Name] = self
				for argument := range self.Signature().Params().Variables() {
					if open := opens[types.TypeString(argument.Type(), (*types.Package).Name)]; open != "" {
						method, _, _ := types.LookupFieldOrMethod(program, true, pkg, open)
						r.functions[self] = append(r.functions[self], method.(*types.Func))
					}
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				name, ok := n.(*ast.Ident)
				if !ok {
					return true
				}
				switch used := info.Uses[name].(type) {
				case *types.Func:
					if used.Pkg() == pkg {
						r.functions[self] = append(r.functions[self], used)
					}
				case *types.Var:
					if setting := fields[used]; setting != "" {
						r.settings[self] = append(r.settings[self], setting)
					}
				}
				return true
			})
		}
	}
	return r
}

// from lists the settings that a function reads, and those of which it is called.
func (r *readsOf) from(f *types.Func) []string {
	found, seen := map[string]bool{}, map[*types.Func]bool{}
	var walk func(*types.Func)
	walk = func(f *types.Func) {
		if seen[f] {
			return
		}
		seen[f] = true
		for _, s := range r.settings[f] {
			found[s] = true
		}
		for _, g := range r.functions[f] {
			walk(g)
		}
	}
	walk(f)
	return slices.Sorted(maps.Keys(found))
}

// leaves are the commands that run.
func leaves(n *kong.Node) []*kong.Node {
	if len(n.Children) == 0 {
		return []*kong.Node{n}
	}
	var all []*kong.Node
	for _, child := range n.Children {
		all = append(all, leaves(child)...)
	}
	return all
}

// What settingsUsed says of each command is what its code reads, neither less nor more. config
// is an exception: it prints all of them.
func TestSettingsUsed(t *testing.T) {
	t.Parallel()
	r := checkedPackage(t)
	all := leaves(commandLine().Node)
	expect.Equal(t, "commands", len(all), len(settingsUsed))
	for _, command := range all {
		run := r.run[command.Target.Type().Name()]
		if run == nil {
			t.Errorf("%s has no Run", command.Path())
			continue
		}
		declared := strings.Fields(settingsUsed[command.Path()])
		slices.Sort(declared)
		declared = slices.Compact(declared)
		reads := slices.DeleteFunc(r.from(run), func(s string) bool { return slices.Contains(strings.Fields(forAll), s) })
		if command.Path() != "config" && !slices.Equal(declared, reads) {
			t.Errorf("%s: settingsUsed says %v, its code reads %v", command.Path(), declared, reads)
		}
	}
}

// A command's help shows the settings that it uses and no others, but each command accepts all.
func TestHelpShowsSettingsUsed(t *testing.T) {
	t.Parallel()
	for _, command := range leaves(commandLine().Node) {
		text := help(t, command)
		for _, f := range commandLine().Flags {
			if f.Name == "help" {
				continue
			}
			used := slices.Contains(strings.Fields(forAll+settingsUsed[command.Path()]), f.Name)
			if shown := strings.Contains(text, "  "+flagName(f)+" "); shown != used {
				t.Errorf("%s --help: --%s is shown: %t, used: %t", command.Path(), f.Name, shown, used)
			}
		}
	}
	b := newBench(t)
	all := []string{"--data-dir", b.dir, "--database-url", b.url, "--postgres-from", "https://repo1.maven.org/maven2",
		"--clerk-key-file", "key", "--clerk-url", "https://api.clerk.com/v1", "--sandbox",
		"--limit-create", "100/1h", "--limit-bulk", "25/1h", "--limit-general", "1000/10s",
		"--settle", "15s", "--request-timeout", "20s", "--recover-after", "20s",
		"--log-format", "json", "--log-level", "info", "--json", "--yes"}
	for _, args := range [][]string{
		{"batches"}, {"completion", "bash"}, {"version"}, {"token", "list"}, {"limits"}, {"config"}, {"migrate", "--status"},
	} {
		b.run(slices.Concat(args, all)...).want(t, exitOK)
	}
	b.runWith("a long enough password", slices.Concat([]string{"user", "maria"}, all)...).want(t, exitOK)
}
