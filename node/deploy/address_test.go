package deploy

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

var subnet = Subnet{V4: netip.MustParsePrefix("10.101.7.0/24"), V6: netip.MustParsePrefix("fd00:1:2:7::/64")}

// TestAddressesUntilExhaustion gives every address once, and none that is the network's or the machine's own.
func TestAddressesUntilExhaustion(t *testing.T) {
	taken := map[string]runtime.Addresses{}
	seen := map[netip.Addr]bool{
		netip.MustParseAddr("10.101.7.0"): true, netip.MustParseAddr("10.101.7.1"): true, netip.MustParseAddr("10.101.7.255"): true,
		netip.MustParseAddr("fd00:1:2:7::1"): true,
	}
	for i := range 253 {
		id := fmt.Sprintf("shop-web-%d", i)
		got, err := subnet.choose(runtime.Spec{ID: id, NamespaceID: 0x2a}, taken)
		if err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
		for _, addr := range []netip.Addr{got.V4, got.V6} {
			if seen[addr] || !subnet.V4.Contains(addr) && !subnet.V6.Contains(addr) {
				t.Errorf("%s got %s", id, addr)
			}
			seen[addr] = true
		}
		taken[id] = got
	}
	if _, err := subnet.choose(runtime.Spec{ID: "one-more"}, taken); api.CodeOf(err) != api.CodeNoMachine {
		t.Errorf("one more than there are: %v", err)
	}
	delete(taken, "shop-web-7")
	if _, err := subnet.choose(runtime.Spec{ID: "one-more"}, taken); err != nil {
		t.Errorf("after one was given back: %v", err)
	}
}

// TestAddressForm: the low half of the v6 address is namespace and workload, and the choice hangs on the id alone.
func TestAddressForm(t *testing.T) {
	a, err := subnet.choose(runtime.Spec{ID: "shop-web-0-abc", NamespaceID: 0xdeadbeef}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := subnet.choose(runtime.Spec{ID: "shop-web-0-abc", NamespaceID: 0xdeadbeef}, nil)
	if err != nil || a != b {
		t.Errorf("%v and %v (%v)", a, b, err)
	}
	bytes := a.V6.As16()
	if got := fmt.Sprintf("%x", bytes[8:12]); got != "deadbeef" {
		t.Errorf("the namespace in %s is %s", a.V6, got)
	}
	other, err := subnet.choose(runtime.Spec{ID: "shop-web-0-abd", NamespaceID: 0xdeadbeef}, nil)
	if err != nil || other == a {
		t.Errorf("another id got %v (%v)", other, err)
	}
	odd := Subnet{V4: netip.MustParsePrefix("10.101.7.9/24"), V6: netip.MustParsePrefix("fd00:1:2:7::9/64")}
	if c, err := odd.choose(runtime.Spec{ID: "shop-web-0-abc", NamespaceID: 0xdeadbeef}, nil); err != nil || c != a {
		t.Errorf("a prefix with its host bits set: %v (%v)", c, err)
	}
}
