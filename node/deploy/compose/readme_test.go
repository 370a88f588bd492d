package compose

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadmeTable keeps the README's table of keys the one that the code goes by.
// PLOYZ_UPDATE_GOLDEN=1 writes it anew.
func TestReadmeTable(t *testing.T) {
	const from, to = "<!-- keys: made by node/deploy/compose/readme_test.go -->\n", "<!-- /keys -->\n"
	path := filepath.Join("..", "..", "..", "README.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(text), from)
	have, after, ended := strings.Cut(rest, to)
	if !begun || !ended {
		t.Fatalf("README.md has no table of keys between %q and %q", from, to)
	}
	want := "```text\n" + Table() + "```\n"
	if have == want {
		return
	}
	if os.Getenv("PLOYZ_UPDATE_GOLDEN") == "" {
		t.Fatal("README.md has another table of keys than the code: PLOYZ_UPDATE_GOLDEN=1 go test -run TestReadmeTable ./node/deploy/compose")
	}
	if err := os.WriteFile(path, []byte(before+from+want+to+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
