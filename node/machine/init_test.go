package machine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// memHost is a machine in memory: which parts it has, and for whom.
type memHost struct {
	parts map[machine.Part]string
	self  *machine.Identity
	unfit []*api.Error
}

func newHost() *memHost { return &memHost{parts: map[machine.Part]string{}} }

func (h *memHost) Look(context.Context) ([]*api.Error, error) { return h.unfit, nil }

func (h *memHost) Pool(context.Context) (api.Change, error) {
	return api.Change{Action: "create", Subject: "pool", To: "loop", Reason: "the default"}, nil
}

func (h *memHost) Make(_ context.Context, part machine.Part, self machine.Identity) error {
	switch part {
	case machine.PartKeys:
		h.parts[part] = "made"
		return nil
	case machine.PartIdentity:
		h.self = &self
	}
	if h.self == nil || h.self.ID != self.ID {
		return fmt.Errorf("%s is made for %s, but the machine is %v", part, self.ID, h.self)
	}
	h.parts[part] = self.Name
	return nil
}

func (h *memHost) Enter(_ context.Context, self machine.Identity, peers []api.MeshPeer) error {
	if len(peers) == 0 {
		return errors.New("a machine that enters needs peers")
	}
	h.self, h.parts[machine.PartIdentity] = &self, self.Name
	return nil
}

func (h *memHost) Take(_ context.Context, part machine.Part, _ machine.Identity) error {
	if part == machine.PartIdentity {
		h.self = nil
	}
	delete(h.parts, part)
	return nil
}

func (h *memHost) Keys() (machine.Keys, error) {
	if h.parts[machine.PartKeys] == "" {
		return machine.Keys{}, nil
	}
	return keysOf(1), nil
}

func (h *memHost) Identity() (machine.Identity, error) {
	if h.self == nil {
		return machine.Identity{}, machine.NotInitialised()
	}
	return *h.self, nil
}

func (h *memHost) SetMember(self machine.Identity) error {
	self.Member = true
	h.self = &self
	return nil
}

// snapshot leaves out what is random: ids, addresses, keys.
func snapshot(h *memHost, s *memstore.Store) string {
	var lines []string
	for _, part := range slices.Sorted(maps.Keys(h.parts)) {
		lines = append(lines, "part "+string(part)+" "+h.parts[part])
	}
	if h.self != nil {
		lines = append(lines, fmt.Sprintf("self %s of %s member=%v", h.self.Name, h.self.ClusterName, h.self.Member))
	}
	return strings.Join(append(lines, picture(s)...), "\n")
}

// picture is what the facts say of machines, without what is random.
func picture(s *memstore.Store) []string {
	var lines []string
	for _, prefix := range []store.Key{store.Cluster(), store.Machines(), "machinename", "machinesubnet", store.Tokens()} {
		list, err := s.Facts().List(context.Background(), prefix)
		if err != nil {
			return []string{err.Error()}
		}
		for _, fact := range list {
			var said struct {
				Name, Role, Region, Admits string
				Voters                     []string
			}
			if err := json.Unmarshal(fact.Value, &said); err != nil {
				return []string{err.Error()}
			}
			key := string(fact.Key)
			if prefix == store.Machines() {
				key = "machine"
			}
			lines = append(lines, fmt.Sprintf("fact %s %s %s%s admits=%t voters=%d", key, said.Name, said.Role, said.Region, said.Admits != "", len(said.Voters)))
		}
	}
	return lines
}

var request = api.InitRequest{Name: "m1", ClusterName: "main", CIDR: "10.101.0.0/16"}

func TestBreakInit(t *testing.T) {
	t.Run(api.KindMachineInit, func(t *testing.T) {
		optest.Exhaust(t, optest.Case{New: func(*testing.T) *optest.World {
			h, clock := newHost(), optest.NewClock()
			s := memstore.New(memstore.Config{Clock: clock.Now})
			return &optest.World{
				Store: s, Clock: clock, Snapshot: func() string { return snapshot(h, s) },
				Operation: func() operation.Operation { return machine.NewInit(h, s.Facts(), request) },
			}
		}})
	})
}

func run(t *testing.T, h *memHost, s *memstore.Store, r api.InitRequest) api.Outcome {
	t.Helper()
	clock := optest.NewClock()
	leases := &coordination.Leases{Facts: s.Facts()}
	runner := &operation.Runner{
		Facts: s.Facts(), Log: s.Log(), Machine: "m1", Now: clock.Now, NewID: operation.NewID,
		Acquire: func(ctx context.Context, scope string, h coordination.Holder) (operation.Lease, error) {
			return leases.Acquire(ctx, scope, h)
		},
	}
	return runner.Run(t.Context(), operation.Request{Operation: machine.NewInit(h, s.Facts(), r), Caller: "root"})
}

func TestInitRefusals(t *testing.T) {
	taken := api.Errorf(api.CodeMachinePortTaken, "nginx holds it").About("port 80/tcp")
	lacking := api.Errorf(api.CodeMachineUnfit, "the kernel has none").About("overlayfs")
	for name, c := range map[string]struct {
		request api.InitRequest
		unfit   []*api.Error
		want    api.Code
		about   string
	}{
		"a name with capitals": {api.InitRequest{Name: "M1"}, nil, api.CodeBadRequest, "--name"},
		"no name":              {api.InitRequest{}, nil, api.CodeBadRequest, "--name"},
		"a public range":       {api.InitRequest{Name: "m1", CIDR: "8.8.0.0/16"}, nil, api.CodeBadRequest, "--cidr"},
		"too small a range":    {api.InitRequest{Name: "m1", CIDR: "10.0.0.0/24"}, nil, api.CodeBadRequest, "--cidr"},
		"not a range":          {api.InitRequest{Name: "m1", CIDR: "ten"}, nil, api.CodeBadRequest, "--cidr"},
		"one unmet need":       {request, []*api.Error{taken}, api.CodeMachinePortTaken, "port 80/tcp"},
		"two unmet needs":      {request, []*api.Error{taken, lacking}, api.CodeUnmet, "cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			h, s := newHost(), memstore.New(memstore.Config{})
			h.unfit = c.unfit
			out := run(t, h, s, c.request)
			if out.Outcome != api.Refused || out.Error.Code != c.want || out.Error.Subject != c.about {
				t.Errorf("got %s: %v", out.Outcome, out.Error)
			}
			if got := snapshot(h, s); got != "" {
				t.Errorf("a refused init left:\n%s", got)
			}
		})
	}
}

func TestInitTwice(t *testing.T) {
	h, s := newHost(), memstore.New(memstore.Config{})
	if out := run(t, h, s, request); out.Outcome != api.Committed {
		t.Fatalf("the first init ended %s: %v", out.Outcome, out.Error)
	}
	before := snapshot(h, s)
	out := run(t, h, s, request)
	if out.Outcome != api.Refused || out.Error.Code != api.CodeMachineInitialised {
		t.Errorf("the second init ended %s: %v", out.Outcome, out.Error)
	}
	if after := snapshot(h, s); after != before {
		t.Errorf("the second init changed\n%s\nto\n%s", before, after)
	}
}
