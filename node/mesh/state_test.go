package mesh_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/mesh"
)

func state() mesh.State {
	return mesh.State{
		Interface: "ployz-wg", MTU: 1420, ListenPort: 51820, KeyFile: "/var/lib/ployz/keys/wireguard.key",
		Source4: netip.MustParseAddr("10.101.1.1"), Source6: netip.MustParseAddr("fd12:3456:789a:1::1"),
		Cluster: []netip.Prefix{netip.MustParsePrefix("10.101.0.0/16"), netip.MustParsePrefix("fd12:3456:789a::/48")},
		Peers:   []mesh.Peer{two()},
	}
}

func TestStateComesBack(t *testing.T) {
	path := mesh.StateFile(t.TempDir())
	if _, err := mesh.LoadState(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	want := state()
	want.Peers[0].Keepalive = mesh.NATKeepalive
	if err := want.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := mesh.LoadState(path)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if status, err := os.Stat(path); err != nil || status.Mode() != 0o600 {
		t.Errorf("%v, %v", status, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDamagedState(t *testing.T) {
	path := mesh.StateFile(t.TempDir())
	if err := state().Save(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string]string{
		"half":               string(text[:len(text)/2]),
		"empty":              "",
		"of a newer version": strings.Replace(string(text), `"mtu"`, `"jumbo": true, "mtu"`, 1),
	} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := mesh.LoadState(path); api.CodeOf(err) != api.CodeMeshState {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInvalidState(t *testing.T) {
	path := mesh.StateFile(t.TempDir())
	for name, spoil := range map[string]func(*mesh.State){
		"no interface":        func(s *mesh.State) { s.Interface = "" },
		"a long interface":    func(s *mesh.State) { s.Interface = "ployz-wireguard0" },
		"no port":             func(s *mesh.State) { s.ListenPort = 0 },
		"a relative key file": func(s *mesh.State) { s.KeyFile = "key" },
		"no key":              func(s *mesh.State) { s.Peers[0].PublicKey = mesh.Key{} },
		"one key twice":       func(s *mesh.State) { s.Peers = append(s.Peers, mesh.Peer{PublicKey: peerKey}) },
		"one subnet twice": func(s *mesh.State) {
			s.Peers = append(s.Peers, mesh.Peer{PublicKey: mesh.Key{1}, AllowedIPs: subnets[:1]})
		},
		"a subnet in another": func(s *mesh.State) {
			s.Peers = append(s.Peers, mesh.Peer{PublicKey: mesh.Key{1}, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.101.0.0/16")}})
		},
		"everything":      func(s *mesh.State) { s.Peers[0].AllowedIPs = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} },
		"an unmasked one": func(s *mesh.State) { s.Peers[0].AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.101.2.1/24")} },
		"half a second":   func(s *mesh.State) { s.Peers[0].Keepalive = time.Second / 2 },
	} {
		s := state()
		spoil(&s)
		if err := s.Save(path); api.CodeOf(err) != api.CodeMeshInvalid {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s was written", name)
		}
	}
}
