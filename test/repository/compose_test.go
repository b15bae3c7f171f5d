package repository_test

import (
	"context"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

const composeFile = "docker-compose.yml"

// secrets has the variables that the compose file requires.
var secrets = types.Mapping{"POSTGRES_PASSWORD": "planted password", "CLERK_SECRET_KEY": "planted key"}

// loadCompose loads the compose file as docker compose does. env is the whole environment.
func loadCompose(ctx context.Context, env types.Mapping, profiles ...string) (*types.Project, error) {
	text, err := os.ReadFile(composeFile)
	if err != nil {
		return nil, err
	}
	details := types.ConfigDetails{
		WorkingDir:  ".",
		ConfigFiles: []types.ConfigFile{{Filename: composeFile, Content: text}},
		Environment: maps.Clone(env), // loading adds variables to it
	}
	return loader.LoadWithContext(ctx, details, loader.WithProfiles(profiles), func(o *loader.Options) {
		o.SetProjectName("bulkinvite", true)
	})
}

func mustLoad(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	project, err := loadCompose(t.Context(), secrets, profiles...)
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeServices(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		profiles []string
		want     []string
	}{
		{nil, []string{"migrate", "postgres", "worker"}},
		{[]string{"monitoring"}, []string{"grafana", "migrate", "postgres", "prometheus", "worker"}},
		{[]string{"sandbox"}, []string{"migrate", "postgres", "sandbox", "sandbox-worker", "worker"}},
	} {
		if got := slices.Sorted(maps.Keys(mustLoad(t, c.profiles...).Services)); !slices.Equal(got, c.want) {
			t.Errorf("profiles %q: services %q, want %q", c.profiles, got, c.want)
		}
	}
}

func TestComposeNeedsItsSecrets(t *testing.T) {
	t.Parallel()
	for name := range secrets {
		for _, given := range []string{"", "unset"} {
			env := maps.Clone(secrets)
			env[name] = ""
			if given == "unset" {
				delete(env, name)
			}
			_, err := loadCompose(t.Context(), env)
			if err == nil || !strings.Contains(err.Error(), "set "+name) {
				t.Errorf("without %s: error %v, want one that names it", name, err)
			}
		}
	}
}

func TestComposeHoldsNoSecret(t *testing.T) {
	t.Parallel()
	project := mustLoad(t, "sandbox")
	secret := regexp.MustCompile(`PASSWORD|SECRET|TOKEN`)
	given := slices.Collect(maps.Values(secrets))
	for name, service := range project.Services {
		for variable, value := range service.Environment {
			if !secret.MatchString(variable) || slices.Contains(given, *value) {
				continue
			}
			if name != "sandbox-worker" || *value != "sk_test_sandbox" {
				t.Errorf("%s: %s is written in the file", name, variable)
			}
		}
	}
	text, err := os.ReadFile(composeFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{`sk_live_`, `sk_test_[^s]`, `://[^/@\s]+:[^/@\s]+@`} {
		if m := regexp.MustCompile(bad).Find(text); m != nil {
			t.Errorf("the file has %q, which looks like a secret", m)
		}
	}
}

// TestComposeSandboxIsApart checks that the rehearsal is isolated: its worker must not have the
// real key, and its unencrypted requests must not leave the loopback.
func TestComposeSandboxIsApart(t *testing.T) {
	t.Parallel()
	project := mustLoad(t, "sandbox")
	worker := project.Services["sandbox-worker"]
	if worker.NetworkMode != "service:sandbox" {
		t.Errorf("sandbox-worker has the network %q, want the sandbox's own", worker.NetworkMode)
	}
	if url := worker.Environment["CLERK_API_URL"]; url == nil || !strings.HasPrefix(*url, "http://127.0.0.1:8091/") {
		t.Errorf("sandbox-worker talks to %v", url)
	}
	for _, name := range []string{"sandbox", "sandbox-worker"} {
		for variable, value := range project.Services[name].Environment {
			if *value == secrets["CLERK_SECRET_KEY"] {
				t.Errorf("%s has the real key as %s", name, variable)
			}
		}
	}
	for _, port := range project.Services["sandbox"].Ports {
		if port.HostIP != "127.0.0.1" {
			t.Errorf("the sandbox is open to %q", port.HostIP)
		}
	}
}

func TestComposeOrderAndHealth(t *testing.T) {
	t.Parallel()
	project := mustLoad(t, "sandbox")
	for _, name := range []string{"postgres", "worker", "sandbox-worker"} {
		if check := project.Services[name].HealthCheck; check == nil || check.Disable || len(check.Test) == 0 {
			t.Errorf("%s has no health check", name)
		}
	}
	for _, edge := range []struct{ from, to, condition string }{
		{"migrate", "postgres", types.ServiceConditionHealthy},
		{"worker", "postgres", types.ServiceConditionHealthy},
		{"worker", "migrate", types.ServiceConditionCompletedSuccessfully},
		{"sandbox-worker", "migrate", types.ServiceConditionCompletedSuccessfully},
		{"sandbox-worker", "sandbox", types.ServiceConditionStarted},
	} {
		if got := project.Services[edge.from].DependsOn[edge.to].Condition; got != edge.condition {
			t.Errorf("%s waits for %s until %q, want %q", edge.from, edge.to, got, edge.condition)
		}
	}
	data := project.Services["postgres"].Volumes
	if len(data) != 1 || data[0].Type != types.VolumeTypeVolume || data[0].Source == "" {
		t.Errorf("postgres keeps its data in %+v, want one named volume", data)
	}
	if command := project.Services["worker"].Command; !slices.Equal(command, []string{"work", "--sweep-at", "0 2 * * *", "--tz", "UTC", "--metrics-listen", ":9090"}) {
		t.Errorf("the worker runs %q", command)
	}
}

// TestComposeLimits checks that the services of bulkinvite have a read-only file system and can't
// gain privileges, that each service but PostgreSQL has a memory limit, that each mounted file
// exists, and that each port is published on loopback only.
func TestComposeLimits(t *testing.T) {
	t.Parallel()
	for name, s := range mustLoad(t, "sandbox", "monitoring").Services {
		if s.Image == "bulkinvite" && (!s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true")) {
			t.Errorf("%s may write or gain rights", name)
		}
		if s.MemLimit == 0 && name != "postgres" {
			t.Errorf("%s has no limit of memory", name)
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is open to %q", name, port.HostIP)
			}
		}
	}
}
