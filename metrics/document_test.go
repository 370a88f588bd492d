package metrics

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table in docs/metrics.md anew")

const begin, end = "<!-- catalogue -->\n", "<!-- end -->"

// TestDocumented holds the table that operators read to the catalogue.
func TestDocumented(t *testing.T) {
	path := filepath.Join("..", "docs", "metrics.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	have, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the table", path)
	}
	want := tables()
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("the table in %s is not the catalogue: go test ./metrics -update", path)
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tables has one for each set of programs that tell the same.
func tables() string {
	var b strings.Builder
	last := ""
	for _, f := range catalogue {
		if who := title(f.Programs); who != last {
			fmt.Fprintf(&b, "\n### %s\n\n| figure | labels | kind | |\n|---|---|---|---|\n", who)
			last = who
		}
		labels := strings.Join(f.Labels, ", ")
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, labels, f.Kind, f.Help)
	}
	return b.String() + "\n"
}

func title(programs []Program) string {
	if len(programs) == len(Programs()) {
		return "Every program"
	}
	names := make([]string, len(programs))
	for i, p := range programs {
		names[i] = "`" + string(p) + "`"
	}
	return strings.Join(names, " and ")
}
