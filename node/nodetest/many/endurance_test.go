package many_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/labtest"
	"github.com/ployz/ployz/node/nodetest/load"
	"github.com/ployz/ployz/node/nodetest/onemachine"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// How often what must never lose anything happens.
const (
	partitions = 20
	kills      = 200
)

// TestEndurance repeats, for an hour, what the other tests here do once.
func TestEndurance(t *testing.T) {
	testenv.Require(t, testenv.Long)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	m := found(t, dev.Options{Machines: 5})
	m.Push("web:1", nil)
	m.MustDeploy(homes(5))
	for _, s := range []step{
		{"of three voters any one is cut off", cutOff(random, 3)},
		{"of five voters any two are cut off", cutOff(random, 5)},
		{"store servers are killed anywhere", killed(random)},
	} { // none builds on another
		t.Run(s.says, func(t *testing.T) { s.test(t, m.In(t)) })
	}
}

// homes is a service of its own for each machine, with an instance there and nowhere else.
func homes(n int) string {
	text := strings.Builder{}
	text.WriteString("name: homes\nservices:\n")
	for _, host := range machines(n) {
		fmt.Fprintf(&text, `  at-%[1]s:
    image: web:1
    environment: {VERSION: "1"}
    x-ployz:
      placement: {machines: [%[1]s]}
      routes: [{host: %[1]s.test, port: 8080}]
      ready: {http: {path: /healthz, port: 8080}, timeout: 30s}
`, host)
	}
	return text.String()
}

// atHome asks each machine for what it has itself, which no partition takes away.
func atHome(hosts []string) (p load.Plan) {
	for _, host := range hosts {
		p.HTTP = append(p.HTTP, load.HTTP{Name: "page of " + host, URL: "http://" + host + "/", Host: host + ".test", Want: "version 1", Rate: 10, Fresh: true})
	}
	return p
}

// namesAtHome is for a machine's resolver, which answers the machine itself.
func namesAtHome(host string) load.Plan {
	return load.Plan{DNS: []load.DNS{{Name: "name at " + host, Server: "127.0.0.55:53", Question: "at-" + host + ".homes.ployz.internal", Rate: 10}}}
}

// cutOff makes a minority of a number of voters, each time another one; machines without a vote are on either side.
func cutOff(random *rand.Rand, voters int) func(*testing.T, *onemachine.Machine) {
	return func(t *testing.T, m *onemachine.Machine) {
		m.Must("store", "voters", fmt.Sprint(voters))
		for n := range partitions {
			s := divided(random, members(m), voters)
			t.Logf("partition %d: %v against %v", n+1, s.small, s.large)
			s.underQueries(t, m)
		}
	}
}

func (s split) underQueries(t *testing.T, m *onemachine.Machine) {
	var resolvers []*labtest.Running
	for _, host := range append(s.small, s.large...) {
		resolvers = append(resolvers, m.Load(host, namesAtHome(host)))
	}
	s.happens(t, m, atHome(append(s.small, s.large...)))
	for _, r := range resolvers {
		wantNoneFailed(t, r)
	}
}

// divided puts the smaller half of the voters on one side.
func divided(random *rand.Rand, list []api.MachineEntry, voters int) (s split) {
	random.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
	cut := voters / 2
	for _, x := range list {
		switch {
		case x.Voter && cut > 0, !x.Voter && random.IntN(2) == 0:
			s.small = append(s.small, x.Name)
		default:
			s.large = append(s.large, x.Name)
		}
		if !x.Voter {
			continue
		}
		if cut--; cut < 0 {
			s.missing = append(s.missing, x.Name)
		}
	}
	return s
}

// killed ends store servers without a warning while every machine writes. Some die while others come back.
func killed(random *rand.Rand) func(*testing.T, *onemachine.Machine) {
	return func(t *testing.T, m *onemachine.Machine) {
		const atOnce = 20
		m.Must("store", "voters", "5")
		running := m.Load(labtest.Client, atHome(machines(5)))
		for n := 0; n < kills; n += atOnce {
			var books []*scribe
			for _, host := range machines(5) {
				books = append(books, scribbleFrom(t, m, "book-"+host, n*10000, host))
			}
			for dead := 0; dead < atOnce; {
				host := machines(5)[random.IntN(5)]
				unit := []string{"ployz-nats", "ployz-nats-core"}[random.IntN(2)]
				if m.Try(host, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit).Status == 0 { // it was running
					dead++
				}
				time.Sleep(time.Duration(random.Int64N(int64(2 * time.Second)))) // any moment is a good one
			}
			m.Eventually("the cluster to write again", func() bool { return write(m, "after/kills").Status == 0 })
			var told [][]string
			for _, book := range books {
				told = append(told, book.end(t))
			}
			awaitAgreement(t, m, machines(5)...)
			for i, host := range machines(5) {
				wantKept(t, m.At(host), "book-"+host, told[i])
			}
		}
		wantNoneFailed(t, running)
	}
}
