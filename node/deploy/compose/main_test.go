package compose_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy/compose"
)

func write(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// lay writes files of one text: "-- NAME --" begins each.
func lay(t testing.TB, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	name, content := "compose.yaml", []string{}
	flush := func() {
		if len(content) > 0 {
			write(t, dir, name, strings.Join(content, "\n"))
		}
		content = nil
	}
	for _, line := range strings.Split(text, "\n") {
		if next, ok := strings.CutPrefix(line, "-- "); ok {
			flush()
			name = strings.TrimSuffix(next, " --")
			continue
		}
		content = append(content, line)
	}
	flush()
	return dir
}

// load loads the file of a folder under its bare name, as an operator standing in it would.
func load(t testing.TB, dir string, o compose.Options) (api.Spec, []compose.Note, error) {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(dir, "compose.yaml")
	}
	return compose.Load(t.Context(), o)
}

// said is an error as lines of "LINE PATH CODE", without the folder.
func said(err error) []string {
	if err == nil {
		return nil
	}
	all := []*api.Error{api.AsError(err)}
	if len(all[0].Details) > 0 {
		all = all[0].Details
	}
	var lines []string
	for _, e := range all {
		lines = append(lines, filepath.Base(strings.SplitN(e.Subject, ": ", 2)[0])+" "+after(e.Subject)+" "+string(e.Code))
	}
	return lines
}

func after(subject string) string {
	_, path, _ := strings.Cut(subject, ": ")
	return path
}
