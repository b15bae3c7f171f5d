package metrics

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// alertRules is the part of a file of rules that is looked at here.
type alertRules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert       string
			Expr        string
			For         string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

// exported lists the metrics that there are, by their names in queries.
func exported(t *testing.T) []string {
	t.Helper()
	name := regexp.MustCompile(`fqName: "([a-z_]+)"`)
	names := []string{"bulkinvite_build_info", "bulkinvite_clerk_requests_total", "bulkinvite_clerk_request_duration_seconds_bucket"}
	for _, d := range all {
		names = append(names, name.FindStringSubmatch(d.String())[1])
	}
	return names
}

// TestAlertsAndDashboardName only metrics that there are, and each alert has a
// line in the manual that says what to do.
func TestAlertsAndDashboardName(t *testing.T) {
	t.Parallel()
	var rules alertRules
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	manual := file(t, "../docs/operating.md")
	text := file(t, "../deploy/prometheus/alerts.yaml")
	if err := yaml.Unmarshal([]byte(text), &rules); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(file(t, "../deploy/grafana/bulkinvite.json")), &board); err != nil {
		t.Fatal(err)
	}
	queries := map[string]string{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			queries["alert "+r.Alert] = r.Expr
			if !strings.Contains(manual, "`"+r.Alert+"`") {
				t.Errorf("docs/operating.md does not say what to do about %s", r.Alert)
			}
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("%s says not how bad it is, or what", r.Alert)
			}
		}
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			queries["panel "+p.Title] += " " + target.Expr
		}
	}
	if len(queries) < 25 {
		t.Fatalf("only %d alerts and panels were found", len(queries))
	}
	names, metric := exported(t), regexp.MustCompile(`bulkinvite_[a-z_]+`)
	for where, query := range queries {
		used := metric.FindAllString(query, -1)
		if len(used) == 0 {
			t.Errorf("%s asks for nothing of ours", where)
		}
		for _, name := range used {
			if !slices.Contains(names, name) {
				t.Errorf("%s asks for %s, which there is not", where, name)
			}
		}
	}
}

func file(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
