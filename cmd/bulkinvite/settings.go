package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"

	"bulkinvite/internal/loopback"
	"bulkinvite/ratelimit"
)

// keyVariable is the environment variable that holds Clerk's secret key. There
// is no flag for the key itself: the list of processes shows flags.
const keyVariable = "CLERK_SECRET_KEY"

// settings are what every command understands. A flag wins over its variable, a
// variable over the configuration file.
type settings struct {
	DatabaseURL  string `group:"settings" env:"DATABASE_URL" placeholder:"URL" help:"PostgreSQL 15 or newer. Default: a private one of the program's own."`
	DataDir      string `group:"settings" predictor:"file" env:"BULKINVITE_DATA_DIR" type:"path" placeholder:"DIR" help:"What the program keeps. Default: the user's data directory; as root /var/lib/bulkinvite."`
	PostgresFrom string `group:"settings" env:"BULKINVITE_POSTGRES_FROM" default:"https://repo1.maven.org/maven2" placeholder:"URL" help:"Where PostgreSQL is fetched from, once, if none is installed. Default: https://repo1.maven.org/maven2."`
	ClerkKeyFile string `group:"settings" type:"path" predictor:"file" placeholder:"FILE" help:"File that holds Clerk's secret key; otherwise the key itself is taken from $$CLERK_SECRET_KEY. Default: none."`
	ClerkURL     string `group:"settings" env:"CLERK_API_URL" default:"https://api.clerk.com/v1" placeholder:"URL" help:"Clerk's API, with the /v1. Default: https://api.clerk.com/v1."`
	Sandbox      bool   `group:"settings" help:"The stand-in inside the program instead of Clerk. Default: off."`

	LimitCreate  ratelimit.Limit  `group:"settings" env:"BULKINVITE_LIMIT_CREATE" default:"100/1h" placeholder:"LIMIT" help:"Single creates: N/DURATION, none, or off. Default: 100/1h."`
	LimitBulk    ratelimit.Limit  `group:"settings" env:"BULKINVITE_LIMIT_BULK" default:"25/1h" placeholder:"LIMIT" help:"Bulk creates, of up to ten people each. Default: 25/1h."`
	LimitGeneral *ratelimit.Limit `group:"settings" env:"BULKINVITE_LIMIT_GENERAL" placeholder:"LIMIT" help:"Reads and revokes. Default: 1000/10s; on development instances 100/10s."`

	Settle         time.Duration `group:"settings" env:"BULKINVITE_SETTLE" default:"15s" placeholder:"TIME" help:"How long after a lost answer Clerk is read. Default: 15s."`
	RequestTimeout time.Duration `group:"settings" env:"BULKINVITE_REQUEST_TIMEOUT" default:"20s" placeholder:"TIME" help:"How long a request may take. Default: 20s."`
	RecoverAfter   time.Duration `group:"settings" env:"BULKINVITE_RECOVER_AFTER" default:"20s" placeholder:"TIME" help:"How soon a dead worker's rows go on. Default: 20s."`

	LogFormat string `group:"settings" env:"BULKINVITE_LOG_FORMAT" enum:"text,json," default:"" placeholder:"text|json" help:"Form of the log on standard error. Default: text on a terminal, else json."`
	LogLevel  string `group:"settings" env:"BULKINVITE_LOG_LEVEL" enum:"debug,info,warn,error," default:"" placeholder:"LEVEL" help:"debug, info, warn or error. Default: info; warn in doctor, and where send talks to a terminal."`

	JSON   bool            `group:"settings" name:"json" help:"One JSON document on standard output, errors too. Default: off."`
	Yes    bool            `group:"settings" help:"Answer every confirmation with yes. Default: off."`
	Config kong.ConfigFlag `group:"settings" predictor:"file" env:"BULKINVITE_CONFIG" placeholder:"FILE" help:"YAML file of flags: limit-create: 50/1h; a command's own below its name. Default: none."`
}

// Validate refuses settings that no command could work with.
func (s *settings) Validate() error {
	if s.LimitCreate.Off && s.LimitBulk.Off {
		return errors.New("--limit-create and --limit-bulk are both off, so that nobody could be invited: set one of them")
	}
	if s.LimitGeneral != nil && s.LimitGeneral.Off {
		return errors.New("--limit-general can't be off: what became of a lost answer is found out by reading")
	}
	repository, err := url.Parse(s.PostgresFrom)
	if err != nil || repository.Host == "" || !loopback.Secure(repository) {
		return errors.New("--postgres-from must be a URL that begins with https://; http:// is for loopback only")
	}
	for name, d := range map[string]time.Duration{"settle": s.Settle, "request-timeout": s.RequestTimeout, "recover-after": s.RecoverAfter} {
		if d <= 0 {
			return fmt.Errorf("--%s=%s must be longer than nothing, such as 15s", name, d)
		}
	}
	return nil
}

// dataDir returns the directory that the program keeps its state in; it need
// not exist.
func (s *settings) dataDir() (string, error) {
	if s.DataDir != "" {
		return filepath.Abs(s.DataDir)
	}
	if os.Geteuid() == 0 {
		return "/var/lib/bulkinvite", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "bulkinvite"), nil
	}
	if dir := os.Getenv("LocalAppData"); runtime.GOOS == "windows" && dir != "" {
		return filepath.Join(dir, "bulkinvite"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fail(exitFailed, "data_dir", "name one: --data-dir DIR or BULKINVITE_DATA_DIR", "find the data directory: %w", err)
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", "bulkinvite"), nil
	}
	return filepath.Join(home, ".local", "share", "bulkinvite"), nil
}

// directory is dataDir, but refuses a path that is a file or lies below one.
func (s *settings) directory() (string, error) {
	dir, err := s.dataDir()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			return "", fail(exitFailed, "data_dir", "Use --data-dir DIR or BULKINVITE_DATA_DIR to name a directory.",
				"data directory %s: %s is a file", dir, at)
		}
		if err == nil || at == filepath.Dir(at) {
			return dir, nil
		}
	}
}

// dropEmptyVariables makes an empty variable of ours count as one that is not
// set, as compose files pass variables on that nobody set.
func dropEmptyVariables() error {
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		ours := strings.HasPrefix(name, "BULKINVITE_") || slices.Contains([]string{"DATABASE_URL", "CLERK_API_URL", keyVariable}, name)
		if !ours || value != "" {
			continue
		}
		if err := os.Unsetenv(name); err != nil {
			return fmt.Errorf("ignore the empty variable %s: %w", name, err)
		}
	}
	return nil
}

// fileResolver takes flags from the configuration file. Kong asks resolvers
// after it has read the variables, and lets them win; so a flag whose variable
// is set is left alone here.
type fileResolver map[string]any // the file's keys: settings, and commands with their flags

// loadConfig reads a configuration file: YAML, a setting's name for each key; a
// command's own flags stand below its name.
func loadConfig(r io.Reader) (kong.Resolver, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read the configuration file: %w", err)
	}
	var keys map[string]any
	if err := yaml.Unmarshal(text, &keys); err != nil {
		return nil, fmt.Errorf("read the configuration file: it is not YAML with a flag's name for each key: %w", err)
	}
	return fileResolver(keys), nil
}

// Validate refuses keys that are no flag, or that stand where their flag is not
// looked for: a slip there would go unnoticed.
func (f fileResolver) Validate(app *kong.Application) error {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		command, flags := &kong.Node{}, f[key]
		for _, child := range app.Children {
			if child.Name == key {
				command = child
			}
		}
		own, nested := flags.(map[string]any)
		switch {
		case !nested && hasFlag(app.Node, key): // some commands are called as settings are: sandbox
			continue
		case command.Name == "":
			return unknownKey(app, key)
		case !nested:
			return fmt.Errorf("the configuration file's %s is a command: the lines below it set its flags", key)
		}
		for _, name := range slices.Sorted(maps.Keys(own)) {
			if !hasFlag(command, name) {
				return fmt.Errorf("the configuration file sets %q below %s, which is no flag of that command", name, key)
			}
		}
	}
	return nil
}

func hasFlag(n *kong.Node, name string) bool {
	return slices.ContainsFunc(n.Flags, func(f *kong.Flag) bool { return f.Name == name })
}

// unknownKey says what is wrong with a key that is no setting.
func unknownKey(app *kong.Application, key string) error {
	for _, child := range app.Children {
		if hasFlag(child, key) {
			return fmt.Errorf("the configuration file sets %q, which is a flag of a command: put it below the command's name, as \"%s:\"", key, child.Name)
		}
	}
	return fmt.Errorf("the configuration file sets %q, which is no flag", key)
}

// Resolve returns the file's value for a flag, or nil.
func (f fileResolver) Resolve(_ *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	variables := flag.Envs
	if flag.Name == "clerk-key-file" {
		variables = []string{keyVariable}
	}
	for _, name := range variables {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	if parent.Command == nil {
		if _, section := f[flag.Name].(map[string]any); section { // of the command that has this name too, such as sandbox
			return nil, nil
		}
		return f[flag.Name], nil
	}
	own, _ := f[parent.Command.Name].(map[string]any)
	return own[flag.Name], nil
}
