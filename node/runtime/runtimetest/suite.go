package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// Fixture is one machine to test against. Every test gets a fresh set of ids, so one machine
// may serve all of them.
type Fixture struct {
	Runtime runtime.Runtime
	Console runtime.Console
	// Image has the program at /program as its entrypoint.
	Image runtime.Image
	// Folder makes a folder of the machine that an instance can mount.
	Folder func(t *testing.T) string
	// Addresses returns free addresses, others at each call.
	Addresses func() runtime.Addresses
	// Reopen returns what a restarted daemon would use on the same machine.
	Reopen func() runtime.Runtime
}

// patience is the longest that a test waits for something that takes milliseconds.
const patience = 20 * time.Second

// Run runs the whole suite.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	for name, test := range map[string]func(*testing.T, Fixture){
		"LifeCycle":             testLifeCycle,
		"EverythingTwice":       testEverythingTwice,
		"AbsentInstance":        testAbsent,
		"Conflict":              testConflict,
		"InvalidSpec":           testInvalid,
		"RemoveRefusesRunning":  testRemoveRunning,
		"Job":                   testJob,
		"FailedJob":             testFailedJob,
		"JobRunsAgain":          testJobAgain,
		"OwnEnd":                testOwnEnd,
		"ReopenAdopts":          testReopen,
		"List":                  testList,
		"Exec":                  testExec,
		"ExecOnStopped":         testExecStopped,
		"Logs":                  testLogs,
		"LogsTail":              testLogsTail,
		"LogsFollow":            testFollow,
		"LogsEmitError":         testEmitError,
		"Stats":                 testStats,
		"SealedTwiceIsTheSame":  testSealedTwice,
		"NothingStartedAtFirst": testPrepareStartsNothing,
		"Mounts":                testMounts,
		"Freeze":                testFreeze,
		"ThawsByItself":         testThawsByItself,
		"StopFrozen":            testStopFrozen,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// Spec returns a valid spec whose program gets the arguments. Its id is unique to the test.
func Spec(t *testing.T, suffix string, args ...string) runtime.Spec {
	id := strings.ToLower(strings.Map(idRune, t.Name())) + suffix
	if len(id) > 40 {
		id = id[len(id)-40:]
	}
	id = "t" + id + "-" + strconv.FormatInt(time.Now().UnixNano()%1e9, 36)
	return runtime.Spec{
		ID: id, Namespace: "shop", NamespaceID: 7, Service: "web", Slot: "web-0",
		Process: api.Process{Command: args, StopGrace: api.Duration(5 * time.Second)},
		Restart: api.Restart{Policy: "no"},
	}
}

func idRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

// prepared prepares the spec and removes it when the test ends.
func prepared(t *testing.T, f Fixture, spec runtime.Spec) runtime.Addresses {
	t.Helper()
	addrs := f.Addresses()
	if err := f.Runtime.Prepare(t.Context(), spec, f.Image, addrs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(f.Runtime.Stop(ctx, spec.ID), f.Runtime.Remove(ctx, spec.ID)); err != nil {
			t.Errorf("clean-up: %v", err)
		}
	})
	return addrs
}

func started(t *testing.T, f Fixture, spec runtime.Spec) runtime.Addresses {
	t.Helper()
	addrs := prepared(t, f, spec)
	if err := f.Runtime.Start(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	return addrs
}

func inspect(t *testing.T, r runtime.Runtime, id string) runtime.Observation {
	t.Helper()
	o, err := r.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// await polls until the instance is in the state.
func await(t *testing.T, r runtime.Runtime, id, state string) runtime.Observation {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		o := inspect(t, r, id)
		if o.State == state {
			return o
		}
		if time.Now().After(deadline) {
			t.Fatalf("instance %s is %s after %v, want %s: %+v", id, o.State, patience, state, o)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func wantCode(t *testing.T, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Fatalf("error %v, want code %s", err, code)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testPrepareStartsNothing(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	addrs := prepared(t, f, spec)
	o := inspect(t, f.Runtime, spec.ID)
	if o.State != runtime.StateStopped || o.MainPID != 0 || o.Boot || o.ExitCode != -1 || o.Addresses != addrs {
		t.Fatalf("after Prepare: %+v", o)
	}
}

func testLifeCycle(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	addrs := started(t, f, spec)
	o := inspect(t, f.Runtime, spec.ID)
	if o.State != runtime.StateRunning || o.MainPID == 0 || o.Started.IsZero() || !o.Boot {
		t.Fatalf("after Start: %+v", o)
	}
	if o.ID != spec.ID || o.Spec.Service != "web" || o.Addresses != addrs || len(o.Drift) != 0 {
		t.Fatalf("identity after Start: %+v", o)
	}
	if !strings.Contains(o.Cgroup, o.Unit) {
		t.Fatalf("cgroup %q is not under unit %q", o.Cgroup, o.Unit)
	}
	must(t, f.Runtime.Stop(t.Context(), spec.ID))
	o = inspect(t, f.Runtime, spec.ID)
	if o.State != runtime.StateStopped || o.MainPID != 0 || o.Boot || o.ExitCode != 0 {
		t.Fatalf("after Stop: %+v", o)
	}
	must(t, f.Runtime.Remove(t.Context(), spec.ID))
	_, err := f.Runtime.Inspect(t.Context(), spec.ID)
	wantCode(t, err, api.CodeRuntimeNotFound)
}

func testEverythingTwice(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	addrs := started(t, f, spec)
	first := inspect(t, f.Runtime, spec.ID)
	must(t, f.Runtime.Prepare(t.Context(), spec, f.Image, addrs))
	must(t, f.Runtime.Start(t.Context(), spec.ID))
	second := inspect(t, f.Runtime, spec.ID)
	if first.MainPID != second.MainPID || !first.Started.Equal(second.Started) {
		t.Fatalf("repeated Prepare and Start restarted it: %+v then %+v", first, second)
	}
	for range 2 {
		must(t, f.Runtime.Stop(t.Context(), spec.ID))
	}
	for range 2 {
		must(t, f.Runtime.Remove(t.Context(), spec.ID))
	}
}

func testAbsent(t *testing.T, f Fixture) {
	id := Spec(t, "").ID
	wantCode(t, f.Runtime.Start(t.Context(), id), api.CodeRuntimeNotFound)
	must(t, f.Runtime.Stop(t.Context(), id))
	must(t, f.Runtime.Remove(t.Context(), id))
	_, err := f.Runtime.Inspect(t.Context(), id)
	wantCode(t, err, api.CodeRuntimeNotFound)
	_, err = f.Console.Exec(t.Context(), id, runtime.Command{Args: []string{"/program"}})
	wantCode(t, err, api.CodeRuntimeNotFound)
	_, err = f.Console.Stats(t.Context(), id)
	wantCode(t, err, api.CodeRuntimeNotFound)
}

func testConflict(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	addrs := started(t, f, spec)
	other := spec
	other.Process.Command = []string{"say=other", "serve"}
	wantCode(t, f.Runtime.Prepare(t.Context(), other, f.Image, addrs), api.CodeRuntimeConflict)
	wantCode(t, f.Runtime.Prepare(t.Context(), spec, f.Image, f.Addresses()), api.CodeRuntimeConflict)
	if o := inspect(t, f.Runtime, spec.ID); o.State != runtime.StateRunning || len(o.Drift) != 0 {
		t.Fatalf("a refused Prepare touched the instance: %+v", o)
	}
}

func testInvalid(t *testing.T, f Fixture) {
	for _, id := range []string{"", "../x", "a/b", "a.b", strings.Repeat("a", 61)} {
		spec := Spec(t, "", "serve")
		spec.ID = id
		wantCode(t, f.Runtime.Prepare(t.Context(), spec, f.Image, f.Addresses()), api.CodeRuntimeInvalid)
	}
}

func testRemoveRunning(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	started(t, f, spec)
	wantCode(t, f.Runtime.Remove(t.Context(), spec.ID), api.CodeRuntimeBusy)
	if o := inspect(t, f.Runtime, spec.ID); o.State != runtime.StateRunning {
		t.Fatalf("a refused Remove touched the instance: %+v", o)
	}
}

func testSealedTwice(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	spec.SecretEnv = map[string]runtime.SealedValue{"TOKEN": {Sealed: []byte("one"), Fingerprint: "f"}}
	addrs := prepared(t, f, spec)
	spec.SecretEnv = map[string]runtime.SealedValue{"TOKEN": {Sealed: []byte("two"), Fingerprint: "f"}}
	must(t, f.Runtime.Prepare(t.Context(), spec, f.Image, addrs))
	spec.SecretEnv = map[string]runtime.SealedValue{"TOKEN": {Sealed: []byte("two"), Fingerprint: "g"}}
	wantCode(t, f.Runtime.Prepare(t.Context(), spec, f.Image, addrs), api.CodeRuntimeConflict)
}

func testReopen(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	addrs := started(t, f, spec)
	before := inspect(t, f.Runtime, spec.ID)
	after := inspect(t, f.Reopen(), spec.ID)
	if after.State != runtime.StateRunning || after.MainPID != before.MainPID || !after.Started.Equal(before.Started) {
		t.Fatalf("before %+v, after %+v", before, after)
	}
	if after.Spec.Namespace != spec.Namespace || after.Addresses != addrs || len(after.Drift) != 0 {
		t.Fatalf("after: %+v", after)
	}
}

func testList(t *testing.T, f Fixture) {
	a, b := Spec(t, "-a", "serve"), Spec(t, "-b", "serve")
	started(t, f, a)
	prepared(t, f, b)
	all, err := f.Runtime.List(t.Context())
	must(t, err)
	states := map[string]string{}
	for _, o := range all {
		states[o.ID] = o.State
	}
	if states[a.ID] != runtime.StateRunning || states[b.ID] != runtime.StateStopped {
		t.Fatalf("List: %v", states)
	}
	if !slices.IsSortedFunc(all, func(x, y runtime.Observation) int { return strings.Compare(x.ID, y.ID) }) {
		t.Fatalf("List is not sorted by id: %v", all)
	}
}

func testStats(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	prepared(t, f, spec)
	_, err := f.Console.Stats(t.Context(), spec.ID)
	wantCode(t, err, api.CodeNotRunning)
	must(t, f.Runtime.Start(t.Context(), spec.ID))
	stats, err := f.Console.Stats(t.Context(), spec.ID)
	must(t, err)
	for name, v := range map[string]int64{"cpu": int64(stats.CPU), "memory": stats.MemoryBytes, "pids": stats.PIDs,
		"read": stats.ReadBytes, "write": stats.WriteBytes, "rx": stats.RxBytes, "tx": stats.TxBytes} {
		if v < -1 {
			t.Errorf("%s is %d", name, v)
		}
	}
}

func testExec(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	started(t, f, spec)
	var out, errs bytes.Buffer
	status, err := f.Console.Exec(t.Context(), spec.ID, runtime.Command{
		Args: []string{"/program", "say=hello", "err=oops", "echo", "exit=7"}, Stdin: strings.NewReader("typed\n"), Stdout: &out, Stderr: &errs,
	})
	must(t, err)
	if status != 7 || out.String() != "hello\ntyped\n" || errs.String() != "oops\n" {
		t.Fatalf("status %d, out %q, errors %q", status, &out, &errs)
	}
}

func testExecStopped(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	prepared(t, f, spec)
	_, err := f.Console.Exec(t.Context(), spec.ID, runtime.Command{Args: []string{"/program"}})
	wantCode(t, err, api.CodeNotRunning)
}
