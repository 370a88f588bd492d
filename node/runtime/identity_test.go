package runtime

import (
	"net/netip"
	"testing"

	"github.com/ployz/ployz/node/api"
)

func TestIdentity(t *testing.T) {
	spec := Spec{ID: "web-0", Namespace: "shop", Service: "web", Files: []FileContent{{Target: "/k", Sealed: []byte("one"), Fingerprint: "f"}}}
	image, addrs := Image{Digest: "sha256:00"}, Addresses{V4: netip.MustParseAddr("10.101.1.9")}
	id := func(s Spec, i Image, a Addresses) string {
		t.Helper()
		got, err := Identity(s, i, a)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := id(spec, image, addrs)
	resealed := spec
	resealed.Files = []FileContent{{Target: "/k", Sealed: []byte("two"), Fingerprint: "f"}}
	if id(resealed, image, addrs) != first {
		t.Error("sealing the same secret again gave another identity")
	}
	if string(spec.Files[0].Sealed) != "one" {
		t.Error("Identity changed its argument")
	}
	changed := spec
	changed.Process.Env = map[string]string{"A": "1"}
	for name, other := range map[string]string{
		"spec": id(changed, image, addrs), "image": id(spec, Image{Digest: "sha256:01"}, addrs), "addresses": id(spec, image, Addresses{}),
	} {
		if other == first {
			t.Errorf("another %s has the same identity", name)
		}
	}
	// Written down, so that a field added later without omitempty shows: it would make every
	// running instance another one after an upgrade.
	if want := "a3865365b4fbf2757c080ff2b0b81a1f"; first != want {
		t.Errorf("the identity of the same spec is %s, was %s in an earlier version", first, want)
	}
}

func TestCheck(t *testing.T) {
	good := Spec{ID: "a", Namespace: "b", Service: "c"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, bend := range map[string]func(*Spec){
		"no id": func(s *Spec) { s.ID = "" }, "id that climbs": func(s *Spec) { s.ID = ".." }, "no namespace": func(s *Spec) { s.Namespace = "" },
		"no service":   func(s *Spec) { s.Service = "" },
		"two contents": func(s *Spec) { s.Files = []FileContent{{Target: "/x", Plain: []byte("a"), Sealed: []byte("b")}} },
	} {
		s := good
		bend(&s)
		if err := s.Check(); api.CodeOf(err) != api.CodeRuntimeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
