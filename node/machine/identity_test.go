package machine_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
)

// TestLoadIdentity: none, a written one, and one that only half reached the disk are three answers.
func TestLoadIdentity(t *testing.T) {
	state := t.TempDir()
	if _, err := machine.LoadIdentity(state); api.CodeOf(err) != api.CodeNotInitialised {
		t.Errorf("without a file: %v", err)
	}
	if err := (machine.Identity{ID: "m1", Name: "one", Member: true}).Save(state); err != nil {
		t.Fatal(err)
	}
	if i, err := machine.LoadIdentity(state); err != nil || i.ID != "m1" || !i.Member {
		t.Errorf("the saved one: %+v, %v", i, err)
	}
	file := filepath.Join(state, "machine.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text[:len(text)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = machine.LoadIdentity(state)
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.CodeMachineDamaged || e.Subject != state {
		t.Errorf("half a file: %v", err)
	}
}
