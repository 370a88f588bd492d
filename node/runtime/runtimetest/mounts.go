package runtimetest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// testMounts: a mount is a part of what the instance is, and what it shows outlives the instance.
func testMounts(t *testing.T, f Fixture) {
	spec := Spec(t, "", "serve")
	source := f.Folder(t)
	must(t, os.WriteFile(filepath.Join(source, "kept"), []byte("rows"), 0o644))
	spec.Mounts = []runtime.Mount{{Volume: "v1", Source: source, Target: "/data"}, {Volume: "v1", Source: source, Target: "/read", ReadOnly: true}}
	addrs := started(t, f, spec)
	if o := inspect(t, f.Reopen(), spec.ID); !slices.Equal(o.Spec.Mounts, spec.Mounts) || len(o.Drift) != 0 {
		t.Fatalf("mounts %+v, drift %v", o.Spec.Mounts, o.Drift)
	}
	other := spec
	other.Mounts = []runtime.Mount{{Volume: "v2", Source: f.Folder(t), Target: "/data"}}
	wantCode(t, f.Runtime.Prepare(t.Context(), other, f.Image, addrs), api.CodeRuntimeConflict)
	must(t, f.Runtime.Stop(t.Context(), spec.ID))
	must(t, f.Runtime.Remove(t.Context(), spec.ID))
	if text, err := os.ReadFile(filepath.Join(source, "kept")); err != nil || string(text) != "rows" {
		t.Fatalf("after Remove the volume holds %q, %v", text, err)
	}
	for _, m := range []runtime.Mount{{Target: "/data"}, {Source: "data", Target: "/data"}, {Source: source, Target: "data"}, {Source: source, Target: "/"}, {Source: source + "/../x", Target: "/data"}} {
		bad := Spec(t, "-bad", "serve")
		bad.Mounts = []runtime.Mount{m}
		wantCode(t, f.Runtime.Prepare(t.Context(), bad, f.Image, f.Addresses()), api.CodeRuntimeInvalid)
	}
}
