package mesh_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/mesh"
)

var (
	now     = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	home    = netip.MustParseAddrPort("198.51.100.2:51820")
	office  = netip.MustParseAddrPort("203.0.113.2:51820")
	roamed  = netip.MustParseAddrPort("192.0.2.77:4711")
	subnets = []netip.Prefix{netip.MustParsePrefix("10.101.2.0/24"), netip.MustParsePrefix("fd12:3456:789a:2::/64")}
	private = mesh.GenerateKey()
	peerKey = mesh.GenerateKey().Public()
)

func two() mesh.Peer {
	return mesh.Peer{Machine: "two", PublicKey: peerKey, Endpoints: []netip.AddrPort{home, office}, AllowedIPs: subnets}
}

func seenTwo(at netip.AddrPort, handshake time.Time) mesh.SeenPeer {
	return mesh.SeenPeer{PublicKey: peerKey, Endpoint: at, AllowedIPs: subnets, LastHandshake: handshake}
}

func TestDiff(t *testing.T) {
	never := time.Time{}
	silent, kept, other := two(), two(), two()
	silent.Endpoints, kept.Keepalive, other.Machine, other.PublicKey = nil, mesh.NATKeepalive, "three", mesh.GenerateKey().Public()
	half, reversed := seenTwo(home, never), seenTwo(home, never)
	half.AllowedIPs, reversed.AllowedIPs = subnets[:1], []netip.Prefix{subnets[1], subnets[0]}
	tooMany := seenTwo(home, never)
	tooMany.AllowedIPs = append(slices.Clone(subnets), netip.MustParsePrefix("10.9.0.0/16"))
	for name, c := range map[string]struct {
		want []mesh.Peer
		have []mesh.SeenPeer
		text string
	}{
		"nothing wanted, nothing there": {nil, nil, ""},
		"as wanted":                     {[]mesh.Peer{two()}, []mesh.SeenPeer{seenTwo(home, never)}, ""},
		"another order":                 {[]mesh.Peer{two()}, []mesh.SeenPeer{reversed}, ""},
		"the second candidate":          {[]mesh.Peer{two()}, []mesh.SeenPeer{seenTwo(office, never)}, ""},
		"missing":                       {[]mesh.Peer{two()}, nil, "add peer two at 198.51.100.2:51820 10.101.2.0/24 fd12:3456:789a:2::/64"},
		"missing, without endpoint":     {[]mesh.Peer{silent}, nil, "add peer two 10.101.2.0/24 fd12:3456:789a:2::/64"},
		"without endpoint, it called":   {[]mesh.Peer{silent}, []mesh.SeenPeer{seenTwo(roamed, never)}, ""},
		"roamed, fresh":                 {[]mesh.Peer{two()}, []mesh.SeenPeer{seenTwo(roamed, now.Add(-mesh.FreshFor+1))}, ""},
		"roamed, stale":                 {[]mesh.Peer{two()}, []mesh.SeenPeer{seenTwo(roamed, now.Add(-mesh.FreshFor))}, "update peer two at 198.51.100.2:51820"},
		"a candidate withdrawn":         {[]mesh.Peer{two()}, []mesh.SeenPeer{seenTwo(roamed, never)}, "update peer two at 198.51.100.2:51820"},
		"a subnet missing":              {[]mesh.Peer{two()}, []mesh.SeenPeer{half}, "update peer two fd12:3456:789a:2::/64"},
		"a subnet too many":             {[]mesh.Peer{two()}, []mesh.SeenPeer{tooMany}, "update peer two with only 10.101.2.0/24 fd12:3456:789a:2::/64"},
		"keepalive":                     {[]mesh.Peer{kept}, []mesh.SeenPeer{seenTwo(home, never)}, "update peer two keepalive 25s"},
		"unwanted":                      {nil, []mesh.SeenPeer{seenTwo(home, now)}, "remove peer " + peerKey.String()},
		"replaced by another with its subnets": {[]mesh.Peer{other}, []mesh.SeenPeer{seenTwo(home, now)},
			"add peer three at 198.51.100.2:51820 10.101.2.0/24 fd12:3456:789a:2::/64; remove peer " + peerKey.String()},
	} {
		wanted := mesh.Wanted{Private: private, ListenPort: 51820, Peers: c.want}
		seen := mesh.Seen{PublicKey: private.Public(), ListenPort: 51820, Peers: c.have}
		change := mesh.Diff(wanted, seen, now)
		if got := strings.Join(change.Text(), "; "); got != c.text || change.Empty() != (c.text == "") {
			t.Errorf("%s: got %q, want %q", name, got, c.text)
		}
	}
}

func TestDiffOfTheDeviceItself(t *testing.T) {
	change := mesh.Diff(mesh.Wanted{Private: private, ListenPort: 51820}, mesh.Seen{ListenPort: 40000}, now)
	if got := strings.Join(change.Text(), "; "); got != "set the key of "+private.Public().String()+"; listen on port 51820" {
		t.Error(got)
	}
}

// A subnet that moves is taken by the one that gains it; the loser is not touched, and what goes goes last.
func TestGainsComeFirst(t *testing.T) {
	loser, gainer, gone := two(), two(), mesh.GenerateKey().Public()
	gainer.Machine, gainer.PublicKey = "three", mesh.GenerateKey().Public()
	loser.AllowedIPs, gainer.AllowedIPs = subnets[:1], subnets[1:]
	change := mesh.Diff(
		mesh.Wanted{Private: private, Peers: []mesh.Peer{loser, gainer}},
		mesh.Seen{PublicKey: private.Public(), Peers: []mesh.SeenPeer{{PublicKey: gone}, seenTwo(home, now)}}, now)
	want := "add peer three at 198.51.100.2:51820 fd12:3456:789a:2::/64; remove peer " + gone.String()
	if got := strings.Join(change.Text(), "; "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
