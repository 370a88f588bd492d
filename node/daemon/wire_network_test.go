package daemon

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/runtime"
)

func testNetwork(t *testing.T) *network {
	return &network{daemon: &Daemon{State: t.TempDir(), Run: t.TempDir()}, self: machine.Identity{
		Overlay: netip.MustParseAddr("fd00:1:2:1::1"),
		Subnet4: netip.MustParsePrefix("10.101.1.0/24"), Subnet6: netip.MustParsePrefix("fd00:1:2:1::/64"),
		CIDR: netip.MustParsePrefix("10.101.0.0/16"), Prefix: netip.MustParsePrefix("fd00:1:2::/48"),
	}}
}

// TestAttachElsewhere: an address of another machine's range is refused before anything is written.
func TestAttachElsewhere(t *testing.T) {
	n := testNetwork(t)
	here := runtime.Addresses{V4: netip.MustParseAddr("10.101.1.7"), V6: netip.MustParseAddr("fd00:1:2:1:0:7:0:1")}
	if err := n.Attach(t.Context(), "web-0-x7k2", 7, here); err != nil {
		t.Fatal(err)
	}
	elsewhere := runtime.Addresses{V4: netip.MustParseAddr("10.101.2.7"), V6: here.V6}
	wantNetworkFailed(t, n.Attach(t.Context(), "web-1-y8m3", 7, elsewhere), "instance web-1-y8m3")
	taken, err := n.Taken(t.Context())
	if err != nil || len(taken) != 1 || taken["web-0-x7k2"] != here {
		t.Errorf("taken: %v, %v", taken, err)
	}
}

// TestTakenDamaged: an address that cannot be read may be taken, so that none is given away meanwhile.
func TestTakenDamaged(t *testing.T) {
	n := testNetwork(t)
	file := n.linkFile("web-0-x7k2")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(`{"id":`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := n.Taken(t.Context())
	wantNetworkFailed(t, err, "instance web-0-x7k2")
}

func wantNetworkFailed(t *testing.T, err error, subject string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.CodeNetworkFailed || e.Subject != subject {
		t.Errorf("got %v, wanted network.failed about %s", err, subject)
	}
}
