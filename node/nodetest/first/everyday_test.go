package first_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// site is a small application: routes, a probe, a configuration and a secret.
const site = `name: site
services:
  web:
    image: web:1
    environment: {VERSION: "1"}
    configs: [{source: motd, target: /etc/motd}]
    secrets: [token]
    x-ployz:
      routes:
        - {host: site.test, port: 8080}
        - {tcp: 7000, port: 9000}
      ready: {http: {path: /healthz, port: 8080}, timeout: 30s}
configs:
  motd: {content: "motd of 1\n"}
secrets:
  token: {file: ./token}
`

// version is site with another answer and another configuration.
func version(v string) string {
	return strings.NewReplacer(`VERSION: "1"`, `VERSION: "`+v+`"`, "motd of 1", "motd of "+v).Replace(site)
}

// deploySite pushes what site needs, and deploys it.
func deploySite(m *onemachine.Machine) {
	m.Push("web:1", nil)
	m.File("token", "s3cret")
	m.MustDeploy(site)
}

// get asks the machine's gateway from the lab's client.
func get(m *onemachine.Machine, path string) labtest.Result {
	return m.Try(labtest.Client, "curl", "-sS", "--fail-with-body", "--max-time", "10", "-H", "Host: site.test", "http://m1"+path)
}

func wantPage(t *testing.T, m *onemachine.Machine, path, want string) {
	t.Helper()
	if r := get(m, path); r.Status != 0 || !strings.Contains(r.Out, want) {
		t.Errorf("http://m1%s answered %q %q, want %q in it", path, r.Out, r.Err, want)
	}
}

// instances are what `service ls` says of the only service of a namespace.
func instances(t *testing.T, m *onemachine.Machine, namespace string) []api.InstanceStatus {
	t.Helper()
	var list []api.ServiceStatus
	m.JSON(&list, "service", "ls", namespace)
	if len(list) != 1 {
		t.Fatalf("services of %s: %+v", namespace, list)
	}
	return list[0].Instances
}

func TestEveryday(t *testing.T) {
	m := onemachine.Found(t)
	deploySite(m)
	wantUp(t, m)
	for _, step := range []struct {
		name string
		test func(*testing.T, *onemachine.Machine)
	}{
		{"the gateway answers for it", gatewayAnswers},
		{"the resolver answers for it", resolverAnswers},
		{"service ls has the promised shape", serviceList},
		{"the gateway passes bytes", tcpRoute},
		{"logs", logs},
		{"exec", execInside},
		{"run", runOnce},
		{"stats", stats},
		{"scale", scale},
		{"restart", restart},
		{"history, diff and rollback", goBack},
		{"a deploy of the same changes nothing", deployAgain},
		{"rm", remove},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.test(t, m.In(t)) }) {
			t.FailNow() // the next builds on it
		}
	}
}

func gatewayAnswers(t *testing.T, m *onemachine.Machine) {
	wantPage(t, m, "/", "version 1 on")
	wantPage(t, m, "/file?path=/etc/motd", "motd of 1")
	wantPage(t, m, "/file?path=/run/secrets/token", "s3cret")
	r := m.Try(labtest.Client, "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: nobody.test", "http://m1/")
	if r.Out != "404" {
		t.Errorf("a host that nobody has: %s %s", r.Out, r.Err)
	}
}

func resolverAnswers(t *testing.T, m *onemachine.Machine) {
	want := instances(t, m, "site")[0].Addresses
	for _, server := range m.Status().DNS.Listen {
		for _, network := range []string{"udp", "tcp"} {
			for kind, address := range map[string]netip.Addr{"A": want[0], "AAAA": want[1]} {
				got := m.Run("m1", onemachine.AgentInside, "ask", network, server, "web.site.ployz.internal", kind)
				if got != address.String() {
					t.Errorf("%s at %s over %s: %q, want %s", kind, server, network, got, address)
				}
			}
		}
	}
	bridge := m.Status().Machine.Subnets[0].Addr().Next().String() + ":53"
	if list := strings.Join(m.Status().DNS.Listen, " "); !strings.Contains(list, bridge) || !strings.Contains(list, "127.0.0.55:53") {
		t.Errorf("the resolver listens on %s", list)
	}
}

// serviceList reads plain JSON, as another tool would.
func serviceList(t *testing.T, m *onemachine.Machine) {
	var list []map[string]any
	text := m.Must("service", "ls", "--json")
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v\n%s", err, text)
	}
	s := list[0]
	if s["namespace"] != "site" || s["service"] != "web" {
		t.Errorf("the service: %v", s)
	}
	all, _ := s["instances"].([]any)
	if len(all) != 1 {
		t.Fatalf("instances: %v", s["instances"])
	}
	in, _ := all[0].(map[string]any)
	id, _ := in["id"].(string)
	if in["machine"] != "m1" || in["unit"] != "ployz-workload@"+id+".service" || in["ready"] != true {
		t.Errorf("the instance: %v", in)
	}
	if a, _ := in["addresses"].([]any); len(a) != 2 {
		t.Errorf("its addresses: %v", in["addresses"])
	}
	if unit, _ := in["unit"].(string); m.Try("m1", "systemctl", "is-active", unit).Status != 0 {
		t.Errorf("the unit %s is not active", unit)
	}
}

func tcpRoute(t *testing.T, m *onemachine.Machine) {
	r := m.Try(labtest.Client, "sh", "-c", `exec 3<>/dev/tcp/m1/7000`)
	if r = m.Try(labtest.Client, "bash", "-c", `exec 3<>/dev/tcp/m1/7000; echo hello >&3; read -r -t 10 line <&3; echo "$line"`); r.Out != "hello\n" {
		t.Errorf("through the gateway's port 7000: %+v", r)
	}
}

func logs(t *testing.T, m *onemachine.Machine) {
	if got := m.Must("logs", "site"); !strings.Contains(got, "serving version 1") {
		t.Errorf("logs: %s", got)
	}
	cmd, cancel := m.Command("logs", "-f", "-n", "0", "site/web")
	defer cancel()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go scan(out, lines)
	m.Eventually("a followed line", func() bool {
		get(m, "/say?text=here+I+am")
		select {
		case line := <-lines:
			return strings.Contains(line, "here I am")
		default:
			return false
		}
	})
	cancel()
	cmd.Wait() // it was told to end
}

func execInside(t *testing.T, m *onemachine.Machine) {
	r := m.CtlWith("over standard input\n", "exec", "-i", "site/web", "--", "/agent", "echo", "err=aside", "exit=42")
	if r.Status != 42 || r.Out != "over standard input\n" || r.Err != "aside\n" {
		t.Errorf("exec: %+v", r)
	}
	if r := m.Ctl("exec", "site/web", "--", "/nothing"); r.Status != 127 || !strings.Contains(r.Err, string(api.CodeCommandAbsent)) {
		t.Errorf("exec of nothing: %+v", r)
	}
}

func runOnce(t *testing.T, m *onemachine.Machine) {
	before := m.World()
	r := m.Ctl("run", "-e", "MOOD=good", "site/web", "--", "/agent", "say=hello", "env=MOOD", "cat=/etc/motd")
	if r.Status != 0 || !strings.Contains(r.Out, "hello\nMOOD=good\nmotd of 1\n") {
		t.Errorf("run: %+v", r)
	}
	r = m.Ctl("run", "site/web", "--", "/agent", "say=oh no", "exit=3")
	if r.Status != 4 || !strings.Contains(r.Err, string(api.CodeJobFailed)) || !strings.Contains(r.Err, "ended with status 3") || !strings.Contains(r.Err, "oh no") {
		t.Errorf("a run that fails: %+v", r)
	}
	if diff := worldly(before, m.World()); diff != "" {
		t.Errorf("run left:\n%s", diff)
	}
}

// worldly leaves out what a run is meant to leave: the fact of the last one.
func worldly(before, after string) string {
	var out strings.Builder
	for line := range strings.Lines(onemachine.Differences(before, after)) {
		if !strings.Contains(line, "ns.site.run ") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func stats(t *testing.T, m *onemachine.Machine) {
	var list []api.InstanceStats
	m.JSON(&list, "stats", "site")
	if len(list) != 1 || list[0].Namespace != "site" || list[0].RxBytes <= 0 {
		t.Errorf("stats: %+v", list)
	}
	if text := m.Must("stats"); !strings.Contains(text, "site") {
		t.Errorf("stats: %s", text)
	}
}

func scale(t *testing.T, m *onemachine.Machine) {
	first := instances(t, m, "site")[0].ID
	m.Must("service", "scale", "site/web", "3")
	if now := instances(t, m, "site"); len(now) != 3 || now[0].ID != first {
		t.Errorf("three asked for, one of them %s: %+v", first, now)
	}
	seen := map[string]bool{}
	m.Eventually("requests to reach all three", func() bool {
		seen[get(m, "/").Out] = true
		return len(seen) == 3
	})
	m.Must("service", "scale", "site/web", "1")
	if now := instances(t, m, "site"); len(now) != 1 || now[0].ID != first {
		t.Errorf("one asked for: %+v", now)
	}
}

func restart(t *testing.T, m *onemachine.Machine) {
	before := instances(t, m, "site")[0]
	m.Must("service", "restart", "site/web")
	if after := instances(t, m, "site")[0]; after.ID == before.ID && after.PID == before.PID || !after.Ready {
		t.Errorf("before the restart %+v, after it %+v", before, after)
	}
	wantPage(t, m, "/", "version 1 on")
}

func goBack(t *testing.T, m *onemachine.Machine) {
	m.File("token", "changed")
	second := m.MustDeploy(version("2"))
	wantPage(t, m, "/", "version 2 on")
	wantPage(t, m, "/file?path=/run/secrets/token", "changed")
	var list []api.CommitSummary
	m.JSON(&list, "history", "site")
	if len(list) < 4 || !list[0].Current || list[0].Operation != second.Operation {
		t.Fatalf("history: %+v", list)
	}
	var differences []api.Difference
	m.JSON(&differences, "diff", "site", "1", second.Commit)
	if text, err := json.Marshal(differences); err != nil || !strings.Contains(string(text), "VERSION") {
		t.Errorf("diff: %s", text)
	}
	m.Must("rollback", "site")
	wantPage(t, m, "/", "version 1 on")
	wantPage(t, m, "/file?path=/etc/motd", "motd of 1")
	wantPage(t, m, "/file?path=/run/secrets/token", "s3cret")
	m.Must("rollback", "site")
	wantPage(t, m, "/", "version 2 on")
	m.Must("rollback", "site", "--to", "1")
	wantPage(t, m, "/", "version 1 on")
}

func deployAgain(t *testing.T, m *onemachine.Machine) {
	m.File("token", "s3cret")
	before := m.Starts("ployz-workload@*")
	m.MustDeploy(site)
	if after := m.Starts("ployz-workload@*"); after != before {
		t.Errorf("the same again restarted something:\n%s\n%s", before, after)
	}
}

func remove(t *testing.T, m *onemachine.Machine) {
	m.Must("rm", "site")
	if r := m.Try(labtest.Client, "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: site.test", "http://m1/"); r.Out != "404" {
		t.Errorf("after rm the gateway answers %s %s", r.Out, r.Err)
	}
	left := m.Script("m1", `ls /var/lib/ployz/workloads /run/ployz/netns; ip -brief link show type veth; ls /etc/systemd/system | grep workload@ || true`)
	if strings.Contains(left, "site") || strings.Contains(left, "workload@") {
		t.Errorf("rm left:\n%s", left)
	}
	if r := m.Ctl("history", "site"); r.Status != 0 && r.Status != 3 {
		t.Errorf("history after rm: %+v", r)
	}
}
