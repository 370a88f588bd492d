package compose_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/deploy/compose"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden is what a load gives, as it is kept: contents as text, for people to read.
type golden struct {
	Spec     api.Spec          `json:"spec"`
	Contents map[string]string `json:"contents,omitempty"`
	Notes    []string          `json:"notes,omitempty"`
}

// TestGolden loads real-life files and compares the whole spec. `go test -update` writes them anew.
func TestGolden(t *testing.T) {
	env := map[string]string{"REGION": "eu", "TOKEN": "t0ken", "COMPOSE_PROFILES": "admin"}
	dirs, err := filepath.Glob("testdata/golden/*")
	if err != nil || len(dirs) < 10 {
		t.Fatalf("%d golden folders, %v", len(dirs), err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			spec, notes, err := compose.Load(t.Context(), compose.Options{Path: dir, Env: env})
			if err != nil {
				for _, d := range api.AsError(err).Details {
					t.Error(d)
				}
				t.Fatal(err)
			}
			for _, e := range deploy.Check(spec) {
				t.Errorf("the kernel refuses it: %v", e)
			}
			throughJSON(t, spec)
			compare(t, filepath.Join(dir, "spec.json"), picture(spec, notes))
		})
	}
}

// throughJSON checks that the spec arrives at the daemon as it was sent.
func throughJSON(t *testing.T, spec api.Spec) {
	t.Helper()
	sent, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var arrived api.Spec
	if err := json.Unmarshal(sent, &arrived); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(arrived)
	if err != nil || !bytes.Equal(sent, again) {
		t.Errorf("sent %s, arrived %s (%v)", sent, again, err)
	}
}

func picture(spec api.Spec, notes []compose.Note) golden {
	g := golden{Spec: spec, Contents: map[string]string{}}
	for name, s := range spec.Secrets {
		g.Contents["secret "+name] = string(s.Value)
	}
	for name, c := range spec.Configs {
		g.Contents["config "+name] = string(c.Content)
	}
	for _, n := range notes {
		g.Notes = append(g.Notes, n.Place+": "+n.Text)
	}
	return g
}

func compare(t *testing.T, path string, got golden) {
	t.Helper()
	text, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("%s differs; it is now\n%s", path, text)
	}
}
