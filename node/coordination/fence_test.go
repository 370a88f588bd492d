package coordination_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/store"
)

func open(t *testing.T, path string) *coordination.Fences {
	t.Helper()
	f, err := coordination.OpenFences(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFences(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "fences.json")
	f := open(t, path)
	for _, step := range []struct {
		scope  string
		fence  store.Revision
		reopen bool
		want   api.Code
	}{
		{"ns/a", 5, false, ""},
		{"ns/a", 5, false, ""}, // the same coordinator's next command
		{"ns/a", 9, false, ""}, // renewed, or taken over
		{"ns/a", 5, false, api.CodeLeaseLost},
		{"ns/b", 3, false, ""}, // another scope is another matter
		{"ns/a", 8, true, api.CodeLeaseLost},
		{"ns/a", 9, true, ""},
		{"ns/b", 2, true, api.CodeLeaseLost},
	} {
		if step.reopen {
			f = open(t, path)
		}
		if err := f.Admit(step.scope, step.fence); api.CodeOf(err) != step.want {
			t.Errorf("Admit(%s, %d) = %v, want %q", step.scope, step.fence, err, step.want)
		}
	}
}

// TestFencesDamaged: a file that cannot be read lets nobody in, and says what to do.
func TestFencesDamaged(t *testing.T) {
	for _, text := range []string{"", "{", "null", "[1]", `{"ns/a": -1}`, `{"ns/a": "9"}`} {
		path := filepath.Join(t.TempDir(), "fences.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := coordination.OpenFences(path)
		if err == nil || f != nil || api.AsError(err).Hint == "" {
			t.Errorf("%q opens: %v", text, err)
		}
	}
	dir := t.TempDir()
	if _, err := coordination.OpenFences(dir); err == nil {
		t.Error("a folder opens")
	}
}

// TestFenceNotWritten: what is not on disk was not admitted.
func TestFenceNotWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	path := filepath.Join(dir, "fences.json")
	f := open(t, path)
	if err := f.Admit("ns/a", 5); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the folder was
		t.Fatal(err)
	}
	if err := f.Admit("ns/a", 6); err == nil {
		t.Fatal("a fence that could not be written was admitted")
	}
	if err := f.Admit("ns/a", 5); err != nil {
		t.Errorf("the one that is on disk: %v", err)
	}
}
