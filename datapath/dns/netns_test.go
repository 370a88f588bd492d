package dns

import (
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

// TestSplitViewWithRealAddresses runs in a network namespace of its own that has the addresses
// of a machine's bridge and of its workloads:
//
//	10.101.1.1, fd00:aa:bb:1::1        bridge: where the resolver listens
//	10.101.1.2, fd00:aa:bb:1:0:10:0:1  web-0 in prod
//	fd00:aa:bb:1:0:20:0:7              a workload of dev, known by its address alone
//	10.101.9.9, fd00:aa:bb:2::1        strangers
func TestSplitViewWithRealAddresses(t *testing.T) {
	testenv.Require(t, testenv.Root)
	// Never unlocked: the thread ends with the test, and the namespace with its last socket.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	ip(t, "link", "set", "lo", "up")
	for _, a := range []string{"10.101.1.1", "10.101.1.2", "10.101.9.9"} {
		ip(t, "addr", "add", a+"/32", "dev", "lo")
	}
	for _, a := range []string{"fd00:aa:bb:1::1", "fd00:aa:bb:1:0:10:0:1", "fd00:aa:bb:1:0:20:0:7", "fd00:aa:bb:2::1"} {
		ip(t, "addr", "add", a+"/128", "dev", "lo", "nodad")
		awaitLocal(t, a)
	}
	z := testZone()
	z.Self = []netip.Addr{v4("10.101.1.1"), netip.MustParseAddr("fd00:aa:bb:1::1")}
	z.Prefixes[0] = netip.MustParsePrefix("10.101.0.0/16")
	z.Machines, z.Locals = nil, nil
	z.Namespaces[0].Services = z.Namespaces[0].Services[:2]
	z.Namespaces[0].Services[0].Instances = []Instance{{ID: "a", Slot: "web-0", Machine: "m1", V4: v4("10.101.1.2"), V6: v6(prodID, 1), Ready: true}}
	z.Namespaces[0].Services[1].Instances = []Instance{{ID: "d", Slot: "db-0", Machine: "m2", V4: v4("10.101.2.5"), Ready: true}}
	z.Namespaces[1].Services = nil
	s := NewServer() // with what it trusts by default
	if err := s.Apply(z); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ from, web, db string }{
		{"10.101.1.2", "NOERROR aa 10.101.1.2", "NOERROR aa 10.101.2.5"},
		{"fd00:aa:bb:1:0:10:0:1", "NOERROR aa 10.101.1.2", "NOERROR aa 10.101.2.5"},
		{"fd00:aa:bb:1:0:20:0:7", "NOERROR aa 10.101.1.2", noName},
		{"10.101.1.1", "NOERROR aa 10.101.1.2", "NOERROR aa 10.101.2.5"},
		{"fd00:aa:bb:1::1", "NOERROR aa 10.101.1.2", "NOERROR aa 10.101.2.5"},
		{"127.0.0.1", "NOERROR aa 10.101.1.2", "NOERROR aa 10.101.2.5"},
		{"10.101.9.9", "REFUSED", "REFUSED"},
		{"fd00:aa:bb:2::1", "REFUSED", "REFUSED"},
	}
	at := map[bool]netip.AddrPort{true: serving(t, s, "10.101.1.1"), false: serving(t, s, "fd00:aa:bb:1::1")}
	for _, tt := range tests {
		from := netip.MustParseAddr(tt.from)
		for _, network := range []string{"udp", "tcp"} {
			web := ask(t, network, from, at[from.Is4()], question("web.prod.ployz.internal.", dns.TypeA))
			db := ask(t, network, from, at[from.Is4()], question("db.prod.ployz.internal.", dns.TypeA))
			if picture(web) != tt.web || picture(db) != tt.db {
				t.Errorf("%s from %s: web %s, db %s; want %s, %s", network, tt.from, picture(web), picture(db), tt.web, tt.db)
			}
		}
	}
}

// awaitLocal waits until packets to an IPv6 address arrive: the kernel makes its route a moment
// after it has taken the address.
func awaitLocal(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(ip(t, "-6", "route", "show", "table", "local"), "local "+addr+" "); {
		if time.Now().After(deadline) {
			t.Fatalf("%s has no route of its own", addr)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
	return string(out)
}
