package runtimetest

import (
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

func testFreeze(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	wantCode(t, f.Console.Freeze(t.Context(), spec.ID, time.Minute), api.CodeRuntimeNotFound)
	must(t, f.Console.Thaw(t.Context(), spec.ID))
	prepared(t, f, spec)
	wantCode(t, f.Console.Freeze(t.Context(), spec.ID, time.Minute), api.CodeNotRunning)
	must(t, f.Console.Thaw(t.Context(), spec.ID))
	must(t, f.Runtime.Start(t.Context(), spec.ID))
	before := inspect(t, f.Runtime, spec.ID)
	for range 2 {
		for range 2 {
			must(t, f.Console.Freeze(t.Context(), spec.ID, time.Minute))
			o := inspect(t, f.Runtime, spec.ID)
			if !o.Frozen || o.State != runtime.StateRunning || o.MainPID != before.MainPID || len(o.Drift) != 0 {
				t.Fatalf("after Freeze: %+v", o)
			}
		}
		for range 2 {
			must(t, f.Console.Thaw(t.Context(), spec.ID))
			if o := inspect(t, f.Runtime, spec.ID); o.Frozen || o.MainPID != before.MainPID {
				t.Fatalf("after Thaw: %+v", o)
			}
		}
	}
	status, err := f.Console.Exec(t.Context(), spec.ID, runtime.Command{Args: []string{"/program", "exit=0"}})
	if err != nil || status != 0 {
		t.Fatalf("after all: %d, %v", status, err)
	}
}

// testThawsByItself: the time counts anew with each Freeze, and nobody has to do anything for it to end.
func testThawsByItself(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	started(t, f, spec)
	must(t, f.Console.Freeze(t.Context(), spec.ID, time.Minute))
	const atMost = time.Second
	begun := time.Now()
	must(t, f.Console.Freeze(t.Context(), spec.ID, atMost))
	for inspect(t, f.Runtime, spec.ID).Frozen {
		if time.Since(begun) > patience {
			t.Fatal("it is frozen for ever")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if took := time.Since(begun); took < atMost {
		t.Errorf("it went on after %v", took)
	}
}

func testStopFrozen(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	started(t, f, spec)
	must(t, f.Console.Freeze(t.Context(), spec.ID, 2*time.Second))
	must(t, f.Runtime.Stop(t.Context(), spec.ID))
	if o := inspect(t, f.Runtime, spec.ID); o.State != runtime.StateStopped || o.Frozen {
		t.Errorf("after Stop: %+v", o)
	}
}
