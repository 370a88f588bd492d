package store_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/node/store"
)

func TestKeys(t *testing.T) {
	for key, want := range map[store.Key]string{
		store.Cluster():                     "cluster",
		store.Machine("m1"):                 "machine.m1",
		store.Head("shop"):                  "head.shop",
		store.Commit("shop", "c1"):          "ns.shop.commit.c1",
		store.Instance("shop", "i1"):        "ns.shop.inst.i1",
		store.Hostname("*.Shop.example"):    "host._any_shop_example",
		store.Lease("namespace/shop"):       "lease.namespace_shop",
		store.NamespaceID("0000002a"):       "nsid.0000002a",
		store.GatewayPort(5432):             "port.5432",
		store.MachinePort("m1", "udp", 53):  "machineport.m1.udp.53",
		store.Secret("shop", "db-password"): "ns.shop.secret.db-password",
		store.Volume("shop", "v1"):          "ns.shop.volume.v1",
		store.Branch("try"):                 "branch.try",
	} {
		if string(key) != want {
			t.Errorf("got %s, want %s", key, want)
		}
		if err := key.Valid(); err != nil {
			t.Error(err)
		}
	}
}

func TestUnder(t *testing.T) {
	for _, c := range []struct {
		key, prefix store.Key
		want        bool
	}{
		{"ns.shop.head", "ns.shop", true},
		{"ns.shop", "ns.shop", true},
		{"ns.shop2.head", "ns.shop", false},
		{"ns", "ns.shop", false},
		{"anything", "", true},
	} {
		if got := c.key.Under(c.prefix); got != c.want {
			t.Errorf("%s under %q is %v", c.key, c.prefix, got)
		}
	}
}

func FuzzKeyValid(f *testing.F) {
	f.Add("ns.shop.head")
	f.Add("a..b")
	f.Add("*.>")
	f.Fuzz(func(t *testing.T, s string) {
		if store.Key(s).Valid() == nil && (s == "" || strings.ContainsAny(s, " *>\r\n\t\x00") || strings.Contains("."+s+".", "..")) {
			t.Fatalf("%q passes as a key", s)
		}
	})
}
