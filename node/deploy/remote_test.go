package deploy_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/coordination/membus"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// wired puts a participant on a bus in memory, as machine id, and returns m1's way to it.
func wired(t *testing.T, bus *membus.Bus, id string, p deploy.Participant) *coordination.Calls {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	fences, err := coordination.OpenFences(filepath.Join(t.TempDir(), "fences.json"))
	if err != nil {
		t.Fatal(err)
	}
	replies, err := coordination.OpenReplies(filepath.Join(t.TempDir(), "replies"))
	if err != nil {
		t.Fatal(err)
	}
	const beat = 100 * time.Millisecond
	r := &coordination.Responder{
		Machine: id, Fences: fences, Replies: replies, Verbs: deploy.Serve(p), Log: slog.New(slog.DiscardHandler), Beat: beat,
		Verify: func(_ context.Context, sender string, text, signature []byte) error {
			if sender != "m1" || !ed25519.Verify(public, text, signature) {
				return errors.New("a stranger")
			}
			return nil
		},
	}
	t.Cleanup(bus.Listen(id, r.Receive))
	return &coordination.Calls{
		Machine: "m1", Wire: bus, Beat: beat, Sign: func(text []byte) ([]byte, error) { return ed25519.Sign(private, text), nil },
	}
}

var anyGUID = regexp.MustCompile(`(?i)"guid":"[^"]*"`)

// TestRemoteIsLocal runs one script against a machine itself and against the same machine over the bus: nobody can
// tell the difference.
func TestRemoteIsLocal(t *testing.T) {
	local, remote := newLab(t), newLab(t)
	calls := wired(t, &membus.Bus{}, "m1", remote.local)
	here := script(t, local, local.local)
	there := script(t, remote, &deploy.Remote{Machine: "m1", Caller: calls})
	for _, lines := range [][]string{here, there} { // a snapshot's GUID is like no other
		for i := range lines {
			lines[i] = anyGUID.ReplaceAllString(lines[i], "")
		}
	}
	for i := range max(len(here), len(there)) {
		if i >= len(here) || i >= len(there) || here[i] != there[i] {
			t.Fatalf("they part at line %d:\nhere\n%s\nthere\n%s", i, strings.Join(here[min(i, len(here)):], "\n"), strings.Join(there[min(i, len(there)):], "\n"))
		}
	}
	if !slices.Equal(local.runtime.World(), remote.runtime.World()) {
		t.Errorf("the machines differ:\n%v\n%v", local.runtime.World(), remote.runtime.World())
	}
}

// ownGUID is of one machine's snapshot and no other.
var ownGUID = regexp.MustCompile(`"(GUID|guid)":"[^"]+",?`)

// transcript writes down what a participant answers.
type transcript []string

func (s *transcript) add(what string, value any, err error) {
	text, encodeErr := json.Marshal(value)
	failure, failureErr := json.Marshal(api.AsError(err))
	text = ownGUID.ReplaceAll(text, nil)
	*s = append(*s, fmt.Sprintf("%s: %s %s %v", what, text, failure, errors.Join(encodeErr, failureErr)))
}

func script(t *testing.T, l *lab, p deploy.Participant) []string {
	t.Helper()
	var s transcript
	ctx := t.Context()
	by := func(step string) deploy.Fenced {
		return deploy.Fenced{Operation: "op1", Step: step, Scope: "ns/shop", Fence: 5}
	}
	l.listening = map[string]string{"tcp/25": "exim4 (pid 812)"}
	l.runtime.Program = program
	spec := runtime.Spec{ID: "shop-app-0", Namespace: "shop", NamespaceID: 7, Service: "app", Slot: "app-0", Image: "app:v1"}
	found, err := p.Resolve(ctx, deploy.Query{Reference: "app:v1"})
	s.add("resolve", found, err)
	spec.Digest = found.Digest
	_, err = p.Resolve(ctx, deploy.Query{Reference: "gone:v1", Auth: &runtime.RegistryAuth{Username: "ann"}})
	s.add("resolve what is not there", nil, err)
	_, err = p.Launch(ctx, by("too early"), spec)
	s.add("launch without its image", nil, err)
	s.add("image", nil, p.EnsureImage(ctx, by("pull"), "app:v1@"+found.Digest, runtime.Pull{Progress: func(string, int64, int64) {}}))
	found, err = p.Resolve(ctx, deploy.Query{Reference: "app:v1"})
	s.add("resolve again", found, err)
	for range 2 {
		addrs, err := p.Launch(ctx, by("launch"), spec)
		s.add("launch", addrs, err)
	}
	s.add("await", nil, p.Await(ctx, spec, nil))
	s.scriptVolumes(ctx, p, by, spec)
	s.scriptJobs(ctx, p, spec)
	s.scriptActions(ctx, p, l, spec)
	return s
}

// program is what the script's instances do: a job named "bad" fails, one named "long" does not end.
func program(spec runtime.Spec) memruntime.Program {
	switch spec.Slot {
	case "bad":
		return memruntime.Program{Lines: []string{"one", "two"}, Ends: true, ExitCode: 3}
	case "long":
		return memruntime.Program{Lines: []string{"still at it"}}
	}
	return memruntime.Program{Ends: spec.Job}
}

// scriptClones ends with the volume live again that was at first.
func (s *transcript) scriptClones(ctx context.Context, p deploy.Participant, by func(string) deploy.Fenced, spec storage.Spec, taken []storage.Snapshot) {
	seen, err := p.ListSnapshots(ctx, []string{"v9", spec.ID})
	for i := range seen[spec.ID] {
		seen[spec.ID][i].Created = time.Time{}
	}
	s.add("snapshots", seen, err)
	order := deploy.CloneOrder{Volume: spec.ID, Snapshot: taken[0].Name, As: spec, Kept: true}
	order.As.ID = "v3"
	for range 2 {
		v, err := p.CloneVolume(ctx, by("clone"), order)
		v.Created = time.Time{}
		s.add("clone", v, err)
	}
	other := order
	other.Snapshot = "another"
	_, err = p.CloneVolume(ctx, by("clone of another"), other)
	s.add("clone of another", nil, err)
	_, err = p.CloneVolume(ctx, deploy.Fenced{Operation: "op0", Step: "clone", Scope: "ns/shop", Fence: 1}, order)
	s.add("clone, too late", nil, err)
	for n, a := range []deploy.Action{
		{Verb: "swap-volume", Volume: "v3", Out: spec.ID}, {Verb: "swap-volume", Volume: "v3", Out: spec.ID},
		{Verb: "swap-back-volume", Volume: "v3", Out: spec.ID}, {Verb: "swap-back-volume", Volume: "v3", Out: spec.ID},
		{Verb: "retire-volume", Volume: spec.ID}, {Verb: "swap-back-volume", Volume: "v3", Out: spec.ID}, // cut short between two renames
	} {
		s.add(a.Verb, nil, p.Act(ctx, by(fmt.Sprint(a.Verb, n)), a))
	}
}

func (s *transcript) scriptVolumes(ctx context.Context, p deploy.Participant, by func(string) deploy.Fenced, spec runtime.Spec) {
	mounts := spec
	mounts.ID, mounts.Mounts = "shop-db-0", []runtime.Mount{{Volume: "v1", Target: "/data"}}
	_, err := p.Launch(ctx, by("launch before its volume"), mounts)
	s.add("launch before its volume", nil, err)
	v, err := p.EnsureVolume(ctx, by("volume"), storage.Spec{ID: "v1", Namespace: "shop", Name: "data", SizeBytes: 8 << 20, Owner: &storage.Owner{UID: 5}})
	v.Created = time.Time{}
	s.add("volume", v, err)
	_, err = p.EnsureVolume(ctx, by("another of the name"), storage.Spec{ID: "v2", Namespace: "shop", Name: "data"})
	s.add("another of the name", nil, err)
	_, err = p.EnsureVolume(ctx, deploy.Fenced{Operation: "op0", Step: "volume", Scope: "ns/shop", Fence: 1}, v.Spec)
	s.add("volume, too late", nil, err)
	taken, err := p.SnapshotVolumes(ctx, by("snapshot"), deploy.SnapshotOrder{Name: "c1", Volumes: []string{"v1"}, Tag: "commit"})
	for i := range taken {
		taken[i].Created = time.Time{}
	}
	s.add("snapshot", taken, err)
	_, err = p.SnapshotVolumes(ctx, by("snapshot of nothing"), deploy.SnapshotOrder{Name: "c1", Volumes: []string{"v9"}, Tag: "commit"})
	s.add("snapshot of nothing", nil, err)
	s.scriptClones(ctx, p, by, v.Spec, taken)
	_, err = p.Launch(ctx, by("launch with its volume"), mounts)
	s.add("launch with its volume", nil, err)
	for _, a := range []deploy.Action{
		{Verb: "retire-volume", Volume: "v1"}, {Verb: "restore-volume", Volume: "v1"}, {Verb: "restore-volume", Volume: "v9"},
		{Verb: "destroy-volume", Volume: "v1", Maker: "op1"}, {Verb: "forget-snapshots", Volumes: []string{"v1", "v9"}, Snapshot: "c1"},
	} {
		s.add(a.Verb, nil, p.Act(ctx, by(a.Verb+" "+a.Volume), a))
	}
	stored, err := p.Stored(ctx, "shop")
	for i := range stored.Volumes {
		stored.Volumes[i].Created = time.Time{}
	}
	s.add("stored", stored, err)
}

func (s *transcript) scriptJobs(ctx context.Context, p deploy.Participant, spec runtime.Spec) {
	for _, slot := range []string{"good", "bad", "long"} {
		job := spec
		job.ID, job.Slot, job.Job = "shop-"+slot, slot, true
		addrs, err := p.Launch(ctx, deploy.Fenced{Operation: "op1", Step: slot, Scope: "ns/shop", Fence: 5}, job)
		s.add("launch "+slot, addrs, err)
		bounded, stop := context.WithTimeout(ctx, 300*time.Millisecond)
		s.add("await "+slot, nil, p.Await(bounded, job, nil))
		stop()
	}
}

func (s *transcript) scriptActions(ctx context.Context, p deploy.Participant, l *lab, spec runtime.Spec) {
	act := func(step string, fence store.Revision, a deploy.Action) {
		by := deploy.Fenced{Operation: fmt.Sprint("op", fence), Step: step, Scope: "ns/shop", Fence: fence}
		s.add(step, nil, p.Act(ctx, by, a))
	}
	act("stop", 5, deploy.Action{Verb: "stop", Instance: spec.ID})
	act("start", 5, deploy.Action{Verb: "start", Instance: spec.ID})
	act("publish", 5, deploy.Action{Verb: "publish", Namespace: "shop", Ports: map[string][]api.Port{spec.ID: {{Published: 80, Target: 8080, Protocol: "tcp"}}}})
	act("nonsense", 5, deploy.Action{Verb: "dance"})
	act("start what is not there", 5, deploy.Action{Verb: "start", Instance: "shop-gone"})
	act("fence", 9, deploy.Action{Verb: "fence"})
	act("too late", 5, deploy.Action{Verb: "stop", Instance: spec.ID})
	act("retire", 9, deploy.Action{Verb: "retire", Instance: "shop-bad"})
	seen, err := p.Observe(ctx)
	for i := range seen.Instances {
		seen.Instances[i].Started = time.Time{}
	}
	s.add("observe", seen, err)
	l.says = func(list []deploy.Consumer) []deploy.Consumer {
		list[0].InFlight = map[string]int{spec.ID: 2}
		list[1].Err = api.Errorf(api.CodeServingSilent, "no answer").About("dns")
		return list
	}
	consumers, err := p.Applied(ctx, "shop")
	s.add("applied", consumers, err)
	for _, c := range consumers {
		s.add(c.Name, c.InFlight, c.Err)
	}
}

// over has a lab's second machine answer over the bus.
func (l *lab) over(t *testing.T, bus *membus.Bus) *memruntime.Runtime {
	t.Helper()
	two, _ := l.second(t)
	second := l.kit.Participants.(both).two
	l.kit.Participants = &deploy.Fleet{
		Self: "m1", Local: l.local, Caller: wired(t, bus, "m2", second), Patience: 300 * time.Millisecond,
		Members: func(ctx context.Context) ([]machine.Member, error) { return machine.Members(ctx, l.store.Facts()) },
	}
	return two
}

// TestDeployOverTheBus: instances land on both machines, a machine that is cut off refuses the deploy, and one
// that vanishes in the middle has it rolled back where it can be.
func TestDeployOverTheBus(t *testing.T) {
	l, bus := newLab(t), &membus.Bus{}
	two := l.over(t, bus)
	l.mustRun(t, deploy.NewDeploy(l.kit, shop("v1"), nil))
	if len(two.World()) != 1 {
		t.Errorf("m2 runs %v", two.World())
	}
	l.mustRun(t, deploy.NewDeploy(l.kit, shop("v2"), nil))
	before := l.snapshot()
	bus.Mute("m2", true)
	out := l.run(deploy.NewDeploy(l.kit, shop("v1"), nil))
	if out.Outcome != api.Refused || !strings.Contains(fmt.Sprint(out.Error.Details, out.Error), string(api.CodeMachineSilent)) {
		t.Errorf("with m2 cut off it ended %s: %v", out.Outcome, out.Error)
	}
	bus.Mute("m2", false)
	if after := l.snapshot(); after != before {
		t.Errorf("the refusal changed\n%s\nto\n%s", before, after)
	}
}

// TestAnswerLost: m2 acts and its answer is lost on the way. The step asks again and gets the first answer.
func TestAnswerLost(t *testing.T) {
	l, bus := newLab(t), &membus.Bus{}
	two := l.over(t, bus)
	var once sync.Once
	two.SetFault(func(p memruntime.Point) error {
		if p.Call == "Start" && p.After {
			once.Do(func() {
				bus.Mute("m2", true)
				time.AfterFunc(200*time.Millisecond, func() { bus.Mute("m2", false) })
			})
		}
		return nil
	})
	out := l.run(deploy.NewDeploy(l.kit, shop("v1"), nil))
	if out.Outcome != api.Committed {
		t.Fatalf("it ended %s: %v", out.Outcome, out.Error)
	}
	if len(two.World()) != 1 {
		t.Errorf("m2 runs %v", two.World())
	}
}

// TestFleet finds machines, and says of which there are none.
func TestFleet(t *testing.T) {
	l, bus := newLab(t), &membus.Bus{}
	l.over(t, bus)
	fleet := l.kit.Participants
	if p, err := fleet.Participant(t.Context(), "m1"); err != nil || p != deploy.Participant(l.local) {
		t.Errorf("this machine: %v %v", p, err)
	}
	if p, err := fleet.Participant(t.Context(), "m2"); err != nil || p.(*deploy.Remote).Machine != "m2" {
		t.Errorf("the other: %v %v", p, err)
	}
	l.put(t, store.Machine("m3"), machine.Member{ID: "m3", Name: "third"})
	for _, name := range []string{"third", "nobody"} {
		if _, err := fleet.Participant(t.Context(), name); api.CodeOf(err) != api.CodeMachineSilent || api.AsError(err).Subject != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	bus.Mute("m2", true)
	if _, err := fleet.Participant(t.Context(), "m2"); api.CodeOf(err) != api.CodeMachineSilent {
		t.Errorf("cut off: %v", err)
	}
}

// TestPushedToOne: an image that is on one machine alone, and in no registry, has a digest for all.
func TestPushedToOne(t *testing.T) {
	l := newLab(t)
	images := memruntime.NewImages()
	two, _ := l.second(t)
	second := l.kit.Participants.(both).two
	second.Images = images
	pushed, err := images.Import(t.Context(), "own:v1", strings.NewReader("mine"), nil)
	if err != nil {
		t.Fatal(err)
	}
	spec := api.Spec{Namespace: "shop", Services: map[string]api.Service{
		"own": {Image: "own:v1", Placement: api.Placement{Machines: []string{"m2"}}},
	}}
	l.mustRun(t, deploy.NewDeploy(l.kit, spec, nil))
	if got := l.current(t, "shop").Spec.Services["own"].Digest; got != pushed.Digest || len(two.World()) != 1 {
		t.Errorf("it runs %s on %v", got, two.World())
	}
}
