package daemon

import (
	"context"
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/coordination/natsbus"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// TestKeysOfMembers: a signature counts while its machine is a member, and for the role whose key it is by.
func TestKeysOfMembers(t *testing.T) {
	dir := t.TempDir()
	keys, err := natsstore.EnsureKeys(dir, natsconf.Roles())
	if err != nil {
		t.Fatal(err)
	}
	s := memstore.New(memstore.Config{})
	commit := func(id string, put store.Put) {
		t.Helper()
		if _, err := s.Facts().Commit(t.Context(), store.Batch{ID: id, Puts: []store.Put{put}}); err != nil {
			t.Fatal(err)
		}
	}
	join := func(id string, roles ...natsconf.Role) {
		t.Helper()
		member := machine.Member{ID: id, Name: id, StoreKeys: map[string]string{}}
		for _, role := range roles {
			member.StoreKeys[string(role)] = keys[role]
		}
		value, err := json.Marshal(member)
		if err != nil {
			t.Fatal(err)
		}
		commit("join-"+id, store.Put{Key: store.Machine(id), Value: value})
	}
	join("m1", natsconf.RoleEdgeBus, natsconf.RoleCoordinatorBus)
	join("m2", natsconf.RoleEdgeBus) // added with --no-operate
	p := &Peering{view: s.View()}
	verified := func(by string, role natsconf.Role) bool {
		t.Helper()
		text := []byte("a text")
		signature, err := natsbus.Signer(natsstore.SeedFile(dir, role))(text)
		if err != nil {
			t.Fatal(err)
		}
		return p.verify(role)(context.Background(), by, text, signature) == nil
	}
	for _, c := range []struct {
		by   string
		role natsconf.Role
		want bool
	}{
		{"m1", natsconf.RoleCoordinatorBus, true}, {"m1", natsconf.RoleEdgeBus, true},
		{"m2", natsconf.RoleCoordinatorBus, false}, {"m2", natsconf.RoleEdgeBus, true},
		{"m3", natsconf.RoleCoordinatorBus, false}, {"", natsconf.RoleCoordinatorBus, false},
	} {
		if got := verified(c.by, c.role); got != c.want {
			t.Errorf("%s as %q: %t", c.role, c.by, got)
		}
	}
	commit("leave", store.Put{Key: store.Machine("m1"), Remove: true})
	if verified("m1", natsconf.RoleCoordinatorBus) {
		t.Error("a machine that was removed may still command")
	}
}

// TestMachineThatMayNotOperate commands nobody, and says why.
func TestMachineThatMayNotOperate(t *testing.T) {
	d := &Daemon{State: t.TempDir()}
	if _, err := natsstore.EnsureKeys(d.keys(), []natsconf.Role{natsconf.RoleEdgeBus}); err != nil {
		t.Fatal(err)
	}
	p, err := d.openPeering(machine.Identity{ID: "m2", Name: "m2"}, memstore.New(memstore.Config{}).View())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.MoveTo(machine.Identity{}); err != nil {
		t.Error(err)
	}
	if _, err := p.Calls.Call(t.Context(), "m1", coordination.Command{Verb: coordination.Ping}, nil); api.CodeOf(err) != api.CodePermission {
		t.Errorf("it commands: %v", err)
	}
	if p.Neighbours.Operator != nil || p.Neighbours.Machine == nil {
		t.Error("it must fetch as a member, and not operate")
	}
}

// TestListenBeforeTheAddress: the surface is there before ployz-net has given the machine its address.
func TestListenBeforeTheAddress(t *testing.T) {
	testenv.Require(t, testenv.Root)
	l, err := listenOverlay(netip.MustParseAddrPort("[fd00:1:2:3::1]:0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
