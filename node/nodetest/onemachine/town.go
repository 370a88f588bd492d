package onemachine

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/load"
)

// Town is two services under load: web answers requests and lines, and peer keeps a connection
// to web, found by name, from workload to workload.
const Town = `name: site
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

// Outside is what a client outside asks for, 120 requests a second and a line that stays.
var Outside = load.Plan{
	HTTP: []load.HTTP{
		{Name: "http, fresh", URL: "http://m1/", Host: "site.test", Want: "version 1", Rate: 60, Fresh: true},
		{Name: "http, kept", URL: "http://m1/", Host: "site.test", Want: "version 1", Rate: 60},
	},
	TCP: []load.TCP{{Name: "tcp through the gateway", Address: "m1:7000", Every: 20 * time.Millisecond}},
}

// Calls is Outside without the line that stays, for what ends connections by its nature.
var Calls = load.Plan{HTTP: Outside.HTTP}

// Queries are for the resolver, which answers the machine itself and its workloads only.
func (m *Machine) Queries() load.Plan {
	var p load.Plan
	for _, server := range m.Status().DNS.Listen {
		for _, network := range []string{"udp", "tcp"} {
			p.DNS = append(p.DNS, load.DNS{Name: "dns, " + network + " " + server, Server: server, Network: network, Question: "web.site.ployz.internal", Rate: 10})
		}
	}
	return p
}

// DeployTown brings up the application that is put under load.
func (m *Machine) DeployTown() {
	m.t.Helper()
	m.Push("web:1", nil)
	m.MustDeploy(Town)
}

// Burden is all of the load that a machine is under.
type Burden struct {
	m               *Machine
	client, machine *labtest.Running
	peerBefore      load.Report
}

// Bear puts the machine under a plan from outside, and under Queries and what the workloads of
// Town ask each other.
func (m *Machine) Bear(outside load.Plan) *Burden {
	m.t.Helper()
	return &Burden{m: m, client: m.Load(labtest.Client, outside), machine: m.Load("m1", m.Queries()), peerBefore: m.peer()}
}

// peer asks the workload how its connection to the other fares.
func (m *Machine) peer() (r load.Report) {
	m.t.Helper()
	text := m.Run(labtest.Client, "curl", "-sS", "--max-time", "10", "-H", "Host: peer.test", "http://m1/peer")
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		m.t.Fatalf("%v\n%s", err, text)
	}
	return r
}

// PutDown ends the load and fails the test for every single request that was not answered.
func (b *Burden) PutDown() load.Report {
	b.m.t.Helper()
	after, sum, other := b.m.peer(), b.client.Stop(), b.machine.Stop()
	maps.Copy(sum.Counts, other.Counts)
	maps.Copy(sum.Counts, after.Counts)
	sum.Failures = slices.Concat(sum.Failures, other.Failures, after.Failures[len(b.peerBefore.Failures):])
	b.m.t.Logf("%d requests in %s, %d failed\n%s", sum.Asked(), sum.Took.Round(time.Second), sum.Failed(), sum)
	if sum.Failed() > 0 {
		b.m.t.Errorf("%d of %d requests failed", sum.Failed(), sum.Asked())
	}
	return sum
}
