package metrics

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/must"
)

// alertRules is the part of a file of rules that these tests read.
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

// told requests /metrics from a database with values for every metric, as Prometheus does. It
// returns the names of the metrics with their labels.
func told(t *testing.T) map[string]map[string]bool {
	t.Helper()
	pool, in := instance(t)
	exec(t, pool, `insert into river_job (args, kind, queue, state, max_attempts) values ('{}', 'invite', 'invite_' || $1::bigint, 'available', 1)`, in.ID)
	requests := NewRequests()
	requests.Answered(clerk.Answer{Call: "create", Class: clerk.Success, Sent: true})
	w := httptest.NewRecorder()
	Handler(New(pool, requests, config(in))).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	names := map[string]map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(bulkinvite_[a-z_]+)(?:\{(.*)\})? `).FindAllStringSubmatch(w.Body.String(), -1) {
		if names[m[1]] == nil {
			names[m[1]] = map[string]bool{}
		}
		for _, label := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(m[2], -1) {
			names[m[1]][label[1]] = true
		}
	}
	return names
}

// TestAlertsAndDashboardName checks that alerts and dashboard use only metrics that exist, and that
// the manual has a line for each alert that says what to do.
func TestAlertsAndDashboardName(t *testing.T) {
	t.Parallel()
	var rules alertRules
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	manual := file(t, "../../docs/monitoring.md")
	text := file(t, "../../deploy/prometheus/alerts.yaml")
	must.OK(t, yaml.Unmarshal([]byte(text), &rules))
	must.OK(t, json.Unmarshal([]byte(file(t, "../../deploy/grafana/bulkinvite.json")), &board))
	queries := map[string]string{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			queries["alert "+r.Alert] = r.Expr
			if !strings.Contains(manual, "`"+r.Alert+"`") {
				t.Errorf("docs/monitoring.md does not say what to do about %s", r.Alert)
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
	names, metric, label := told(t), regexp.MustCompile(`(bulkinvite_[a-z_]+)(?:\{([^}]*)\})?`), regexp.MustCompile(`([a-z_]+)=~?"([^"]*)"`)
	for where, query := range queries {
		used := metric.FindAllStringSubmatch(query, -1)
		if len(used) == 0 {
			t.Errorf("%s asks for nothing of ours", where)
		}
		for _, m := range used {
			has, ok := names[m[1]]
			if !ok {
				t.Errorf("%s asks for %s, which there is not", where, m[1])
			}
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				if !has[l[1]] {
					t.Errorf("%s asks for %s by %s, which it has not", where, m[1], l[1])
				}
				for answer := range strings.SplitSeq(l[2], "|") {
					if l[1] == "answer" && !isClass(answer) {
						t.Errorf("%s asks for answers that are %s, which none is", where, answer)
					}
				}
			}
		}
	}
}

func isClass(name string) bool {
	for c := clerk.Lost; c.String() != "unknown"; c++ {
		if c.String() == name {
			return true
		}
	}
	return false
}

// TestAlertsAreTried checks that alerts_test.yaml, which promtool runs, has for each alert a moment
// at which it fires and one at which it does not.
func TestAlertsAreTried(t *testing.T) {
	t.Parallel()
	var rules alertRules
	var tried struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	for path, into := range map[string]any{"alerts.yaml": &rules, "alerts_test.yaml": &tried} {
		must.OK(t, yaml.Unmarshal([]byte(file(t, "../../deploy/prometheus/"+path)), into))
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, one := range tried.Tests {
		for _, moment := range one.AlertRuleTest {
			if len(moment.ExpAlerts) > 0 {
				fires[moment.Alertname] = true
			} else {
				quiet[moment.Alertname] = true
			}
		}
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if !fires[r.Alert] || !quiet[r.Alert] {
				t.Errorf("%s: tried where it fires: %v, where it does not: %v", r.Alert, fires[r.Alert], quiet[r.Alert])
			}
		}
	}
}

func file(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must.OK(t, err)
	return string(text)
}
