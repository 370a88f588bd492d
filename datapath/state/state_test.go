package state_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/datapath/state"
)

type note struct {
	Text string `json:"text"`
}

func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b.json")
	for _, want := range []note{{"one"}, {"two"}} {
		if err := state.Save(path, want); err != nil {
			t.Fatal(err)
		}
		var got note
		if err := state.Load(path, &got); err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 1 {
		t.Errorf("a temporary file stayed: %v, %v", files, err)
	}
}

func TestSaveKeepsTheOldOnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.json")
	if err := state.Save(path, note{"old"}); err != nil {
		t.Fatal(err)
	}
	if err := state.Save(path, make(chan int)); err == nil {
		t.Error("a channel was saved")
	}
	var got note
	if err := state.Load(path, &got); err != nil || got.Text != "old" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestLoadRefusesWhatItDoesNotKnow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.json")
	if err := os.WriteFile(path, []byte(`{"text": "x", "more": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := state.Load(path, &note{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want an error with the path", err)
	}
}

func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.json")
	if err := state.Save(path, note{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := state.Remove(path); err != nil {
			t.Error(err)
		}
	}
	if err := state.Load(path, &note{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
