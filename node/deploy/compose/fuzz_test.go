package compose_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy/compose"
)

// FuzzLoad: whatever a file says, Load returns, and what goes wrong is typed.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/golden/*/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte("a: &a [*a]\nservices: *a"))
	f.Add([]byte("services: {a: {<<: [*b, 5], extends: a, image: !reset x}}"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		_, _, err := compose.Load(t.Context(), compose.Options{Path: filepath.Join(dir, "compose.yaml"), Content: content, Name: "fuzz"})
		if api.CodeOf(err) == api.CodeInternal {
			t.Errorf("untyped: %v", err)
		}
	})
}
