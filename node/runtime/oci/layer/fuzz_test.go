package layer_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/runtime/oci/layer"
	. "github.com/ployz/ployz/node/runtime/oci/ocitest"
)

// FuzzApply feeds any bytes as the upper of two layers: whatever comes, nothing beside the destination
// may change, the lower layer must stay as it is, and an error must have a type.
func FuzzApply(f *testing.F) {
	testenv.Require(f, testenv.Root)
	seeds := [][]Entry{
		{Dir("a", 0o755), File("a/x", 0o4755, "body"), Hardlink("h", "a/x"), Symlink("s", "../sentinel")},
		{Symlink("l", ".."), File("l/sentinel", 0o644, "x")},
		{File("low/link/new", 0o644, "x"), Whiteout("low/file"), Opaque("low")},
		{Whiteout("low"), Dir("low", 0o700), device("d", '3', 1, 3), attribute(File("f", 0o644, ""), "user.x", "y")},
		{Hardlink("h", "../sentinel"), File("low/up/sentinel", 0o644, "x")},
	}
	for _, entries := range seeds {
		stream, err := Layer{Entries: entries}.Tar()
		must(f, err)
		f.Add(stream)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		below, j := newJail(t), newJail(t)
		must(t, apply(t, below.dest, nil, Dir("low", 0o755), File("low/file", 0o644, "low"), Symlink("low/link", "/low"), Symlink("low/up", "../..")))
		_, err := layer.Apply(context.Background(), bytes.NewReader(stream), j.dest, []string{below.dest}, layer.Limits{MaxEntries: 100, MaxBytes: 1 << 20})
		if err != nil && api.CodeOf(err) == api.CodeInternal {
			t.Errorf("untyped: %v", err)
		}
		j.intact()
		below.intact()
		body, err := layer.ReadFile([]string{below.dest}, "low/file", 10)
		if err != nil || string(body) != "low" {
			t.Fatalf("the layer below changed: %q %v", body, err)
		}
	})
}
