package runtimetest

import (
	"testing"

	"github.com/ployz/ployz/node/runtime"
)

func testJob(t *testing.T, f Fixture) {
	spec := Spec(t, "", "say=done", "exit=0")
	spec.Job = true
	started(t, f, spec)
	if o := await(t, f.Runtime, spec.ID, runtime.StateStopped); o.ExitCode != 0 || o.Boot {
		t.Fatalf("ended job: %+v", o)
	}
}

func testFailedJob(t *testing.T, f Fixture) {
	spec := Spec(t, "", "exit=3")
	spec.Job = true
	started(t, f, spec)
	if o := await(t, f.Runtime, spec.ID, runtime.StateFailed); o.ExitCode != 3 || o.Boot {
		t.Fatalf("failed job: %+v", o)
	}
	must(t, f.Runtime.Stop(t.Context(), spec.ID))
	if o := inspect(t, f.Runtime, spec.ID); o.State != runtime.StateFailed || o.ExitCode != 3 {
		t.Fatalf("failed job that was told to stop: %+v", o)
	}
}

func testJobAgain(t *testing.T, f Fixture) {
	spec := Spec(t, "", "say=ran", "exit=0")
	spec.Job = true
	started(t, f, spec)
	await(t, f.Runtime, spec.ID, runtime.StateStopped)
	must(t, f.Runtime.Start(t.Context(), spec.ID))
	await(t, f.Runtime, spec.ID, runtime.StateStopped)
	awaitLines(t, f, spec.ID, 2)
}

// testOwnEnd is a service whose process fails by itself and is not restarted.
func testOwnEnd(t *testing.T, f Fixture) {
	spec := Spec(t, "", "say=bad day", "exit=9")
	started(t, f, spec)
	if o := await(t, f.Runtime, spec.ID, runtime.StateFailed); o.ExitCode != 9 || o.MainPID != 0 {
		t.Fatalf("ended service: %+v", o)
	}
	must(t, f.Runtime.Stop(t.Context(), spec.ID))
	if o := inspect(t, f.Runtime, spec.ID); o.State != runtime.StateStopped || o.ExitCode != 9 || o.Boot {
		t.Fatalf("ended service that was told to stop: %+v", o)
	}
}
