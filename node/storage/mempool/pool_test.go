package mempool_test

import (
	"bytes"
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
			p, far := mempool.New(t.TempDir()), mempool.New(t.TempDir())
			p.ClonesDepend, far.ClonesDepend = depend, depend
			storagetest.RunNames(t, func(t *testing.T) storagetest.Fixture {
				return storagetest.Fixture{Pool: p, Far: far, Reopen: func(testing.TB) storage.Pool { return p }}
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

// TestWrite: without a root, too, what a volume holds is in its snapshots and streams, and one that was written since takes
// no stream.
func TestWrite(t *testing.T) {
	p, far, s := mempool.New(""), mempool.New(""), storagetest.Spec("data")
	send := func(snapshot, base string) error {
		var b bytes.Buffer
		storagetest.Must(t, p.Send(t.Context(), storage.From{Volume: s.ID, Snapshot: snapshot, Base: base}, &b))
		_, err := far.Receive(t.Context(), s, &b)
		return err
	}
	_, err := p.Ensure(t.Context(), s)
	storagetest.Must(t, err)
	for _, name := range []string{"s1", "s2", "s3"} {
		storagetest.Must(t, p.Write(s.ID, "as of "+name))
		_, err := p.Snapshot(t.Context(), name, s.ID)
		storagetest.Must(t, err)
	}
	storagetest.Must(t, send("s1", ""))
	storagetest.Must(t, send("s2", "s1"))
	for name, want := range map[string]string{"": "as of s2", "s1": "as of s1"} {
		if got, err := far.Read(s.ID, name); err != nil || got != want {
			t.Errorf("%q of it is %q, %v", name, got, err)
		}
	}
	storagetest.Must(t, far.Write(s.ID, "another"))
	if err := send("s3", "s2"); api.CodeOf(err) != api.CodeVolumeBaseMissing {
		t.Errorf("written since: %v", err)
	}
}
