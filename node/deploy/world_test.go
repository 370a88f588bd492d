package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage/mempool"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// lab is a cluster of one machine in memory, with a deploy's real participant on it.
type lab struct {
	store   *memstore.Store
	runtime *memruntime.Runtime
	images  *memruntime.Images
	network *memruntime.Network
	pool    *mempool.Pool
	kit     deploy.Kit
	clock   *optest.Clock
	local   *deploy.Local
	// two is a second machine's participant; nil where there is none.
	two *deploy.Local
	far *mempool.Pool // the second machine's
	// says, when set, changes what the gateway and the resolver say of themselves.
	says func([]deploy.Consumer) []deploy.Consumer
	// listening is what else holds ports of the machine.
	listening map[string]string
}

func newLab(t testing.TB) *lab {
	t.Helper()
	clock := optest.NewClock()
	l := &lab{
		store:   memstore.New(memstore.Config{Clock: clock.Now}),
		runtime: memruntime.New(), images: memruntime.NewImages(), network: memruntime.NewNetwork(), clock: clock,
	}
	l.pool = newPool(l.runtime)
	for _, ref := range []string{"app:v1", "app:v2", "web:v1", "db:v1"} {
		l.images.Serve(ref, ref, runtime.ImageConfig{})
	}
	fences, err := coordination.OpenFences(filepath.Join(t.TempDir(), "fences.json"))
	if err != nil {
		t.Fatal(err)
	}
	l.local = &deploy.Local{
		Runtime: l.runtime, Images: l.images, Network: l.network, Console: l.runtime, Fences: fences, Pool: l.pool,
		Subnet:  deploy.Subnet{V4: netip.MustParsePrefix("10.101.1.0/24"), V6: netip.MustParsePrefix("fd00:1:2:1::/64")},
		Machine: l.observe, Serving: l.serving, Steady: time.Nanosecond,
	}
	l.kit = deploy.Kit{
		Facts: l.store.Facts(), Participants: alone{l.local}, Sealer: plainSealer{}, Log: l.store.Log(), Now: clock.Now,
		Settle: time.Millisecond, ApplyDeadline: 200 * time.Millisecond,
	}
	l.put(t, store.Machine("m1"), machine.Member{ID: "m1", Name: "m1", Recipient: "age1test"})
	return l
}

// newPool is a pool whose volumes are in use while an instance of the machine runs with them.
func newPool(r *memruntime.Runtime) *mempool.Pool {
	p := mempool.New("")
	p.Users = func(id string) string {
		all, err := r.List(context.Background())
		if err != nil {
			return err.Error()
		}
		for _, o := range all {
			if o.State == runtime.StateRunning && slices.ContainsFunc(o.Spec.Mounts, func(m runtime.Mount) bool { return m.Volume == id }) {
				return "instance " + o.ID
			}
		}
		return ""
	}
	return p
}

func (l *lab) put(t testing.TB, key store.Key, value any) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.store.Facts().Commit(context.Background(), store.Batch{ID: operation.NewID(), Puts: []store.Put{{Key: key, Value: text}}}); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) observe(context.Context) (deploy.Observation, error) {
	return deploy.Observation{Controllers: []string{"pids"}, CPUs: 4, MemoryBytes: 8 << 30, Listening: l.listening}, nil
}

func (l *lab) serving(ctx context.Context, ns string) ([]deploy.Consumer, error) {
	fact, err := l.store.Facts().Get(ctx, store.Route(ns))
	if err != nil && !store.IsNotFound(err) {
		return nil, err
	}
	list := []deploy.Consumer{{Name: "gateway", Revision: fact.Revision}, {Name: "dns", Revision: fact.Revision}}
	if l.says != nil {
		list = l.says(list)
	}
	return list, nil
}

// alone is a cluster of one.
type alone struct{ local *deploy.Local }

func (a alone) Participant(_ context.Context, name string) (deploy.Participant, error) {
	if name != "m1" {
		return nil, api.Errorf(api.CodeMachineSilent, "%s does not answer", name)
	}
	return a.local, nil
}

// plainSealer wraps instead of encrypting: age itself is tested where it is used.
type plainSealer struct{}

func (plainSealer) Seal(value []byte, recipients []string) ([]byte, error) {
	return fmt.Appendf(nil, "sealed(%s) to %v", value, recipients), nil
}

func (s plainSealer) Reseal(_ context.Context, sealed []byte, _ []string, ns, name string) ([]byte, string, error) {
	value, _, _ := strings.Cut(strings.TrimPrefix(string(sealed), "sealed("), ")")
	return sealed, s.Fingerprint(ns, name, []byte(value)), nil
}

func (plainSealer) Fingerprint(ns, name string, value []byte) string {
	return fmt.Sprintf("print-of-%s", value)
}

// run runs an operation as a daemon would.
func (l *lab) run(op operation.Operation) api.Outcome {
	return l.runner().Run(context.Background(), operation.Request{Operation: op, Caller: "root"})
}

func (l *lab) runner() *operation.Runner {
	leases := &coordination.Leases{Facts: l.store.Facts()}
	return &operation.Runner{
		Facts: l.store.Facts(), Log: l.store.Log(), Machine: "m1", Now: l.clock.Now, NewID: operation.NewID,
		Acquire: func(ctx context.Context, scope string, h coordination.Holder) (operation.Lease, error) {
			return leases.Acquire(ctx, scope, h)
		},
	}
}

func (l *lab) mustRun(t testing.TB, op operation.Operation) api.Outcome {
	t.Helper()
	out := l.run(op)
	if out.Outcome != api.Committed {
		t.Fatalf("%s ended %s: %v %v", op.Kind(), out.Outcome, out.Error, out.Leftovers)
	}
	return out
}

func (l *lab) current(t testing.TB, ns string) api.Commit {
	t.Helper()
	c, err := deploy.Current(context.Background(), l.store.Facts(), ns)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// suffix is the part of an instance id that comes from the operation's id.
var suffix = regexp.MustCompile(`((?:shop|try)-[a-z]+(?:-[0-9]+)?)-[a-z2-9]{6}`)

// noise are addresses, which come from instance ids, and numbers of commits and operations.
var noise = regexp.MustCompile(`10\.101\.[12]\.\d+|fd00:[0-9a-f:]+|"operation":"[^"]*"|"keptBy":"[^"]*",?|"commit":"?\d+"?|"number":\d+,|"parent":\d+,|"time":"[^"]*"|op-[0-9a-z]+-\d+|identity=[0-9a-f]+`)

// volumeNoise are ids of volumes, and times of facts about them.
var volumeNoise = regexp.MustCompile(`\bv[a-z2-9]{16}\b|"(created|kept|since|guid)":"[^"]*",?|"snapshot":"(c|op-[a-z0-9]+-)\d+",?`)

// commitSnapshot is a commit's snapshot as a pool's world tells it.
var commitSnapshot = regexp.MustCompile(`^(snapshot (\S+)/\S+ \S+) c(\d+) `)

// ofPresent leaves the snapshots of earlier commits out: how many there were differs between worlds that are the same now.
func (l *lab) ofPresent(world []string) []string {
	var lines []string
	for _, line := range world {
		m := commitSnapshot.FindStringSubmatch(line)
		if m == nil {
			lines = append(lines, line)
			continue
		}
		head := l.headOf(m[2])
		switch n, _ := strconv.Atoi(m[3]); { // digits by the pattern
		case n == head:
			lines = append(lines, m[1]+" of the present")
		case n > head:
			lines = append(lines, m[1]+" of a commit that never was")
		}
	}
	return lines
}

func (l *lab) headOf(ns string) int {
	var head struct{ Commit int }
	if fact, err := l.store.Facts().Get(context.Background(), store.Head(ns)); err == nil {
		_ = json.Unmarshal(fact.Value, &head) // the head is the kernel's own
	}
	return head.Commit
}

// snapshot is the world without ids: facts that say what is true now, and what is on the machine. Images
// stay out: pulling one is not undone, it is only a copy of what the registry has.
func (l *lab) snapshot() string {
	var lines []string
	for _, prefix := range []store.Key{"route", "host", "port", "machineport", "nsid", "head", store.Branches(), store.Volumes("shop"), store.Volumes("try")} {
		list, err := l.store.Facts().List(context.Background(), prefix)
		if err != nil {
			return err.Error()
		}
		for _, f := range list {
			lines = append(lines, volumeNoise.ReplaceAllString(string(f.Key)+" "+string(f.Value), ""))
		}
	}
	for _, ns := range []string{"shop", "try"} {
		if c, err := deploy.Current(context.Background(), l.store.Facts(), ns); err == nil {
			for name, v := range c.Volumes {
				v.Move = nil // once a migration is repeated, it is an earlier commit's
				c.Volumes[name] = v
			}
			text, _ := json.Marshal(c) // plain data
			lines = append(lines, "present "+volumeNoise.ReplaceAllString(string(text), ""))
		}
	}
	for _, line := range l.stored() {
		lines = append(lines, volumeNoise.ReplaceAllString(line, ""))
	}
	lines = slices.Concat(lines, l.runtime.World(), l.network.World())
	if l.two != nil {
		lines = slices.Concat(lines, l.two.Runtime.(*memruntime.Runtime).World(), l.two.Network.(*memruntime.Network).World())
	}
	for i, line := range lines {
		lines[i] = noise.ReplaceAllString(suffix.ReplaceAllString(line, "$1"), "")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// shop is a spec with everything that a release can have: layers, a job, a secret, a config, a route and a
// published port.
func shop(version string) api.Spec {
	return api.Spec{
		Namespace: "shop",
		Secrets:   map[string]api.Secret{"password": {Value: []byte("hunter2")}},
		Configs:   map[string]api.Config{"settings": {Content: []byte("colour = 'red'\n")}},
		Services: map[string]api.Service{
			"db": {Image: "db:v1", Files: []api.File{{Secret: "password", Target: "/run/secrets/password"}}},
			"migrate": {
				Image: "app:" + version, Job: &api.Job{When: "before"},
				DependsOn: map[string]api.Condition{"db": api.Ready},
			},
			"app": {
				Image: "app:" + version, Placement: api.Placement{Replicas: 2},
				Files:     []api.File{{Config: "settings", Target: "/etc/settings"}},
				DependsOn: map[string]api.Condition{"migrate": api.Completed},
				Routes:    []api.Route{{Host: "shop.test", Port: 8080}},
			},
			"web": {
				Image: "web:v1", Ports: []api.Port{{Published: 8081, Target: 80, Protocol: "tcp"}},
				DependsOn: map[string]api.Condition{"app": api.Ready},
			},
		},
	}
}
