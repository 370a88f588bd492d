package deploy

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/storage"
)

// mounting is a service that mounts volumes.
func mounting(s api.Service, volumes ...string) api.Service {
	for _, v := range volumes {
		s.Mounts = append(s.Mounts, api.Mount{Volume: v, Target: "/" + v})
	}
	return s
}

func TestPlacementOfVolumes(t *testing.T) {
	volumes := map[string]api.Volume{"data": {}, "more": {}, "own": {Scope: api.ScopeSlot}, "big": {SizeBytes: 10 << 30}}
	spec := func(services map[string]api.Service) api.Spec { return api.Spec{Services: services, Volumes: volumes} }
	web := func(s api.Service, volumes ...string) api.Spec {
		return spec(map[string]api.Service{"web": mounting(s, volumes...)})
	}
	two := api.Service{Placement: api.Placement{Replicas: 2}}
	on := func(machines ...string) api.Service { return api.Service{Placement: api.Placement{Machines: machines}} }
	is := func(name string, change func(c *candidate)) func(*candidate) {
		return func(c *candidate) {
			if c.member.Name == name {
				change(c)
			}
		}
	}
	role := func(r machine.Role) func(*candidate) { return func(c *candidate) { c.member.Role = r } }
	for _, c := range []struct {
		name      string
		spec      api.Spec
		had, pins map[string]string
		machines  []candidate
		want      string
	}{
		{"where the data is", web(api.Service{}, "data"), nil, map[string]string{"data": "m2"}, fleet(3, nil), "web-0@m2"},
		{"all of a service share", web(two, "data"), nil, nil, fleet(3, nil), "web-0@m1 web-1@m1"},
		{"each slot its own", web(two, "own"), nil, nil, fleet(3, nil), "web-0@m1 web-1@m2"},
		{"each slot where its own is", web(two, "own"), nil, map[string]string{"own.web-0": "m3", "own.web-1": "m3"}, fleet(3, nil), "web-0@m3 web-1@m3"},
		{"moves to its data", web(api.Service{}, "data"), map[string]string{"web-0": "m1"}, map[string]string{"data": "m2"}, fleet(2, nil), "web-0@m2"},
		{"a new volume comes to who is there", web(two, "data"), map[string]string{"web-0": "m2", "web-1": "m1"}, nil, fleet(2, nil), "web-0@m2 web-1@m2"},
		{"services share", spec(map[string]api.Service{"db": mounting(api.Service{}, "data"), "web": mounting(on("m3"), "data")}), nil, nil, fleet(3, nil), "db-0@m3 web-0@m3"},
		{"shared by a third", spec(map[string]api.Service{
			"db": mounting(api.Service{}, "data"), "job": mounting(api.Service{Job: &api.Job{When: "before"}}, "data", "more"), "web": mounting(on("m2"), "more"),
		}), nil, nil, fleet(3, nil), "db-0@m2 job@m2 web-0@m2"},
		{"no machine for both", spec(map[string]api.Service{"db": mounting(on("m1"), "data"), "web": mounting(on("m2"), "data")}), nil, nil, fleet(2, nil),
			"db-0@m1 ! web-0: no machine may take it (m1: not among the machines asked for; m2: the volume data, which it shares, comes to m1) (deploy.no-eligible-machine)"},
		{"data in two places", web(api.Service{}, "data", "more"), nil, map[string]string{"data": "m1", "more": "m2"}, fleet(2, nil),
			"! web-0: no machine may take it (m1: its volume more is on m2; m2: its volume data is on m1) (deploy.no-eligible-machine)"},
		{"its machine is disabled", web(api.Service{}, "data"), nil, map[string]string{"data": "m1"}, fleet(2, is("m1", role(machine.Disabled))),
			"! web-0: no machine may take it (m1: is disabled; m2: its volume data is on m1) (deploy.no-eligible-machine)"},
		{"its machine is excluded", web(on("m2"), "data"), nil, map[string]string{"data": "m1"}, fleet(2, nil),
			"! web-0: no machine may take it (m1: not among the machines asked for; m2: its volume data is on m1) (deploy.no-eligible-machine)"},
		{"stays while draining", web(api.Service{}, "data"), map[string]string{"web-0": "m1"}, map[string]string{"data": "m1"}, fleet(2, is("m1", role(machine.Draining))), "web-0@m1"},
		{"comes to its data while draining", web(api.Service{}, "data"), nil, map[string]string{"data": "m1"}, fleet(2, is("m1", role(machine.Draining))), "web-0@m1"},
		{"no pool", web(api.Service{}, "data"), nil, nil, fleet(2, is("m1", func(c *candidate) { c.stored.None = noPool() })), "web-0@m2"},
		{"no room", web(api.Service{}, "big"), nil, nil, fleet(2, is("m1", func(c *candidate) { c.stored.Usage = storage.Usage{SizeBytes: 20 << 30, FreeBytes: 5 << 30} })), "web-0@m2"},
		{"room is not asked of what is there", web(api.Service{}, "big"), nil, map[string]string{"big": "m1"},
			fleet(2, is("m1", func(c *candidate) { c.stored.Usage = storage.Usage{SizeBytes: 20 << 30, FreeBytes: 5 << 30} })), "web-0@m1"},
		{"one on every machine, and one volume", web(api.Service{Placement: api.Placement{Global: true}}, "data"), nil, nil, fleet(2, nil),
			"! services.web: it would run on 2 machines, and its volume data is on one (volume.several-machines)"},
		{"one on every machine, which is one", web(api.Service{Placement: api.Placement{Global: true, Machines: []string{"m2"}}}, "data"), nil, nil, fleet(2, nil), "web-m2@m2"},
	} {
		p := placeAll(c.spec, slots(c.had), c.machines, c.pins)
		if got := where(p); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
		for _, err := range p.errs {
			if len(c.pins) > 0 && !strings.Contains(err.Hint, "ployzctl machine show m") {
				t.Errorf("%s: the hint is %q", c.name, err.Hint)
			}
		}
	}
}

func TestSizeText(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1 << 20: "1 MiB", 3 << 29: "1.5 GiB", 10 << 40: "10 TiB", 5 << 50: "5120 TiB"} {
		if got := storage.SizeText(bytes); got != want {
			t.Errorf("%d is %s, want %s", bytes, got, want)
		}
	}
}
