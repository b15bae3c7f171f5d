package repository_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// TestKubernetesManifests decodes each manifest as Kubernetes does, with unknown fields as errors.
// It checks that the containers are restricted as the image permits: no root, a read-only file
// system, no new privileges, and a memory limit.
func TestKubernetesManifests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("deploy/kubernetes/bulkinvite.yaml")
	if err != nil {
		t.Fatal(err)
	}
	met, pods, kept := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		var head struct{ Kind string }
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatal(err)
		}
		met[head.Kind] = true
		var pod *corev1.PodSpec
		switch head.Kind {
		case "ConfigMap":
			read[corev1.ConfigMap](t, doc)
		case "Service":
			s := read[corev1.Service](t, doc)
			if s.Spec.Selector["part"] != "serve" {
				t.Errorf("the service leads to %v", s.Spec.Selector)
			}
		case "Job":
			j := read[batchv1.Job](t, doc)
			pod = &j.Spec.Template.Spec
		case "CronJob":
			c := read[batchv1.CronJob](t, doc)
			pod = &c.Spec.JobTemplate.Spec.Template.Spec
			if n := c.Spec.JobTemplate.Spec.BackoffLimit; n == nil || *n != 0 {
				t.Errorf("a sweep that is held would be tried again: %v", n)
			}
			if c.Spec.ConcurrencyPolicy != batchv1.ForbidConcurrent {
				t.Errorf("two sweeps may run at once: %q", c.Spec.ConcurrencyPolicy)
			}
		case "PodDisruptionBudget":
			kept[read[policyv1.PodDisruptionBudget](t, doc).Spec.Selector.MatchLabels["part"]] = true
		case "Deployment":
			d := read[appsv1.Deployment](t, doc)
			pods[d.Spec.Selector.MatchLabels["part"]] = true
			pod = &d.Spec.Template.Spec
			if pod.Containers[0].LivenessProbe == nil {
				t.Errorf("nobody sees when %s does not answer", d.Name)
			}
			for name, value := range d.Spec.Selector.MatchLabels {
				if d.Spec.Template.Labels[name] != value {
					t.Errorf("%s selects %s=%s, which its pods are not", d.Name, name, value)
				}
			}
			if d.Name == "bulkinvite-worker" && *pod.TerminationGracePeriodSeconds < 40 {
				t.Errorf("a worker has %d s to end", *pod.TerminationGracePeriodSeconds)
			}
		default:
			t.Errorf("%q was not looked at", head.Kind)
		}
		if pod != nil {
			hardened(t, pod)
		}
	}
	for part := range pods {
		if !kept[part] {
			t.Errorf("all pods that %s may be taken at once", part)
		}
	}
	for _, kind := range []string{"ConfigMap", "Job", "Deployment", "Service", "CronJob"} {
		if !met[kind] {
			t.Errorf("there is no %s", kind)
		}
	}
}

func read[T any](t *testing.T, doc []byte) T {
	t.Helper()
	var v T
	if err := yaml.UnmarshalStrict(doc, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func hardened(t *testing.T, pod *corev1.PodSpec) {
	t.Helper()
	if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil {
		t.Errorf("the pod of %s may be root, or call anything", pod.Containers[0].Name)
	}
	for _, c := range pod.Containers {
		s := c.SecurityContext
		if s == nil || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
			t.Errorf("%s may write or gain rights: %+v", c.Name, s)
		}
		if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
			t.Errorf("%s has no limit of memory, or asks for no CPU", c.Name)
		}
		for _, e := range c.Env {
			if e.Value != "" && strings.Contains(e.Name, "KEY") {
				t.Errorf("%s: %s is written in the file", c.Name, e.Name)
			}
		}
	}
}
