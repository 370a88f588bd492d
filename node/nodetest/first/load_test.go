package first_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/load"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// town is two services under load: web answers requests and lines, and peer keeps a connection
// to web, found by name, from workload to workload.
const town = `name: site
services:
  web:
    image: web:1
    environment: {VERSION: "1"}
    deploy: {replicas: 2}
    x-ployz:
      routes:
        - {host: site.test, port: 8080}
        - {tcp: 7000, port: 9000}
      ready: {http: {path: /healthz, port: 8080}, timeout: 30s}
  peer:
    image: web:1
    environment: {VERSION: peer, PEER: "web.site.ployz.internal:9000"}
    depends_on: {web: {condition: service_healthy}}
    x-ployz:
      routes: [{host: peer.test, port: 8080}]
      ready: {http: {path: /healthz, port: 8080}, timeout: 30s}
`

// fromClient is what a client outside asks for, 120 requests a second and a line that stays.
var fromClient = load.Plan{
	HTTP: []load.HTTP{
		{Name: "http, fresh", URL: "http://m1/", Host: "site.test", Want: "version 1", Rate: 60, Fresh: true},
		{Name: "http, kept", URL: "http://m1/", Host: "site.test", Want: "version 1", Rate: 60},
	},
	TCP: []load.TCP{{Name: "tcp through the gateway", Address: "m1:7000", Every: 20 * time.Millisecond}},
}

// calls is fromClient without the line that stays, for what ends connections by its nature.
var calls = load.Plan{HTTP: fromClient.HTTP}

// onMachine are queries to the resolver, which answers the machine itself and its workloads only.
func onMachine(m *onemachine.Machine) load.Plan {
	var p load.Plan
	for _, server := range m.Status().DNS.Listen {
		for _, network := range []string{"udp", "tcp"} {
			p.DNS = append(p.DNS, load.DNS{Name: "dns, " + network + " " + server, Server: server, Network: network, Question: "web.site.ployz.internal", Rate: 10})
		}
	}
	return p
}

// burden is all of the load that a machine is under.
type burden struct {
	t               *testing.T
	m               *onemachine.Machine
	client, machine *onemachine.Running
	peerBefore      load.Report
}

func bear(t *testing.T, m *onemachine.Machine, outside load.Plan) *burden {
	t.Helper()
	b := &burden{t: t, m: m, client: m.Load(labtest.Client, outside), machine: m.Load("m1", onMachine(m))}
	b.peerBefore = peer(t, m)
	return b
}

// peer asks the workload how its connection to the other fares.
func peer(t *testing.T, m *onemachine.Machine) (r load.Report) {
	t.Helper()
	text := m.Run(labtest.Client, "curl", "-sS", "--max-time", "10", "-H", "Host: peer.test", "http://m1/peer")
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return r
}

// putDown ends the load and fails the test for every single request that was not answered.
func (b *burden) putDown() load.Report {
	b.t.Helper()
	after := peer(b.t, b.m)
	sum := b.client.Stop()
	other := b.machine.Stop()
	maps.Copy(sum.Counts, other.Counts)
	maps.Copy(sum.Counts, after.Counts)
	sum.Failures = slices.Concat(sum.Failures, other.Failures, after.Failures[len(b.peerBefore.Failures):])
	b.t.Logf("%d requests in %s, %d failed\n%s", sum.Asked(), sum.Took.Round(time.Second), sum.Failed(), sum)
	if sum.Failed() > 0 {
		b.t.Errorf("%d of %d requests failed", sum.Failed(), sum.Asked())
	}
	return sum
}
