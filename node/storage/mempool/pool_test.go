package mempool_test

import (
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/mempool"
	"github.com/ployz/ployz/node/storage/storagetest"
)

func TestConformance(t *testing.T) {
	testenv.Require(t, testenv.Root) // a folder is given to another owner
	for name, depend := range map[string]bool{"clones stand alone": false, "clones depend": true} {
		t.Run(name, func(t *testing.T) {
			p := mempool.New(t.TempDir())
			p.ClonesDepend = depend
			storagetest.RunNames(t, func(t *testing.T) storagetest.Fixture {
				return storagetest.Fixture{Pool: p, Reopen: func(testing.TB) storage.Pool { return p }}
			})
		})
	}
}

// TestUsers: what somebody has mounted is not destroyed, and with nobody it goes.
func TestUsers(t *testing.T) {
	p, by := mempool.New(""), "instance web-0"
	p.Users = func(string) string { return by }
	s := storagetest.Spec("data")
	if _, err := p.Ensure(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	storagetest.Must(t, p.Retire(t.Context(), s.ID))
	if err := p.Destroy(t.Context(), s.ID); api.CodeOf(err) != api.CodeVolumeInUse {
		t.Fatalf("in use: %v", err)
	}
	by = ""
	storagetest.Must(t, p.Destroy(t.Context(), s.ID))
	if len(p.World()) != 0 {
		t.Errorf("left: %v", p.World())
	}
}
