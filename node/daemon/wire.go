package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/ployz/ployz/metrics"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/deploy/agebox"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime/oci"
	"github.com/ployz/ployz/node/runtime/runc"
	"github.com/ployz/ployz/node/services/systemd"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/filestore"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Daemon is ployzd on a machine with systemd. This file and its wire_ siblings are the one place
// that chooses implementations.
type Daemon struct {
	Settings Settings
	Log      *slog.Logger
	Version  string
	// State and Run are the folders of what boot needs and of what a reboot empties.
	State, Run string

	units   *systemd.Supervisor
	images  *oci.Store
	host    *host
	pool    *storage.Late
	founded *filestore.Store
	started time.Time
	process string // random: no other daemon's

	// background ends with Close; what follows the membership and serves the overlay lives in it.
	background context.Context
	stop       context.CancelFunc
	following  atomic.Pointer[membership]
	surface    *API

	member  atomic.Pointer[Member]
	store   atomic.Pointer[natsstore.Store]
	adopted atomic.Pointer[adoption]
	peering atomic.Pointer[Peering]
}

// Wire makes the parts that a machine has before it belongs to a cluster.
func (d *Daemon) Wire() error {
	d.started = time.Now()
	d.process = rand.Text()
	d.background, d.stop = context.WithCancel(context.Background())
	d.units = systemd.New()
	if err := os.MkdirAll(d.State, 0o755); err != nil {
		return api.Errorf(api.CodeInternal, "making the state folder: %w", err)
	}
	images, err := oci.Open(oci.Options{
		Root: filepath.Join(d.State, "images"), Insecure: d.Settings.Images.InsecureRegistries,
		ReserveBytes: 256 << 20, // the store's writes must not fail because of a pull
		InUse:        d.imageInUse,
	})
	if err != nil {
		return err
	}
	d.images = images
	d.host = &host{daemon: d}
	d.pool = &storage.Late{OpenPool: d.openPool}
	d.founded, err = filestore.Open(filepath.Join(d.State, "founding.journal"), time.Now)
	return err
}

// Join makes the parts that need the cluster's store, for the machine that the identity says this is.
func (d *Daemon) Join(self machine.Identity) error {
	opened, err := natsstore.Open(d.storeConfig(self))
	if err != nil {
		return err
	}
	box, err := agebox.Open(d.keys())
	if err != nil {
		return err
	}
	fences, err := coordination.OpenFences(filepath.Join(d.State, "fences.json"))
	if err != nil {
		return err
	}
	if before := d.peering.Swap(nil); before != nil { // joined again, as by a repeated init
		before.Close()
	}
	peering, err := d.openPeering(self, opened.View())
	if err != nil {
		return err
	}
	m, local := d.memberOf(self, opened, box, fences, peering)
	if before := d.store.Swap(opened); before != nil {
		before.Close()
	}
	d.member.Store(m)
	d.peering.Store(peering)
	if err := peering.Start(local, fences, d.verbs()); err != nil {
		return err
	}
	return d.follow(self, opened)
}

// follow begins to keep mesh and store configured as the facts say, and opens the threshold for joining machines.
func (d *Daemon) follow(self machine.Identity, opened *natsstore.Store) error {
	f := newMembership(d, opened.View())
	ctx, end := context.WithCancel(d.background)
	f.end = end
	before := d.following.Swap(f)
	go f.run(ctx)
	if before != nil { // the store was formed anew
		before.end()
		return nil
	}
	go d.serveThreshold(d.background, d.API(), self)
	go d.metrics().Run(d.background, func() (metrics.Place, error) {
		return metrics.Place{Overlay: self.Overlay, Cluster: self.Prefix}, nil
	})
	return nil
}

func (d *Daemon) memberOf(self machine.Identity, opened *natsstore.Store, box *agebox.Box, fences *coordination.Fences, peering *Peering) (*Member, *deploy.Local) {
	run := d.runtimeOf(self)
	local := &deploy.Local{
		Pool:    d.pool,
		Runtime: run, Images: d.images, Network: run.Network, Console: run, Fences: fences,
		Subnet:  deploy.Subnet{V4: self.Subnet4, V6: self.Subnet6},
		Machine: d.observe, Serving: d.serving, Peers: peering.Neighbours.Holders,
	}
	facts := &checkedFacts{Facts: opened.Facts(), check: opened.CheckSettings}
	fleet := peering.Fleet(local)
	kit := deploy.Kit{
		Facts: facts, Participants: fleet, Carriers: fleet, Sealer: sealer{box, d}, Log: opened.Log(), Now: time.Now,
	}
	kinds := DeployKinds(kit)
	machines := d.machineKit(self, facts)
	maps.Copy(kinds, MachineKinds(machines))
	kinds[api.KindStoreRepair] = KindOf(d.newRepair(machines), nil)
	maps.Copy(kinds, ImageKinds(ImageKit{Facts: facts, Images: d.images, Pruner: pruner{d, facts}, Machine: self.Name}))
	return &Member{
		Machine: self.Name, Runner: naming{d.runner(self.Name, facts, opened.Log()), d}, Kinds: kinds,
		Facts: facts, View: opened.View(), Ledger: opened.MirrorLog(), Dead: d.dead(self.Name),
		Instances: run, Console: run, Images: d.images, Volumes: d.pool, Missing: d.images.Missing, Seen: d.seenMachines(self),
		Elsewhere: peering.Neighbours, Store: storeSurface{d, self}, RoundTrips: d.roundTrips, TokenSeen: d.tokenSeen,
	}, local
}

func (d *Daemon) runtimeOf(self machine.Identity) *runc.Runtime {
	r := runc.New()
	r.State, r.Run = d.State, d.Run
	r.Units, r.Freezer = d.units, d.units
	r.Network = &network{daemon: d, self: self}
	r.Users = d.images.User
	r.Nameservers = resolvers(self)
	r.Domain = "ployz.internal"
	return r
}

// dead tells the leases of this machine's earlier daemons. There is one at a time, since the
// founding's journal is locked, so they are nobody's.
func (d *Daemon) dead(name string) func(coordination.Holder) bool {
	return func(h coordination.Holder) bool { return h.Machine == name && h.Process != d.process }
}

// runner coordinates operations from this machine.
func (d *Daemon) runner(name string, facts store.Facts, log store.Log) *operation.Runner {
	leases := &coordination.Leases{Facts: facts, Dead: d.dead(name)}
	return &operation.Runner{
		Facts: facts, Log: log, Machine: name, Now: time.Now, NewID: operation.NewID,
		Acquire: func(ctx context.Context, scope string, h coordination.Holder) (operation.Lease, error) {
			h.Process = d.process
			lease, err := leases.Acquire(ctx, scope, h)
			if err != nil {
				return nil, err
			}
			return lease, nil
		},
	}
}

// API is the daemon's surface.
func (d *Daemon) API() *API {
	if d.surface == nil {
		d.surface = d.newAPI()
	}
	return d.surface
}

func (d *Daemon) newAPI() *API {
	return &API{
		Version: d.version(),
		Status:  d.status, Doctor: d.doctor, Packages: d.shelf(), Update: d.versionHere,
		Founder: founder{d}, Founding: Kinds{
			api.KindMachineInit: KindOf(func(r api.InitRequest) operation.Operation {
				return machine.NewInit(d.host.asked(r.PoolRequest), foundingFacts{d.founded.Facts(), d}, d.withDefaults(r))
			}, nil),
			api.KindMachineJoin:  KindOf(d.newJoin, redactJoin),
			api.KindStoreRecover: KindOf(d.newRecover, nil),
			api.KindStoreReform:  KindOf(d.newReform, nil),
			api.KindStoreRestore: KindOf(d.newRestore, nil),
		},
		TakeBackup: d.takeBackup,
		Member:     d.member.Load, Log: d.Log,
	}
}

func (d *Daemon) withDefaults(r api.InitRequest) api.InitRequest {
	if r.CIDR == "" {
		r.CIDR = d.Settings.ClusterCIDR
	}
	if r.Name == "" {
		r.Name = hostName()
	}
	return r
}

func (d *Daemon) version() api.Version {
	v := api.Version{Version: d.Version, API: "v1"}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Go = info.GoVersion
	}
	return v
}

func (d *Daemon) keys() string { return filepath.Join(d.State, "keys") }

func (d *Daemon) storeConfig(self machine.Identity) natsstore.Config {
	seed := func(role natsconf.Role) string { return natsstore.SeedFile(d.keys(), role) }
	c := natsstore.Config{
		Machine: self.ID, Generation: self.Generation,
		CoordinatorSeed: seed(natsconf.RoleCoordinator), SystemSeed: seed(natsconf.RoleSystem),
		EdgeURL: "nats://" + natsconf.EdgeListen.String(), EdgeSeed: seed(natsconf.RoleLocal), EdgeSystemSeed: seed(natsconf.RoleLocalSystem),
	}
	c.CoreURLs = coreURLs(self)
	return c
}

// Close ends what the daemon holds open. Nothing that serves is among it.
func (d *Daemon) Close() error {
	d.stop()
	if peering := d.peering.Load(); peering != nil {
		peering.Close()
	}
	if opened := d.store.Load(); opened != nil {
		opened.Close()
	}
	d.units.Close()
	return errors.Join(d.images.Close(), d.founded.Close())
}
