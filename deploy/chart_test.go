package deploy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// rendered reads a manifest that .ci/helm has rendered and holds equal to the chart.
func rendered(t *testing.T, name string) []document {
	t.Helper()
	return documents(t, read(t, "helm/rendered/"+name+".yaml"))
}

func find(t *testing.T, objects []document, kind, suffix string) document {
	t.Helper()
	for _, o := range objects {
		if o["kind"] == kind && strings.HasSuffix(at[string](o, "metadata", "name"), suffix) {
			return o
		}
	}
	t.Fatalf("no %s …%s", kind, suffix)
	return nil
}

// workloads are the objects that run each program, in both renderings.
var workloads = []struct{ manifest, kind, program string }{
	{"default", "Deployment", "replicator"},
	{"default", "Deployment", "decide"},
	{"everything", "Deployment", "replicator"},
	{"everything", "StatefulSet", "decide"},
}

// container is the only one of the workload's pods.
func container(workload document) document {
	return at[document](workload, "spec", "template", "spec", "containers", 0)
}

func environment(c document) map[string]string {
	env := map[string]string{}
	for _, e := range at[[]any](c, "env") {
		env[at[string](e, "name")] = at[string](e, "value")
	}
	return env
}

// TestChartProbes is about S53 and S55: a new pod counts only once it is ready, an old one stays until then, and no outage of a server behind restarts a pod.
func TestChartProbes(t *testing.T) {
	for _, w := range workloads {
		workload := find(t, rendered(t, w.manifest), w.kind, "-"+w.program)
		c := container(workload)
		for probe, path := range map[string]string{"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"} {
			if got := at[string](c, probe, "httpGet", "path"); got != path {
				t.Errorf("%s %s: %s asks for %q, want %q", w.manifest, w.program, probe, got, path)
			}
			if got := at[string](c, probe, "httpGet", "port"); got != "admin" {
				t.Errorf("%s %s: %s goes to port %q, want the admin port", w.manifest, w.program, probe, got)
			}
		}
		if w.kind == "Deployment" {
			if got, found := workload["spec"].(document)["strategy"].(document)["rollingUpdate"].(document)["maxUnavailable"].(int); !found || got != 0 {
				t.Errorf("%s %s: an old pod may leave before a new one is ready", w.manifest, w.program)
			}
		}
	}
}

// TestChartDrains is about S54: the pod's grace period outlasts the drain delay and the time for requests that still run, so nothing is cut off.
func TestChartDrains(t *testing.T) {
	for _, w := range workloads {
		if w.program != "decide" {
			continue
		}
		workload := find(t, rendered(t, w.manifest), w.kind, "-decide")
		var delay int
		if _, err := fmt.Sscanf(environment(container(workload))["DECIDE_DRAIN_DELAY"], "%ds", &delay); err != nil {
			t.Fatalf("%s: the drain delay: %v", w.manifest, err)
		}
		readiness := at[document](container(workload), "readinessProbe")
		notices := at[int](readiness, "periodSeconds") * at[int](readiness, "failureThreshold")
		grace := at[int](workload, "spec", "template", "spec", "terminationGracePeriodSeconds")
		if delay < notices {
			t.Errorf("%s: drains for %d s, but its readiness is noticed after %d s only", w.manifest, delay, notices)
		}
		if requests := 10; grace < delay+requests+5 { // what decide gives running requests, and some air
			t.Errorf("%s: grace period of %d s for a drain delay of %d s", w.manifest, grace, delay)
		}
	}
}

func TestChartPorts(t *testing.T) {
	for _, w := range workloads {
		objects := rendered(t, w.manifest)
		c := container(find(t, objects, w.kind, "-"+w.program))
		env := environment(c)
		for _, p := range at[[]any](c, "ports") {
			name := at[string](p, "name")
			if got, want := at[int](p, "containerPort"), ports[w.program+" "+name]; got != want {
				t.Errorf("%s %s: port %s is %d, want %d", w.manifest, w.program, name, got, want)
			}
		}
		// The kubelet is outside the pod, so the admin listener must not stay on loopback.
		if got, want := env[strings.ToUpper(w.program)+"_ADMIN_ADDR"], fmt.Sprintf("0.0.0.0:%d", ports[w.program+" admin"]); got != want {
			t.Errorf("%s %s: listens for probes on %q, want %q", w.manifest, w.program, got, want)
		}
		if service := find(t, objects, "Service", "-"+w.program+"-admin"); at[string](service, "spec", "ports", 0, "targetPort") != "admin" {
			t.Errorf("%s %s: the admin service leads elsewhere", w.manifest, w.program)
		}
		policy := find(t, objects, "NetworkPolicy", "-"+w.program)
		open := at[[]any](policy, "spec", "ingress")
		admin := open[len(open)-1]
		if at[int](admin, "ports", 0, "port") != ports[w.program+" admin"] || len(at[[]any](admin, "from")) == 0 {
			t.Errorf("%s %s: everyone may reach the admin port", w.manifest, w.program)
		}
	}
}

// TestChartSelects holds every selector to labels that the pods have, and pods of one program to selectors of that program.
func TestChartSelects(t *testing.T) {
	selectors := 0
	for _, w := range workloads {
		objects := rendered(t, w.manifest)
		labels := at[document](find(t, objects, w.kind, "-"+w.program), "spec", "template", "metadata", "labels")
		for _, o := range objects {
			if !strings.Contains(at[string](o, "metadata", "name"), "-"+w.program) {
				continue
			}
			for _, path := range [][]any{
				{"spec", "selector", "matchLabels"},
				{"spec", "podSelector", "matchLabels"},
				{"spec", "selector"},
				{"spec", "template", "spec", "topologySpreadConstraints", 0, "labelSelector", "matchLabels"},
			} {
				selector := at[document](o, path...)
				if selector == nil || selector["matchLabels"] != nil {
					continue
				}
				selectors++
				if selector["app.kubernetes.io/component"] != w.program {
					t.Errorf("%s: %s of %s selects %v", w.manifest, o["kind"], w.program, selector)
				}
				for key, value := range selector {
					if labels[key] != value {
						t.Errorf("%s: %s of %s wants the label %s=%v, the pods have %v", w.manifest, o["kind"], w.program, key, value, labels[key])
					}
				}
			}
		}
	}
	if selectors < 24 {
		t.Errorf("only %d selectors seen: this test no longer finds them", selectors)
	}
}

func TestChartIsHardened(t *testing.T) {
	for _, w := range workloads {
		pod := at[document](find(t, rendered(t, w.manifest), w.kind, "-"+w.program), "spec", "template", "spec")
		c := at[document](pod, "containers", 0)
		drop := at[[]any](c, "securityContext", "capabilities", "drop")
		switch {
		case !at[bool](pod, "securityContext", "runAsNonRoot"), at[int](pod, "securityContext", "runAsUser") == 0:
			t.Errorf("%s %s: runs as root", w.manifest, w.program)
		case !at[bool](c, "securityContext", "readOnlyRootFilesystem"):
			t.Errorf("%s %s: can write its root file system", w.manifest, w.program)
		case !slices.Equal(drop, []any{"ALL"}):
			t.Errorf("%s %s: drops %v", w.manifest, w.program, drop)
		case pod["automountServiceAccountToken"] != false:
			t.Errorf("%s %s: gets a token of the Kubernetes API", w.manifest, w.program)
		case at[string](c, "resources", "limits", "memory") == "":
			t.Errorf("%s %s: has no memory limit", w.manifest, w.program)
		}
		for name, value := range environment(c) {
			if strings.Contains(value, "://") {
				t.Errorf("%s %s: %s holds an address, which belongs into a secret", w.manifest, w.program, name)
			}
			if !isSetting(t, name) {
				t.Errorf("%s %s: no setting %s", w.manifest, w.program, name)
			}
			if file := strings.HasSuffix(name, "_FILE") || strings.HasSuffix(name, "_CA"); file && !isMounted(c, value) {
				t.Errorf("%s %s: %s is %s, which is on no volume", w.manifest, w.program, name, value)
			}
		}
	}
}

func isMounted(c document, path string) bool {
	return slices.ContainsFunc(at[[]any](c, "volumeMounts"), func(m any) bool { return strings.HasPrefix(path, at[string](m, "mountPath")+"/") })
}

// TestChartScales holds what acts on decide's workload to its kind and name.
func TestChartScales(t *testing.T) {
	for _, w := range workloads {
		if w.program != "decide" {
			continue
		}
		objects := rendered(t, w.manifest)
		workload := find(t, objects, w.kind, "-decide")
		target := at[document](find(t, objects, "HorizontalPodAutoscaler", "-decide"), "spec", "scaleTargetRef")
		if target["kind"] != w.kind || target["name"] != at[string](workload, "metadata", "name") {
			t.Errorf("%s: scales %v", w.manifest, target)
		}
		if _, fixed := workload["spec"].(document)["replicas"]; fixed {
			t.Errorf("%s: every upgrade would undo the scaling", w.manifest)
		}
	}
}

func TestSidecar(t *testing.T) {
	c := at[document](documents(t, read(t, "kubernetes/sidecar.yaml"))[0], "spec", "template", "spec", "containers", 0)
	if got := at[int](c, "ports", 0, "containerPort"); got != ports["replicator admin"] {
		t.Errorf("port %d", got)
	}
	for _, name := range []string{"REPLICATOR_POSTGRES_URL_FILE", "REPLICATOR_REDIS_URL_FILE"} {
		if path := environment(c)[name]; !isMounted(c, path) {
			t.Errorf("%s is %q, which is on no volume", name, path)
		}
	}
}

// TestManualInstallsTheChart holds the commands of docs/operations.md against the chart: the images that are pushed are those of the pods, and the secrets that
// are made have the keys that the pods mount. .ci/helm renders the command itself.
func TestManualInstallsTheChart(t *testing.T) {
	manual := read(t, "../docs/operations.md")
	for program, keys := range map[string]int{"replicator": 2, "decide": 1} {
		workload := find(t, rendered(t, "default"), "Deployment", "-"+program)
		image := at[string](container(workload), "image")
		if pushed := strings.Replace(image, "/"+program, "/$program", 1); !strings.Contains(manual, "docker push registry.example.com/"+pushed+"\n") {
			t.Errorf("the pods want %s, which nobody pushes", image)
		}
		mounted := 0
		for _, volume := range at[[]any](workload, "spec", "template", "spec", "volumes") {
			name := at[string](volume, "secret", "secretName")
			for _, item := range at[[]any](volume, "secret", "items") {
				mounted++
				key := at[string](item, "key")
				if !strings.Contains(manual, "create secret generic "+name+" ") || !strings.Contains(manual, "--from-literal="+key+"=") {
					t.Errorf("nobody makes the key %s of the secret %s", key, name)
				}
			}
		}
		if mounted != keys {
			t.Errorf("%s mounts %d keys of secrets, want %d", program, mounted, keys)
		}
	}
}
