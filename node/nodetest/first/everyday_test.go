package first_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// web is a small application: a route, a probe, a configuration and a secret.
const web = `name: site
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
  motd: {content: "first light\n"}
secrets:
  token: {file: ./token}
`

// version is web with another answer.
func version(v string) string { return strings.Replace(web, `VERSION: "1"`, `VERSION: "`+v+`"`, 1) }

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

func TestEveryday(t *testing.T) {
	m := onemachine.Found(t)
	m.Push("web:1", nil)
	m.File("token", "s3cret")
	if out := m.MustDeploy(web); out.Commit == "" || out.Operation == "" {
		t.Errorf("the outcome: %+v", out)
	}
	wantUp(t, m)
	step := func(name string, f func(*testing.T, *onemachine.Machine)) {
		t.Run(name, func(t *testing.T) { f(t, m.In(t)) })
	}
	step("gateway", func(t *testing.T, m *onemachine.Machine) {
		wantPage(t, m, "/", "version 1 on")
		wantPage(t, m, "/file?path=/etc/motd", "first light")
		wantPage(t, m, "/file?path=/run/secrets/token", "s3cret")
	})
	step("service ls", serviceList)
}

// serviceList checks the shape that other tools rely on, in plain JSON.
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
	instances, _ := s["instances"].([]any)
	if len(instances) != 1 {
		t.Fatalf("instances: %v", s["instances"])
	}
	in, _ := instances[0].(map[string]any)
	id, _ := in["id"].(string)
	if in["machine"] != "m1" || in["unit"] != "ployz-workload@"+id+".service" || in["ready"] != true {
		t.Errorf("the instance: %v", in)
	}
	if a, _ := in["addresses"].([]any); len(a) != 2 {
		t.Errorf("its addresses: %v", in["addresses"])
	}
}

var _ = api.Committed
