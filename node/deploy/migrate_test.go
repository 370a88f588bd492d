package deploy_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/mempool"
	"github.com/ployz/ployz/node/store"
)

// holds is what a volume holds in a pool, or in one of its snapshots.
func holds(t *testing.T, p *mempool.Pool, id, snapshot string) string {
	t.Helper()
	text, err := p.Read(id, snapshot)
	must(t, err)
	return text
}

func migrated(t *testing.T, out api.Outcome) (r api.MigrateResult) {
	t.Helper()
	must(t, json.Unmarshal(out.Value, &r))
	return r
}

// TestMigrate: a data set and who mounts it go to another machine; what is there and what commits need comes along, and
// the old machine keeps a copy that nobody has a name for.
func TestMigrate(t *testing.T) {
	l := newLab(t)
	statefulTwice(t, l)
	l.pair(t)
	l.guard(t)
	was, two := l.volume(t, "data"), l.far
	must(t, l.pool.Write(was.ID, "rows"))
	must(t, l.pool.Hold(t.Context(), was.ID, "c2", "operator"))
	plan := l.preview(t, deploy.NewMigrate(l.kit, toM2("db")))
	expectLines(t, about(volumeLines(plan), "data"), "move volume data: from m1, which keeps a copy; it holds 0 bytes")
	if got := about(lines(plan), "db-0"); len(got) != 1 || got[0] != "replace db-0: moves from m1: its volume data is there; the old one stops first, since the volume data moves" {
		t.Errorf("of the database the plan says %q", got)
	}
	expectLines(t, about(phases(plan), "over"), "hand over: retire volume data on m1, snapshot c3 as carried on m2, snapshot c3 on m1",
		"take over: restore volume data on m2")
	l.runtime.SetFault(func(p memruntime.Point) error { // the last thing that the database does
		if p.Call == "Stop" && !p.After && strings.HasPrefix(p.Subject, "shop-db") {
			return l.pool.Write(was.ID, "more rows")
		}
		return nil
	})
	out, seen := l.watch(t.Context(), deploy.NewMigrate(l.kit, toM2("db")))
	if out.Outcome != api.Committed {
		t.Fatalf("%s %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	if at, runs := l.runningSlot(t, "db-0"); at != "m2" || !runs {
		t.Errorf("the database is on %s, and runs: %v", at, runs)
	}
	if at, runs := l.runningSlot(t, "app-0"); at != "m1" || !runs {
		t.Errorf("what does not mount it is on %s, and runs: %v", at, runs)
	}
	now, r := l.volume(t, "data"), migrated(t, out)
	move := r.Volumes["data"]
	if now.ID != was.ID || now.Machine != "m2" || len(now.Copies) != 1 {
		t.Fatalf("data is %+v", now)
	}
	if c := now.Copies[0]; c.Machine != "m1" || c.Reason != api.CopyMoved || c.GUID != move.GUID || c.Snapshot != move.Snapshot || c.Operation != out.Operation || c.Since.IsZero() {
		t.Errorf("the copy is %+v, and the move was %+v", c, move)
	}
	in := l.current(t, "shop").Volumes["data"]
	if in.Machine != "m2" || in.Snapshot != "c3" || in.GUID != move.GUID || in.Move == nil || in.Move.GUID != move.GUID || in.Move.Snapshot != "c3" || in.Move.From != "m1" || in.Move.To != "m2" || len(in.Move.Rounds) < 2 || in.Move.Bytes == 0 {
		t.Errorf("the commit has %+v, %+v", in, in.Move)
	}
	if !slices.Equal(r.Kept, []string{was.ID}) || r.Stop <= 0 || r.StopStated <= 0 {
		t.Errorf("the result is %+v", r)
	}
	parts := r.StopParts
	sum := parts.Stop + parts.LastChanges + parts.Start + parts.Rest
	if off := time.Duration(sum - r.Stop).Abs(); off > 4*time.Microsecond || parts.LastChanges <= 0 || parts.Rest <= 0 {
		t.Errorf("a stop of %s was %+v", r.Stop, parts)
	}
	if stated := notes(seen, "the stop of db-0 will take about "); len(stated) != 1 || !strings.Contains(stated[0], api.Rounded(r.StopStated.D(0)).String()+": ") {
		t.Errorf("before the stop it said %q", stated)
	}
	expectStates(t, l, was.ID, storage.StateKept, storage.StateLive)
	if got := holds(t, two, was.ID, ""); got != "more rows" {
		t.Errorf("it holds %q", got)
	}
	if got := l.heldBy(t, "m2", was.ID); !slices.Equal(got, []string{"c1 [commit]", "c2 [commit operator]", "c3 [commit]"}) {
		t.Errorf("on m2 it has %q", got)
	}
	if got := l.heldBy(t, "m1", was.ID); !slices.Equal(got, []string{"c1 [commit]", "c2 [commit operator]", "c3 [commit]"}) {
		t.Errorf("on m1 it has %q", got)
	}
	// And the data of an earlier commit can be given back where it is now.
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 1))
	if now := l.volume(t, "data"); now.Machine != "m2" || now.Origin == nil || now.Origin.Snapshot != "c2" {
		t.Errorf("gone back, data is %+v", now)
	}
}

// notes are what an operation told that begins so.
func notes(events []api.Event, begin string) (list []string) {
	for _, e := range events {
		if e.Type == api.EventNote && strings.HasPrefix(e.Message, begin) {
			list = append(list, e.Message)
		}
	}
	return list
}

func expectStates(t *testing.T, l *lab, id string, on1, on2 storage.State) {
	t.Helper()
	for name, want := range map[string]storage.State{"m1": on1, "m2": on2} {
		v, err := l.pools()[name].Inspect(t.Context(), id)
		if v.State != want || (err != nil) != (want == "") {
			t.Errorf("on %s it is %q, %v; want %q", name, v.State, err, want)
		}
	}
}

// heldBy are a volume's snapshots and their holds, by name; those that operations took for themselves are called op.
func (l *lab) heldBy(t *testing.T, machineName, id string) (list []string) {
	t.Helper()
	all, err := l.pools()[machineName].ListSnapshots(t.Context(), id)
	must(t, err)
	for _, s := range all {
		name := s.Name
		if strings.HasPrefix(name, "op-") {
			name = "op"
		}
		list = append(list, name+" ["+strings.Join(s.Holds, " ")+"]")
	}
	slices.Sort(list)
	return list
}

// TestMigrateBack sends only what changed: the copy that was kept is brought up to date.
func TestMigrateBack(t *testing.T) {
	l := newLab(t)
	moved(t, l)
	id, two := l.volume(t, "data").ID, l.far
	must(t, two.Write(id, "written on m2"))
	back := api.MigrateRequest{Namespace: "shop", Service: "db", To: "m1"}
	expectLines(t, about(volumeLines(l.preview(t, deploy.NewMigrate(l.kit, back))), "data"),
		"move volume data: from m2, which keeps a copy; m1 has one, and gets what was written since")
	l.mustRun(t, deploy.NewMigrate(l.kit, back))
	expectStates(t, l, id, storage.StateLive, storage.StateKept)
	if got := holds(t, l.pool, id, ""); got != "written on m2" {
		t.Errorf("it holds %q", got)
	}
	now := l.volume(t, "data")
	if now.Machine != "m1" || len(now.Copies) != 1 || now.Copies[0].Machine != "m2" {
		t.Errorf("data is %+v", now)
	}
	if at, runs := l.runningSlot(t, "db-0"); at != "m1" || !runs {
		t.Errorf("the database is on %s, and runs: %v", at, runs)
	}
}

// TestMigrateTogether: who shares a volume moves as well, with all that it mounts, and the plan says so.
func TestMigrateTogether(t *testing.T) {
	l := newLab(t)
	onTwo(t, l)
	plan := l.preview(t, deploy.NewMigrate(l.kit, toM2("web")))
	expectLines(t, about(volumeLines(plan), "cache"), "move volume cache.app-0: from m1, which keeps a copy; it holds 0 bytes; app mounts it too, and moves",
		"move volume cache.app-1: from m1, which keeps a copy; it holds 0 bytes; app mounts it too, and moves")
	if got := about(lines(plan), "web-0"); len(got) != 1 || !strings.HasSuffix(got[0], "the old one stops first, since the volume uploads moves") {
		t.Errorf("of a reader the plan says %q", got)
	}
	l.mustRun(t, deploy.NewMigrate(l.kit, toM2("web")))
	expectLines(t, l.facts(t), "cache.app-0 live m2", "cache.app-1 live m2", "data live m1", "uploads live m2")
	for _, slot := range []string{"app-0", "app-1", "web-0"} {
		if at, runs := l.runningSlot(t, slot); at != "m2" || !runs {
			t.Errorf("%s is on %s, and runs: %v", slot, at, runs)
		}
	}
}

// TestMigrateFails: an instance that does not become ready there leaves everything as it was here, and what it wrote to
// the copy is nobody's history. The next one sends anew.
func TestMigrateFails(t *testing.T) {
	l := newLab(t)
	onTwo(t, l)
	id, two := l.volume(t, "data").ID, l.far
	must(t, l.pool.Write(id, "rows"))
	before := l.snapshot()
	fails := true
	l.two.Runtime.(*memruntime.Runtime).Program = func(s runtime.Spec) memruntime.Program {
		if s.Slot == "db-0" && fails {
			must(t, two.Write(id, "a migration of the schema"))
			return memruntime.Program{Ends: true, ExitCode: 1}
		}
		return memruntime.Program{}
	}
	out := l.run(deploy.NewMigrate(l.kit, toM2("db")))
	if out.Outcome != api.RolledBack || out.Error.Code != api.CodeNotReady {
		t.Fatalf("%s %v %v", out.Outcome, out.Error, out.Leftovers)
	}
	if now := l.snapshot(); now != before {
		t.Errorf("before\n%s\nafter\n%s", before, now)
	}
	expectStates(t, l, id, storage.StateLive, "")
	fails = false
	l.mustRun(t, deploy.NewMigrate(l.kit, toM2("db")))
	if got := holds(t, two, id, ""); got != "rows" {
		t.Errorf("it holds %q", got)
	}
}

// TestMigrateAgain: what was carried before a failure is not sent a second time.
func TestMigrateAgain(t *testing.T) {
	l := newLab(t)
	statefulTwice(t, l)
	l.pair(t)
	id := l.volume(t, "data").ID
	l.runtime.SetFault(func(p memruntime.Point) error {
		if p.Call == "Stop" && !p.After && strings.HasPrefix(p.Subject, "shop-db") {
			return api.Errorf(api.CodeStopFailed, "it does not end").About(p.Subject)
		}
		return nil
	})
	if out := l.run(deploy.NewMigrate(l.kit, toM2("db"))); out.Outcome == api.Committed {
		t.Fatal("it was not stopped, and moved")
	}
	l.guard(t)
	expectStates(t, l, id, storage.StateLive, storage.StateKept)
	had, err := l.far.Inspect(t.Context(), id)
	must(t, err)
	must(t, l.pool.Write(id, "rows since"))
	l.mustRun(t, deploy.NewMigrate(l.kit, toM2("db")))
	now, err := l.far.Inspect(t.Context(), id)
	if err != nil || !now.Created.Equal(had.Created) || holds(t, l.far, id, "") != "rows since" {
		t.Errorf("it was %+v and is %+v, %v", had, now, err)
	}
}

// TestMigrateRewritten: a copy that was written, after which its coordinator died, is found out and sent anew.
func TestMigrateRewritten(t *testing.T) {
	l := newLab(t)
	moved(t, l)
	id := l.volume(t, "data").ID
	must(t, l.pool.Write(id, "nobody's"))
	back := api.MigrateRequest{Namespace: "shop", Service: "db", To: "m1"}
	out, seen := l.watch(t.Context(), deploy.NewMigrate(l.kit, back))
	if out.Outcome != api.Committed || len(notes(seen, "the copy of data on m1 went another way")) != 1 {
		t.Errorf("%s %v; it said %q", out.Outcome, out.Error, notes(seen, ""))
	}
	if got := holds(t, l.pool, id, ""); got != "" {
		t.Errorf("it holds %q", got)
	}
	if got := l.heldBy(t, "m1", id); !slices.Contains(got, "c1 [commit]") {
		t.Errorf("on m1 it has %q", got)
	}
}

// TestMigrateRefusals: each is made before anything is carried.
func TestMigrateRefusals(t *testing.T) {
	member := func(role machine.Role) machine.Member { return machine.Member{ID: "m2", Name: "m2", Role: role} }
	for name, c := range map[string]struct {
		world      func(t *testing.T, l *lab)
		request    api.MigrateRequest
		code       api.Code
		says, hint string
	}{
		"unknown target":     {nil, api.MigrateRequest{Namespace: "shop", To: "m9"}, api.CodeMachineAbsent, "no member", "ployzctl machine ls"},
		"silent target":      {func(_ *testing.T, l *lab) { *l.kit.Participants.(both).silent = true }, toM2(""), api.CodeMachineSilent, "does not answer", "ployzctl machine show m2"},
		"draining target":    {func(t *testing.T, l *lab) { l.put(t, store.Machine("m2"), member(machine.Draining)) }, toM2(""), api.CodeNoMachine, "m2 is draining", "ployzctl machine set m2"},
		"disabled target":    {func(t *testing.T, l *lab) { l.put(t, store.Machine("m2"), member(machine.Disabled)) }, toM2("db"), api.CodeNoMachine, "m2 is disabled", "ployzctl machine set m2"},
		"no pool":            {func(_ *testing.T, l *lab) { l.two.Pool = nil }, toM2(""), api.CodeVolumePoolUnavailable, "no pool", "ployzctl doctor"},
		"another backend":    {func(_ *testing.T, l *lab) { l.two.Pool = tape{l.two.Pool, 1 << 40} }, toM2(""), api.CodeVolumeStreamForeign, "a stream of memory cannot be received into a pool of tape", "ployzctl"},
		"no room":            {func(t *testing.T, l *lab) { l.two.Pool = cramped{tape{l.two.Pool, 1 << 20}} }, toM2("db"), api.CodeVolumeNoSpace, "has 1 MiB free", "ployzctl volume prune"},
		"no room for more":   {writtenSince, api.MigrateRequest{Namespace: "shop", Service: "db", To: "m1"}, api.CodeVolumeNoSpace, "about 2 MiB would arrive, and the pool tape has 1 MiB free", "ployzctl volume prune"},
		"no volumes":         {nil, toM2("migrate"), api.CodeVolumeNotFound, "has no volumes, so that a deploy moves it", "ployzctl machine drain"},
		"unknown service":    {nil, toM2("nobody"), api.CodeNoSuchService, `no service "nobody"`, "ployzctl service ls shop"},
		"not on that":        {nil, api.MigrateRequest{Namespace: "shop", From: "m3", To: "m2"}, api.CodeVolumeNotFound, "none of its volumes are on m3", "ployzctl volume ls shop"},
		"there already":      {nil, api.MigrateRequest{Namespace: "shop", To: "m1"}, api.CodeVolumeThere, "m1 has them already: cache.app-0, cache.app-1, data, uploads", "ployzctl volume ls shop"},
		"less than nothing":  {nil, api.MigrateRequest{Namespace: "shop", To: "m2", MaxStop: -1}, api.CodeBadRequest, "less than nothing", ""},
		"may not run there":  {placedOn("m1"), toM2("db"), api.CodeNoMachine, "db-0 may not run on m2: not among the machines asked for", "ployzctl deploy"},
		"nothing is there":   {nil, api.MigrateRequest{Namespace: "none", To: "m2"}, api.CodeNamespaceAbsent, "nothing is deployed", "ployzctl service ls"},
		"takes too long":     {nil, api.MigrateRequest{Namespace: "shop", To: "m2", MaxStop: api.Duration(time.Millisecond)}, api.CodeVolumeNotConverging, "the stop takes about 6.6s, and it may take 1ms", "ployzctl migrate shop --to m2 --max-stop 14s"},
		"several machines":   {scattered, api.MigrateRequest{Namespace: "shop", To: "m3"}, api.CodeBadRequest, "they are on several machines", "--from m1"},
		"port taken":         {func(_ *testing.T, l *lab) { l.listening = map[string]string{"tcp/5432": "a database of the machine"} }, toM2("db"), api.CodePublishedTaken, "port 5432/tcp on m2", ""},
		"of every machine":   {everywhereRuns, toM2("agent"), api.CodeNoMachine, "agent runs on every machine", "ployzctl volume send"},
		"no answer from one": {func(_ *testing.T, l *lab) { delete(l.kit.Carriers.(carrying), "m2") }, toM2("db"), api.CodeMachineSilent, "no member", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			s := stateful("v1")
			edit(&s, "db", func(s *api.Service) { s.Ports = []api.Port{{Published: 5432, Target: 5432, Protocol: "tcp"}} })
			l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
			l.pair(t)
			if c.world != nil {
				c.world(t, l)
			}
			before := l.snapshot()
			out := l.run(deploy.NewMigrate(l.kit, c.request))
			e := found(out.Error, c.code)
			if e == nil || !strings.Contains(e.Message, c.says) || !strings.Contains(e.Hint, c.hint) || out.Outcome != api.Refused {
				t.Fatalf("%s %v", out.Outcome, out.Error)
			}
			if after := l.snapshot(); after != before {
				t.Errorf("refused, and it changed\n%s\nto\n%s", before, after)
			}
		})
	}
}

// tape is a pool of another kind with so much free.
type tape struct {
	storage.Pool
	free int64
}

func (p tape) Usage(context.Context) (storage.Usage, error) {
	return storage.Usage{Backend: "tape", Pool: "tape", SizeBytes: 1 << 40, FreeBytes: p.free}, nil
}

// cramped is a pool of the same kind with little free.
type cramped struct{ tape }

func (p cramped) Usage(ctx context.Context) (storage.Usage, error) {
	u, err := p.tape.Usage(ctx)
	u.Backend = mempool.Backend
	return u, err
}

// writtenSince has the database on m2, where it grew by more than m1, which has a copy, has room for.
func writtenSince(t *testing.T, l *lab) {
	l.mustRun(t, deploy.NewMigrate(l.kit, toM2("db")))
	must(t, l.far.Write(l.volume(t, "data").ID, strings.Repeat("x", 2<<20)))
	l.local.Pool = cramped{tape{l.local.Pool, 1 << 20}}
}

func placedOn(machines ...string) func(*testing.T, *lab) {
	return func(t *testing.T, l *lab) {
		s := stateful("v1")
		edit(&s, "db", func(s *api.Service) { s.Placement.Machines = machines })
		l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	}
}

// scattered has the database on m2 and the rest on m1.
func scattered(t *testing.T, l *lab) {
	l.mustRun(t, deploy.NewMigrate(l.kit, toM2("db")))
	l.put(t, store.Machine("m3"), machine.Member{ID: "m3", Name: "m3"})
}

// everywhereRuns has a service on each machine with a volume of its own.
func everywhereRuns(t *testing.T, l *lab) {
	s := stateful("v1")
	s.Volumes["state"] = api.Volume{Scope: api.ScopeSlot}
	s.Services["agent"] = api.Service{Image: "app:v1", Placement: api.Placement{Global: true}, Mounts: []api.Mount{{Volume: "state", Target: "/state"}}}
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
}

// TestStopAsBefore: what the stop takes is known from how long the instance took the last time, unless it filled an empty
// volume then.
func TestStopAsBefore(t *testing.T) {
	l := newLab(t)
	onTwo(t, l)
	stated := func(request api.MigrateRequest) time.Duration {
		return migrated(t, l.mustRun(t, deploy.NewMigrate(l.kit, request))).StopStated.D(0)
	}
	if got := stated(toM2("db")); got < 2*time.Second || got > 10*time.Second {
		t.Errorf("of one that filled its volume it says %s", got)
	}
	// By the lab's clock, which stands still, it took no time at all to move.
	if got := stated(api.MigrateRequest{Namespace: "shop", Service: "db", To: "m1"}); got > 500*time.Millisecond {
		t.Errorf("of one that took no time it says %s", got)
	}
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 2)) // what it makes is a clone, and not empty
	if got := stated(toM2("db")); got > time.Second {
		t.Errorf("of one that started on a clone it says %s", got)
	}
}

// TestStopIsTheMiddle: one slow stop says nothing of the next, two of three do.
func TestStopIsTheMiddle(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	l.pair(t)
	const long = 3 * time.Second
	var took time.Duration
	for _, r := range []runtime.Runtime{l.runtime, l.two.Runtime} {
		r.(*memruntime.Runtime).SetFault(func(p memruntime.Point) error {
			if p.Call == "Stop" && !p.After && strings.HasPrefix(p.Subject, "shop-db") {
				l.clock.Advance(took)
			}
			return nil
		})
	}
	to := "m1"
	stated := func() time.Duration {
		to = map[string]string{"m1": "m2", "m2": "m1"}[to]
		return migrated(t, l.mustRun(t, deploy.NewMigrate(l.kit, api.MigrateRequest{Namespace: "shop", Service: "db", To: to}))).StopStated.D(0)
	}
	stated()
	stated()
	took = long
	stated()
	if got := stated(); got > long/2 {
		t.Errorf("after two that took no time and one of %s it says %s", long, got)
	}
	if got := stated(); got < long {
		t.Errorf("after two of %s and one that took no time it says %s", long, got)
	}
}

// TestMigrateSettles: who is stopped writes out what it has in memory before each round but the first, and before it is asked
// what is left, for which there is no snapshot; and not inside the stop. A failure there ends nothing.
func TestMigrateSettles(t *testing.T) {
	l := newLab(t)
	quiescedRuns(hooks)(t, l)
	did := l.noted(t)
	l.pair(t)
	l.mustRun(t, deploy.NewMigrate(l.kit, toM2("db")))
	want := []string{"snapshot", "checkpoint in shop-db-0", "go-on in shop-db-0", "snapshot",
		"checkpoint in shop-db-0", "go-on in shop-db-0", "stop shop-db-0", "snapshot"}
	if got := did.lines[:min(len(want), len(did.lines))]; !slices.Equal(got, want) {
		t.Errorf("it did %q", did.lines)
	}
	l.two.Runtime.(*memruntime.Runtime).Command = func(_ runtime.Spec, c runtime.Command) (int, error) { return 1, nil }
	out, seen := l.watch(t.Context(), deploy.NewMigrate(l.kit, api.MigrateRequest{Namespace: "shop", Service: "db", To: "m1"}))
	if out.Outcome != api.Committed || len(notes(seen, "the stop may be longer than it has to be: shop/db-0: checkpoint ended with status 1")) < 2 {
		t.Errorf("%s %v %q", out.Outcome, out.Error, notes(seen, ""))
	}
}

// TestMigrateHalfWay: where a coordinator died inside the stop and a machine that may have the name is silent, nothing gets
// the name back; once it answers, or is no member any more, it does.
func TestMigrateHalfWay(t *testing.T) {
	l := newLab(t)
	onTwo(t, l)
	id := l.volume(t, "data").ID
	l.dies(t, deploy.NewMigrate(l.kit, toM2("db")), "start db-0")
	expectStates(t, l, id, storage.StateKept, storage.StateLive)
	silent := l.kit.Participants.(both).silent
	*silent = true
	out := l.run(deploy.NewClear(l.kit, "shop"))
	e := found(out.Error, api.CodeMachineSilent)
	if out.Outcome != api.Refused || e == nil || !strings.Contains(e.Message, "m2, which may have it, does not answer") || !strings.HasSuffix(e.Hint, "ployzctl machine remove m2") {
		t.Fatalf("%s %v", out.Outcome, out.Error)
	}
	expectStates(t, l, id, storage.StateKept, storage.StateLive)
	*silent = false
	l.mustRun(t, deploy.NewClear(l.kit, "shop"))
	expectStates(t, l, id, storage.StateLive, storage.StateKept)
	if at, runs := l.runningSlot(t, "db-0"); at != "m1" || !runs {
		t.Errorf("the database is on %s, and runs: %v", at, runs)
	}
	if got := l.heldBy(t, "m1", id); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "op [d") }) {
		t.Errorf("an operation that is over holds %q", got)
	}
}

// dies runs an operation whose coordinator dies before a step acts, and lets its lease run out.
func (l *lab) dies(t *testing.T, op operation.Operation, step string) {
	t.Helper()
	func() {
		defer func() {
			if r := recover(); r != step {
				t.Fatalf("it ended otherwise: %v", r)
			}
		}()
		l.run(dying{op, step})
	}()
	l.clock.Advance(coordination.TTL + time.Second)
}

type dying struct {
	operation.Operation
	step string
}

// Plan implements operation.Operation.
func (d dying) Plan() operation.Plan {
	plan := d.Operation.Plan()
	for i := range plan.Phases {
		plan.Phases[i].Width = 1
		for j, s := range plan.Phases[i].Steps {
			if s.Name == d.step {
				plan.Phases[i].Steps[j].Do = func(context.Context, *operation.Act) error { panic(d.step) }
			}
		}
	}
	return plan
}

// TestMigrateHolds: gateways let wait what comes for who moves and for those that depend on it, and the stop begins once
// what was under way has ended.
func TestMigrateHolds(t *testing.T) {
	l := newLab(t)
	onTwo(t, l)
	order := toM2("db")
	order.Hold = true
	expectLines(t, about(phases(l.preview(t, deploy.NewMigrate(l.kit, order))), "hold: "), "hold: hold requests to app, db, web")
	order.Service = "web" // which nobody depends on, and which shares a volume with the application
	expectLines(t, about(phases(l.preview(t, deploy.NewMigrate(l.kit, order))), "hold: "), "hold: hold requests to app, web")
}
