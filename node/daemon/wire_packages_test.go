package daemon

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/store/natsstore"
)

// pack makes a package of nothing but its name.
func pack(t *testing.T, name, version string) []byte {
	t.Helper()
	dir := t.TempDir()
	tree, file := filepath.Join(dir, "tree"), filepath.Join(dir, "one.deb")
	if err := os.MkdirAll(filepath.Join(tree, "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: nobody\nDescription: a test\n", name, version)
	if err := os.WriteFile(filepath.Join(tree, "DEBIAN", "control"), []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", tree, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestShelf(t *testing.T) {
	testenv.Require(t, testenv.DebTools)
	s := shelf{filepath.Join(t.TempDir(), "packages")}
	text := pack(t, "ployz", "0.5.0")
	got, err := s.Take(t.Context(), bytes.NewReader(text))
	if err != nil || got.Version != "0.5.0" || got.Architecture != "amd64" || got.Bytes != int64(len(text)) || len(got.Digest) != 64 {
		t.Fatalf("taken: %+v, %v", got, err)
	}
	if held, err := s.Held(t.Context(), got.Digest); err != nil || held != got {
		t.Errorf("held: %+v, %v", held, err)
	}
	for what, bad := range map[string][]byte{"of another name": pack(t, "other", "0.5.0"), "cut short": text[:len(text)/2], "no package": []byte("hello")} {
		if _, err := s.Take(t.Context(), bytes.NewReader(bad)); api.CodeOf(err) != api.CodePackageInvalid {
			t.Errorf("one %s: %v", what, err)
		}
	}
	if list := s.digests(); len(list) != 1 || list[0] != got.Digest {
		t.Errorf("kept: %v", list)
	}
	for _, digest := range []string{strings.Repeat("0", 64), "../../etc/passwd", ""} {
		if _, err := s.Open(digest); api.CodeOf(err) != api.CodePackageAbsent {
			t.Errorf("opening %q: %v", digest, err)
		}
	}
	next, err := s.Take(t.Context(), bytes.NewReader(pack(t, "ployz", "0.6.0")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.keepOnly(next.Digest); err != nil || strings.Join(s.digests(), " ") != next.Digest {
		t.Errorf("kept: %v, %v", s.digests(), err)
	}
	for range 2 {
		if err := s.drop(next.Digest); err != nil || len(s.digests()) > 0 {
			t.Errorf("dropped: %v, %v", s.digests(), err)
		}
	}
}

func TestUnready(t *testing.T) {
	up := func(name string) natsstore.Voter {
		return natsstore.Voter{Name: name + "-1", Peer: natsstore.PeerID(name + "-1"), Online: true, Current: true, Answers: true}
	}
	roster := machine.Roster{Cluster: machine.Cluster{Voters: []string{"a", "b"}}, Members: []machine.Member{{ID: "a", Name: "m1"}, {ID: "b", Name: "m2"}}}
	behind, silent := up("b"), up("b")
	behind.Current, behind.Lag = false, 7
	silent.Answers, silent.Online = false, false
	for name, c := range map[string]struct {
		voters []natsstore.Voter
		leader string
		want   string
	}{
		"all are well":            {[]natsstore.Voter{up("a"), up("b")}, "a-1", ""},
		"one is behind":           {[]natsstore.Voter{up("a"), behind}, "a-1", "b-1: its copy of the store is 7 behind"},
		"one is silent":           {[]natsstore.Voter{up("a"), silent}, "a-1", "m2: it votes in the store and does not answer"},
		"one is not in the group": {[]natsstore.Voter{up("a")}, "a-1", "m2: it votes"},
		"nobody leads":            {[]natsstore.Voter{up("a"), up("b")}, "", "no leader"},
	} {
		list := unready(natsstore.Topology{Voters: c.voters, Leader: c.leader}, roster)
		var said string
		for _, e := range list {
			said += e.Error()
		}
		if (c.want == "") != (len(list) == 0) || !strings.Contains(said, c.want) {
			t.Errorf("%s: %q, want %q", name, said, c.want)
		}
	}
}
