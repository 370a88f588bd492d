package daemon

import (
	"context"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/deploy/agebox"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/mesh"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// joining is a join with the door that it goes through, which is shut behind it.
type joining struct {
	*machine.Join
	door *door
}

// Close takes the joining device away.
func (j joining) Close() error { return j.door.Close() }

// newJoin makes this machine a member of a token's cluster.
func (d *Daemon) newJoin(r api.JoinRequest) operation.Operation {
	if r.Name == "" {
		r.Name = hostName()
	}
	through := &door{text: r.Token, daemon: d}
	ask := func(k machine.Keys) api.AdmitRequest {
		endpoints := r.Endpoints
		if len(endpoints) == 0 {
			endpoints = d.endpoints()
		}
		return api.AdmitRequest{
			Name: r.Name, Region: r.Region, Zone: r.Zone, Labels: r.Labels, MeshKey: k.Mesh, Recipient: k.Recipient,
			StoreKeys: k.Store, Endpoints: endpoints, Version: d.Version, Clock: time.Now(),
		}
	}
	return joining{machine.NewJoin(d.host.asked(r.PoolRequest), through, d.founded.Facts(), r, ask), through}
}

// redactJoin drops the token: it holds a private key.
func redactJoin(r api.JoinRequest) any {
	r.Token = ""
	return r
}

// Enter implements machine.Host.
func (h *host) Enter(_ context.Context, self machine.Identity, peers []api.MeshPeer) error {
	if err := self.Save(h.daemon.State); err != nil {
		return err
	}
	known, left := sift(mesh.Peer{Machine: self.Name, AllowedIPs: []netip.Prefix{self.Subnet4, self.Subnet6}}, peers)
	for _, e := range left {
		h.daemon.Log.Warn("a member is left out", "machine", e.Subject, "why", e.Message)
	}
	return h.saveMesh(h.daemon.meshOf(self, known))
}

// machineKit is what operations on memberships need.
func (d *Daemon) machineKit(self machine.Identity, facts store.Facts) machine.Kit {
	return machine.Kit{
		Facts: facts, Fleet: fleet{d, self}, Seats: seats{d}, Packages: packages{d, self}, Machine: self.Name, Version: d.Version, Now: time.Now,
		SealShared: d.sealShared,
		Holds:      func(ctx context.Context, name string) ([]string, error) { return deploy.HeldBy(ctx, facts, name) },
	}
}

// sealShared seals the fingerprint key, which this machine has from its cluster or made for it.
func (d *Daemon) sealShared(recipients []string) ([]byte, error) {
	key, err := agebox.SharedKey(d.keys())
	if err != nil {
		return nil, err
	}
	box, err := agebox.Open(d.keys())
	if err != nil {
		return nil, err
	}
	return box.Seal(key, recipients)
}

// takeShared takes the cluster's fingerprint key over; a lone founder's is its own.
func (d *Daemon) takeShared(ctx context.Context, view store.View) error {
	fact, err := view.Get(ctx, store.SharedKey())
	if store.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var shared machine.SealedKey
	if err := store.Decode(fact, &shared); err != nil {
		return err
	}
	key, err := agebox.Unseal(d.keys(), shared.Sealed)
	if err != nil {
		return err
	}
	return agebox.InstallSharedKey(d.keys(), key)
}

// restart ends this process; systemd starts the next, which reads anew who the machine is.
func (d *Daemon) restart() {
	if err := unix.Kill(os.Getpid(), unix.SIGTERM); err != nil {
		d.Log.Error("ending for a restart", "error", err)
	}
}

// selfName is this machine's name, for messages.
func (d *Daemon) selfName() string {
	self, err := machine.LoadIdentity(d.State)
	if err != nil {
		return hostName()
	}
	return self.Name
}
