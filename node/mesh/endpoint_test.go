package mesh_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ployz/ployz/node/mesh"
)

func endpoints(text ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range text {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

func TestCandidates(t *testing.T) {
	own := endpoints("198.51.100.2:51820", "[2001:db8::2]:51820", "127.0.0.1:51820", "[fe80::1]:51820", "0.0.0.0:51820", "198.51.100.3:0")
	observed := endpoints("[::ffff:198.51.100.2]:51820", "203.0.113.9:7001")
	want := endpoints("198.51.100.2:51820", "[2001:db8::2]:51820", "203.0.113.9:7001")
	if got := mesh.Candidates(own, nil, observed); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var many []netip.AddrPort
	for port := range uint16(50) {
		many = append(many, netip.AddrPortFrom(home.Addr(), port+1))
	}
	if got := mesh.Candidates(many); len(got) != mesh.MaxCandidates || got[0] != many[0] {
		t.Errorf("of many: %v", got)
	}
}

func TestBehindNAT(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("192.168.1.7"), netip.MustParseAddr("2001:db8::7")}
	for name, c := range map[string]struct {
		observed []netip.AddrPort
		behind   bool
	}{
		"nobody sees it":         {nil, false},
		"as it is":               {endpoints("192.168.1.7:51820"), false},
		"as it is, by IPv6":      {endpoints("203.0.113.1:9", "[2001:db8::7]:51820"), false},
		"only as somebody else":  {endpoints("203.0.113.1:51820"), true},
		"mapped, but as it is":   {endpoints("[::ffff:192.168.1.7]:51820"), false},
		"as several, none of it": {endpoints("203.0.113.1:1", "203.0.113.1:2"), true},
	} {
		if got := mesh.BehindNAT(own, c.observed); got != c.behind {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestObservedAreFreshOnes(t *testing.T) {
	stale := mesh.SeenPeer{PublicKey: mesh.GenerateKey().Public(), Endpoint: office, LastHandshake: now.Add(-time.Hour)}
	got := mesh.Seen{Peers: []mesh.SeenPeer{seenTwo(roamed, now), stale, {}}}.Observed(now)
	if len(got) != 1 || got[peerKey] != roamed {
		t.Errorf("got %v", got)
	}
}

// A moment in the life of a search: what the device shows then, and what is tried.
type moment struct {
	after  time.Duration
	rx, tx int64
	// shake is the age of the last handshake, 0 for none.
	shake time.Duration
	// try is set, "" for nothing; tried is the count shown afterwards.
	try   string
	tried int
}

func TestRotation(t *testing.T) {
	const a, b = "198.51.100.2:51820", "203.0.113.2:51820"
	for name, life := range map[string][]moment{
		"silent and well": {
			{0, 0, 0, 0, "", 0}, {time.Hour, 0, 0, 0, "", 0}, {2 * time.Hour, 0, 0, 0, "", 0},
		},
		"answers": {
			{0, 0, 0, 0, "", 0}, {10 * time.Second, 92, 148, 0, "", 0}, {time.Minute, 500, 900, 0, "", 0},
		},
		"no answer, round and round, slower each time": {
			{0, 0, 0, 0, "", 0}, {14 * time.Second, 0, 148, 0, "", 0}, {15 * time.Second, 0, 296, 0, b, 1},
			{29 * time.Second, 0, 400, 0, "", 1}, {30 * time.Second, 0, 444, 0, a, 2},
			{59 * time.Second, 0, 500, 0, "", 2}, {60 * time.Second, 0, 592, 0, b, 3},
		},
		"an answer ends it": {
			{0, 0, 0, 0, "", 0}, {15 * time.Second, 0, 148, 0, b, 1}, {20 * time.Second, 92, 240, 0, "", 0}, {36 * time.Second, 92, 300, 0, a, 1},
		},
		"fresh handshakes are left alone": {
			{0, 9, 9, time.Second, "", 0}, {time.Minute, 9, 900, time.Minute, "", 0}, {175 * time.Second, 9, 999, 175 * time.Second, "", 0},
			{200 * time.Second, 9, 1100, 200 * time.Second, b, 1},
		},
		"silence before the first packet does not count": {
			{0, 0, 0, 0, "", 0}, {time.Hour, 0, 0, 0, "", 0}, {time.Hour + time.Second, 0, 148, 0, "", 0}, {time.Hour + 15*time.Second, 0, 296, 0, b, 1},
		},
		"a new device starts anew": {
			{0, 5000, 5000, 0, "", 0}, {time.Minute, 0, 148, 0, "", 0}, {61 * time.Second, 0, 148, 0, "", 0},
		},
	} {
		t.Run(name, func(t *testing.T) { live(t, life) })
	}
}

func live(t *testing.T, life []moment) {
	var search mesh.Rotation
	seen := seenTwo(home, time.Time{})
	for _, m := range life {
		at := now.Add(m.after)
		seen.Rx, seen.Tx = m.rx, m.tx
		if m.shake != 0 {
			seen.LastHandshake = at.Add(-m.shake)
		}
		var next netip.AddrPort
		search, next = search.Next(two(), seen, at)
		got := ""
		if next.IsValid() {
			seen.Endpoint, got = next, next.String()
		}
		if got != m.try || search.Tried != m.tried {
			t.Errorf("after %s: tried %q (%d), want %q (%d)", m.after, got, search.Tried, m.try, m.tried)
		}
	}
}

func TestRotationIsBounded(t *testing.T) {
	search, seen, tries := mesh.Rotation{}, seenTwo(home, time.Time{}), 0
	for second := range 24 * 3600 {
		seen.Tx++
		var next netip.AddrPort
		search, next = search.Next(two(), seen, now.Add(time.Duration(second)*time.Second))
		if next.IsValid() {
			seen.Endpoint = next
			tries++
		}
	}
	if tries < 280 || tries > 310 {
		t.Errorf("%d tries in a day", tries)
	}
}

func TestOneCandidateIsNotRotated(t *testing.T) {
	lone := two()
	lone.Endpoints = lone.Endpoints[:1]
	search, _ := mesh.Rotation{}.Next(lone, seenTwo(home, time.Time{}), now)
	seen := seenTwo(home, time.Time{})
	seen.Tx = 1000
	if _, next := search.Next(lone, seen, now.Add(time.Hour)); next.IsValid() {
		t.Errorf("tried %s", next)
	}
}

// Rotate writes endpoints and nothing else, and forgets peers that are not wanted.
func TestRotate(t *testing.T) {
	seen := mesh.Seen{Peers: []mesh.SeenPeer{seenTwo(home, time.Time{})}}
	change, searches := mesh.Rotate([]mesh.Peer{two()}, seen, map[mesh.Key]mesh.Rotation{{1}: {}}, now)
	if !change.Empty() || len(searches) != 1 {
		t.Errorf("at first: %q, %v", change.Text(), searches)
	}
	seen.Peers[0].Tx = 148
	change, searches = mesh.Rotate([]mesh.Peer{two()}, seen, searches, now.Add(time.Minute))
	if text := change.Text(); len(text) != 1 || text[0] != "update peer two at "+office.String() || searches[peerKey].Tried != 1 {
		t.Errorf("later: %q, %v", text, searches)
	}
	if change, searches = mesh.Rotate(nil, seen, searches, now); !change.Empty() || len(searches) > 0 {
		t.Errorf("unwanted: %q, %v", change.Text(), searches)
	}
}

func TestLost(t *testing.T) {
	since := mesh.Rotation{Endpoint: home, Since: now.Add(-mesh.Patience), Rx: 10, Tx: 20}
	young := since
	young.Since = now.Add(-mesh.Patience + 1)
	tried := since
	tried.Tried = 1
	stale := now.Add(-mesh.FreshFor)
	for name, c := range map[string]struct {
		peer   mesh.SeenPeer
		search mesh.Rotation
		want   bool
	}{
		"nobody ever sent anything":        {mesh.SeenPeer{}, since, false},
		"it never answered":                {mesh.SeenPeer{Tx: 148}, mesh.Rotation{}, true},
		"its session carries":              {mesh.SeenPeer{LastHandshake: now.Add(-time.Minute), Tx: 30, Rx: 10}, tried, false},
		"silent, and nobody talks to it":   {mesh.SeenPeer{LastHandshake: stale, Tx: 20, Rx: 10}, since, false},
		"sent in vain for long":            {mesh.SeenPeer{LastHandshake: stale, Tx: 30, Rx: 10}, since, true},
		"sent in vain for a moment":        {mesh.SeenPeer{LastHandshake: stale, Tx: 30, Rx: 10}, young, false},
		"something came":                   {mesh.SeenPeer{LastHandshake: stale, Tx: 30, Rx: 11}, since, false},
		"other endpoints were tried":       {mesh.SeenPeer{LastHandshake: stale, Tx: 20, Rx: 10}, tried, true},
		"the search has not begun, silent": {mesh.SeenPeer{LastHandshake: stale, Tx: 20, Rx: 10}, mesh.Rotation{}, false},
	} {
		if got := c.peer.Lost(c.search, now); got != c.want {
			t.Errorf("%s: lost %v", name, got)
		}
	}
}
