package deploy_test

import (
	"context"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/mempool"
	"github.com/ployz/ployz/node/storage/transfer"
)

// carrying are machines as what carries volumes, by name, which is their id.
type carrying map[string]deploy.Carrier

func (c carrying) Carrier(_ context.Context, name string) (deploy.Carrier, error) {
	if c[name] == nil {
		return nil, api.Errorf(api.CodeMachineSilent, "no member of the cluster has that name").About(name)
	}
	return c[name], nil
}

// pair adds a second machine to a lab, and a wire between the pools of both.
func (l *lab) pair(t *testing.T) {
	t.Helper()
	l.second(t)
	l.local.Release, l.two.Release = 50*time.Millisecond, 50*time.Millisecond
	desks := map[string]*transfer.Desk{}
	l.kit.Carriers = carrying{}
	for name, local := range map[string]*deploy.Local{"m1": l.local, "m2": l.two} {
		desks[name] = &transfer.Desk{Pool: local.Pool, Dial: func(ctx context.Context, to, operation, volume string) (io.ReadWriteCloser, error) {
			if err := desks[to].Check(name, operation, volume); err != nil {
				return nil, err
			}
			here, there := net.Pipe()
			go desks[to].Answer(ctx, name, operation, volume, there) //nolint:errcheck // the other side says how it ended
			return here, nil
		}}
		l.kit.Carriers.(carrying)[name] = deploy.LocalCarrier{Carrier: desks[name], Fences: local.Fences}
	}
}

func (l *lab) pools() map[string]*mempool.Pool {
	if l.two == nil {
		return map[string]*mempool.Pool{"m1": l.pool}
	}
	return map[string]*mempool.Pool{"m1": l.pool, "m2": l.far}
}

// poolLine is a volume or a snapshot as a pool's world tells it: what, name, id, state or snapshot, and the rest.
var poolLine = regexp.MustCompile(`^(volume|snapshot) (\S+) (\S+) (\S+)( \[.*\])?`)

// stored is what the pools have. Copies that are kept are left out, whole ones are no harm and no use to anybody; so
// are what operations took for themselves and do not hold any more.
func (l *lab) stored() (lines []string) {
	facts, err := deploy.Volumes(context.Background(), l.store.Facts(), "shop")
	if err != nil {
		return []string{err.Error()}
	}
	for name, p := range l.pools() {
		isCopy := func(id string) bool {
			return slices.ContainsFunc(facts, func(f api.VolumeFact) bool { return f.ID == id && f.Machine != name })
		}
		var own []string
		for _, line := range p.World() {
			m := poolLine.FindStringSubmatch(line)
			switch taken := m[1] == "snapshot" && strings.HasPrefix(m[4], "op-"); {
			case taken && m[5] != " []":
				own = append(own, "snapshot "+m[2]+" is held by an operation")
			case taken, isCopy(m[3]) && m[4] != string(storage.StateLive):
			default:
				own = append(own, line)
			}
		}
		for _, line := range l.ofPresent(own) {
			if l.two != nil {
				line += " on " + name
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// guard fails the test when an instance starts with a volume that is not the one of its name on that machine alone, or
// that an instance of the other machine has open.
func (l *lab) guard(t *testing.T) {
	machines := map[string]*memruntime.Runtime{"m1": l.runtime, "m2": l.two.Runtime.(*memruntime.Runtime)}
	for name, r := range machines {
		r.SetFault(func(p memruntime.Point) error {
			if p.Call != "Start" || p.After {
				return nil
			}
			starting, err := r.Inspect(context.Background(), p.Subject)
			if err != nil {
				return err
			}
			for _, mount := range starting.Spec.Mounts {
				for other, pool := range l.pools() {
					v, err := pool.Inspect(context.Background(), mount.Volume)
					if live := err == nil && v.State == storage.StateLive; live != (other == name) {
						t.Errorf("%s starts on %s, and on %s its volume %s is %s, %v", p.Subject, name, other, mount.Volume, v.State, err)
					}
					if by := pool.Users(mount.Volume); other != name && by != "" {
						t.Errorf("%s starts on %s, and on %s %s has its volume %s", p.Subject, name, other, by, mount.Volume)
					}
				}
			}
			return nil
		})
	}
}

// onTwo is a shop that runs on m1, with a second machine beside it.
func onTwo(t *testing.T, l *lab) {
	statefulRuns(t, l)
	l.pair(t)
	l.guard(t)
}

// onTwoWithSpare has a volume besides that no release asks for.
func onTwoWithSpare(t *testing.T, l *lab) {
	statefulRuns(t, l)
	l.mustRun(t, l.create(api.VolumeCreateRequest{Name: "spare", SizeBytes: 64 << 20, Owner: &api.Owner{UID: 7, GID: 8}, Mode: 0o750}))
	l.pair(t)
	l.guard(t)
}

// moved is a shop whose database was moved to m2.
func moved(t *testing.T, l *lab) {
	onTwo(t, l)
	l.mustRun(t, deploy.NewMigrate(l.kit, toM2("db")))
}

func toM2(service string) api.MigrateRequest {
	return api.MigrateRequest{Namespace: "shop", Service: service, To: "m2"}
}

// migrations are the breakages of migrate: of all, of a service that takes others along, and back again.
func migrations() map[string]optest.Case {
	return map[string]optest.Case{
		"migrate":         on(onTwo, func(l *lab) operation.Operation { return deploy.NewMigrate(l.kit, toM2("")) }),
		"migrate/service": on(onTwo, func(l *lab) operation.Operation { return deploy.NewMigrate(l.kit, toM2("app")) }),
		"migrate/hold": on(onTwo, func(l *lab) operation.Operation {
			return deploy.NewMigrate(l.kit, api.MigrateRequest{Namespace: "shop", Service: "db", To: "m2", Hold: true})
		}),
		"migrate/unclaimed": withoutSpareMoment(on(onTwoWithSpare, func(l *lab) operation.Operation { return deploy.NewMigrate(l.kit, toM2("")) })),
		"migrate/back": on(moved, func(l *lab) operation.Operation {
			return deploy.NewMigrate(l.kit, api.MigrateRequest{Namespace: "shop", Service: "db", To: "m1"})
		}),
	}
}

var spareMoment = regexp.MustCompile(`(?m)^snapshot shop/spare .*\n`)

// withoutSpareMoment leaves out the commit's snapshot of what moved unclaimed: a migration that is repeated after its commit
// makes another commit, which takes none of what it does not ask for.
func withoutSpareMoment(c optest.Case) optest.Case {
	inner := c.New
	c.New = func(t *testing.T) *optest.World {
		w := inner(t)
		snapshot := w.Snapshot
		w.Snapshot = func() string { return spareMoment.ReplaceAllString(snapshot(), "") }
		return w
	}
	return c
}

// TestBreakMigrate breaks migrations everywhere.
func TestBreakMigrate(t *testing.T) {
	for name, c := range migrations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			optest.Exhaust(t, c)
		})
	}
}

// runningSlot names the machine that runs a slot, and whether it does.
func (l *lab) runningSlot(t *testing.T, slot string) (machineName string, runs bool) {
	t.Helper()
	is := l.current(t, "shop").Slots[slot]
	r := map[string]runtime.Runtime{"m1": l.runtime, "m2": l.two.Runtime}[is.Machine]
	o, err := r.Inspect(t.Context(), is.Instance)
	return is.Machine, err == nil && o.State == runtime.StateRunning
}
