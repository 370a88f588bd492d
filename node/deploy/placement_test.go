package deploy

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
)

// fleet is machines m1… with 4 CPUs and 8 GiB each, changed by name.
func fleet(n int, change func(c *candidate)) []candidate {
	machines := make([]candidate, n)
	for i := range machines {
		machines[i] = candidate{
			member: machine.Member{Name: fmt.Sprintf("m%d", i+1), Region: "eu", Zone: fmt.Sprintf("z%d", i+1)},
			seen:   Observation{CPUs: 4, MemoryBytes: 8 << 30},
		}
		if change != nil {
			change(&machines[i])
		}
	}
	return machines
}

func one(s api.Service) api.Spec { return api.Spec{Services: map[string]api.Service{"web": s}} }

// where renders a placement as "slot@machine …", and its errors.
func where(p placement) string {
	var words []string
	for _, name := range []string{"db", "job", "web"} {
		for _, c := range p.choices[name] {
			words = append(words, c.slot+"@"+c.machine)
		}
	}
	for _, err := range p.errs {
		words = append(words, "! "+err.Error())
	}
	return strings.Join(words, " ")
}

func slots(at map[string]string) map[string]api.Slot {
	had := map[string]api.Slot{}
	for slot, m := range at {
		had[slot] = api.Slot{Name: slot, Machine: m, Instance: "i-" + slot}
	}
	return had
}

func TestPlacement(t *testing.T) {
	set := func(name string, change func(c *candidate)) func(*candidate) {
		return func(c *candidate) {
			if c.member.Name == name {
				change(c)
			}
		}
	}
	role := func(r machine.Role) func(*candidate) { return func(c *candidate) { c.member.Role = r } }
	three := api.Service{Placement: api.Placement{Replicas: 3}}
	for _, c := range []struct {
		name     string
		spec     api.Spec
		had      map[string]string
		machines []candidate
		want     string
	}{
		{"one by default", one(api.Service{}), nil, fleet(2, nil), "web-0@m1"},
		{"zero", one(api.Service{Placement: api.Placement{Zero: true}}), nil, fleet(2, nil), ""},
		{"spread", one(three), nil, fleet(2, nil), "web-0@m1 web-1@m2 web-2@m1"},
		{"the emptiest first", one(api.Service{}), nil, fleet(2, set("m1", func(c *candidate) { c.held = 3 })), "web-0@m2"},
		{"a job", one(api.Service{Job: &api.Job{When: "before"}}), nil, fleet(1, nil), "web@m1"},
		{"stays", one(three), map[string]string{"web-0": "m2", "web-1": "m2"}, fleet(2, nil), "web-0@m2 web-1@m2 web-2@m1"},
		{"global", one(api.Service{Placement: api.Placement{Global: true}}), nil, fleet(3, set("m2", role(machine.Disabled))), "web-m1@m1 web-m3@m3"},
		{"global nowhere", one(api.Service{Placement: api.Placement{Global: true}}), nil, fleet(1, role(machine.Disabled)),
			"! web: no machine may take it (m1: is disabled) (deploy.no-eligible-machine)"},
		{"by name", one(api.Service{Placement: api.Placement{Machines: []string{"m3"}}}), nil, fleet(3, nil), "web-0@m3"},
		{"by zone", one(api.Service{Placement: api.Placement{Zones: []string{"z2"}}}), nil, fleet(3, nil), "web-0@m2"},
		{"by region", one(api.Service{Placement: api.Placement{Regions: []string{"us"}}}), nil, fleet(1, nil),
			`! web-0: no machine may take it (m1: region "eu" is not asked for) (deploy.no-eligible-machine)`},
		{"no longer by name", one(api.Service{Placement: api.Placement{Machines: []string{"m2"}}}), map[string]string{"web-0": "m1"}, fleet(2, nil), "web-0@m2"},
		{"a machine that left", one(api.Service{}), map[string]string{"web-0": "m9"}, fleet(2, nil), "web-0@m1"},
		{"off a draining machine", one(api.Service{}), map[string]string{"web-0": "m1"}, fleet(2, set("m1", role(machine.Draining))), "web-0@m2"},
		{"draining, and nowhere to go", one(api.Service{}), map[string]string{"web-0": "m1"}, fleet(1, role(machine.Draining)), "web-0@m1"},
		{"draining takes nothing new", one(api.Service{}), nil, fleet(1, role(machine.Draining)),
			"! web-0: no machine may take it (m1: is draining) (deploy.no-eligible-machine)"},
		{"disabled keeps nothing", one(api.Service{}), map[string]string{"web-0": "m1"}, fleet(1, role(machine.Disabled)),
			"! web-0: no machine may take it (m1: is disabled) (deploy.no-eligible-machine)"},
		{"silent", one(api.Service{}), nil, fleet(1, func(c *candidate) { c.silent = fmt.Errorf("no route") }),
			"! web-0: no machine may take it (m1: does not answer: no route) (deploy.no-eligible-machine)"},
		{"one port, one machine", one(api.Service{Placement: api.Placement{Replicas: 2}, Ports: []api.Port{{Published: 80}}}), nil, fleet(1, nil),
			"web-0@m1 ! web-1: no machine may take it (m1: already holds a slot that publishes the same port) (deploy.no-eligible-machine)"},
		{"a port added to two on one machine", one(api.Service{Placement: api.Placement{Replicas: 2}, Ports: []api.Port{{Published: 80}}}),
			map[string]string{"web-0": "m1", "web-1": "m1"}, fleet(2, nil), "web-0@m1 web-1@m2"},
		{"CPUs", one(api.Service{Placement: api.Placement{Replicas: 3}, Resources: api.Resources{ReserveCPUs: 2}}), nil, fleet(1, nil),
			"web-0@m1 web-1@m1 ! web-2: no machine may take it (m1: has 4.0 of 4.0 CPUs reserved) (deploy.no-eligible-machine)"},
		{"memory", one(api.Service{Resources: api.Resources{ReserveMemoryBytes: 3 << 30}}), nil, fleet(1, func(c *candidate) { c.reserved.memory = 6 << 30 }),
			"! web-0: no machine may take it (m1: has 6144 of 8192 MiB reserved) (deploy.no-eligible-machine)"},
		{"nothing reserved fits anywhere", one(api.Service{}), nil, fleet(1, func(c *candidate) { c.reserved.cpus = 9 }), "web-0@m1"},
		{"services share a machine's room", api.Spec{Services: map[string]api.Service{
			"db": {Resources: api.Resources{ReserveCPUs: 3}}, "web": {Resources: api.Resources{ReserveCPUs: 3}},
		}}, nil, fleet(1, nil), "db-0@m1 ! web-0: no machine may take it (m1: has 3.0 of 4.0 CPUs reserved) (deploy.no-eligible-machine)"},
		{"what stays counts before what is new", api.Spec{Services: map[string]api.Service{
			"db": {Resources: api.Resources{ReserveCPUs: 3}}, "web": {Resources: api.Resources{ReserveCPUs: 3}},
		}}, map[string]string{"web-0": "m1"}, fleet(2, nil), "db-0@m2 web-0@m1"},
		{"grown out of its machine", one(api.Service{Resources: api.Resources{ReserveCPUs: 5}}), map[string]string{"web-0": "m1"},
			fleet(2, set("m2", func(c *candidate) { c.seen.CPUs = 8 })), "web-0@m2"},
	} {
		if got := where(placeAll(c.spec, slots(c.had), c.machines, nil)); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestPlacementReasons(t *testing.T) {
	machines := fleet(9, func(c *candidate) {
		if c.member.Name != "m1" && c.member.Name != "m2" {
			c.member.Role = machine.Draining
		}
	})
	p := placeAll(one(api.Service{Placement: api.Placement{Replicas: 2}}), slots(map[string]string{"web-0": "m1"}), machines, nil)
	want := []string{
		"stays where it is",
		"fewest of its kind (0) among 2 eligible; not m3: is draining; not m4: is draining; not m5: is draining; not m6: is draining; not m7: is draining; and 2 more",
	}
	for i, c := range p.choices["web"] {
		if c.reason != want[i] {
			t.Errorf("%s: %s\nwant %s", c.slot, c.reason, want[i])
		}
	}
}

// TestSlotNamesCollide: a job has its service's name as its slot's.
func TestSlotNamesCollide(t *testing.T) {
	p := placeAll(api.Spec{Services: map[string]api.Service{"web": {}, "web-0": {Job: &api.Job{When: "before"}}}}, nil, fleet(1, nil), nil)
	if len(p.errs) != 1 || p.errs[0].Code != api.CodeSpecInvalid || !strings.Contains(p.errs[0].Message, "web-0") {
		t.Errorf("got %v", p.errs)
	}
}

// TestPlacementIsPure: the order in which machines are listed changes nothing, and nothing given is changed.
func TestPlacementIsPure(t *testing.T) {
	spec := api.Spec{Services: map[string]api.Service{
		"db": {Resources: api.Resources{ReserveCPUs: 1}}, "web": {Placement: api.Placement{Replicas: 7}},
	}}
	machines := fleet(5, nil)
	had := slots(map[string]string{"web-3": "m4"})
	want := where(placeAll(spec, had, machines, nil))
	for range 50 {
		shuffled := slices.Clone(machines)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if got := where(placeAll(spec, had, shuffled, nil)); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	for _, m := range machines {
		if m.held != 0 || m.reserved.cpus != 0 {
			t.Errorf("%s was changed: %+v", m.member.Name, m)
		}
	}
}
