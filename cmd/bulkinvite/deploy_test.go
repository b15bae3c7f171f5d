package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"gopkg.in/yaml.v3"

	"bulkinvite/internal/must"
)

// TestDeployedCommandLines parses what the manifests and the compose file have
// the program do, so that no flag there is one that it does not have.
func TestDeployedCommandLines(t *testing.T) {
	t.Parallel()
	lines := map[string][]string{}
	type container struct {
		Name string
		Args []string
	}
	manifests, err := os.ReadFile("../../deploy/kubernetes/bulkinvite.yaml")
	must.OK(t, err)
	for d := yaml.NewDecoder(bytes.NewReader(manifests)); ; {
		type template struct {
			Spec struct{ Containers []container }
		}
		var doc struct {
			Kind string
			Spec struct {
				Template    template
				JobTemplate struct{ Spec struct{ Template template } } `yaml:"jobTemplate"`
			}
		}
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		must.OK(t, err)
		for _, c := range append(doc.Spec.Template.Spec.Containers, doc.Spec.JobTemplate.Spec.Template.Spec.Containers...) {
			lines[doc.Kind+" "+c.Name] = c.Args
		}
	}
	var compose struct {
		Services map[string]struct {
			Image   string
			Command []string
		}
	}
	text, err := os.ReadFile("../../docker-compose.yml")
	if err == nil {
		err = yaml.Unmarshal(text, &compose)
	}
	must.OK(t, err)
	for name, s := range compose.Services {
		if s.Image == "bulkinvite" {
			lines["service "+name] = s.Command
		}
	}
	if len(lines) < 8 {
		t.Fatalf("only %d command lines were found: %v", len(lines), lines)
	}
	for where, args := range lines {
		var c cli
		parser, err := newParser(&c, io.Discard)
		must.OK(t, err)
		if _, err := parser.Parse(args); err != nil || len(args) == 0 {
			t.Errorf("%s: bulkinvite %q: %v", where, args, err)
		}
	}
}
