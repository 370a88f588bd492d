package natsstore_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// TestRescue loses one of two voters for good, and then two of three, of which one is left each
// time: it goes on with all that was acknowledged. The lost ones come back with their old disks and
// find themselves outside.
func TestRescue(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]int{"one of two": 1, "two of three": 2} {
		t.Run(name, func(t *testing.T) { t.Parallel(); rescue(t, lose) })
	}
}

func rescue(t *testing.T, lose int) {
	c := natslab.StartCluster(t, lose+1)
	for _, m := range c.Machines[1:] {
		c.Promote(m)
	}
	s := c.Open(c.Machines[lose])
	ready(t, s)
	w := startWriter(t, s)
	w.await(t, 20)
	var lost []string
	for _, m := range c.Machines[:lose] {
		lost = append(lost, m.CoreConfig.Name)
		m.Core.Kill()
		m.Edge.Kill()
	}
	refusedWithoutQuorum(t, s, lost)
	start := time.Now()
	for range 2 { // the second is nothing
		if err := s.Rescue(within(t, natslab.Patience), lost, told); err != nil {
			t.Fatal(err)
		}
	}
	w.await(t, 3)
	t.Logf("rescued, and written, after %s", time.Since(start).Round(time.Millisecond))
	for _, m := range c.Machines[:lose] {
		m.Core.Start() // with its old disk and the old configuration
	}
	w.await(t, 30)
	wantVoters(t, s, 1)
	w.finish(t, s)
}

// refusedWithoutQuorum wants the plain removal, and a rescue that names others than the lost, refused.
func refusedWithoutQuorum(t *testing.T, s *natsstore.Store, lost []string) {
	t.Helper()
	ctx := within(t, natslab.Patience)
	topology, err := s.Topology(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%q", topology.Statement())
	if topology.HasQuorum() || len(topology.Voters) != len(lost)+1 {
		t.Errorf("%+v", topology)
	}
	if err := s.RemoveVoter(ctx, natsstore.PeerID(lost[0])); api.CodeOf(err) != api.CodeStoreNoQuorum {
		t.Errorf("a plain removal: %v", err)
	}
	survivors, err := s.Survivors(ctx)
	if err != nil || len(survivors) != 1 || survivors[0].Facts == 0 {
		t.Fatalf("survivors: %+v, %v", survivors, err)
	}
	for _, wrong := range [][]string{nil, {survivors[0].Name}, append([]string{survivors[0].Name}, lost...)} {
		if err := s.Rescue(ctx, wrong, told); api.CodeOf(err) != api.CodeStoreNotRescuable {
			t.Errorf("a rescue that abandons %q: %v", wrong, err)
		}
	}
}

// TestSurvivorBehindAMirror leaves a voter that was down when the last facts were written, and a
// mirror that has them: the store is formed anew from the mirror, and everybody follows.
func TestSurvivorBehindAMirror(t *testing.T) {
	t.Parallel()
	c := natslab.StartCluster(t, 3)
	c.Promote(c.Machines[1])
	c.Promote(c.Machines[2])
	m1, m2, m3 := c.Machines[0], c.Machines[1], c.Machines[2]
	s := c.Open(m1)
	ready(t, s)
	mustPut(t, s, "early", "1")
	m3.Core.Kill() // it will be the survivor, behind
	eventuallyPut(t, s, "late", "2")
	var before []store.Fact
	eventually(t, "all facts", func() (err error) {
		before, err = s.Facts().List(within(t, natslab.Patience), "")
		return err
	})
	last := before[len(before)-1].Revision
	mirrored := c.Open(m3)
	eventually(t, "m3's mirror", func() error { return mirrored.AwaitMirror(within(t, natslab.Patience), last) })
	m1.Core.Kill()
	m2.Core.Kill()
	m3.Core.Start()

	survivors, err := mirrored.Survivors(within(t, natslab.Patience))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := mirrored.EdgeDigest(within(t, natslab.Patience))
	if err != nil {
		t.Fatal(err)
	}
	way := natsstore.ChooseCopy(survivors, []natsstore.NamedDigest{{Name: "m3", Digest: digest}})
	if way.InPlace || way.From != "m3" || way.Last != last {
		t.Fatalf("survivors %+v, mirror %+v: %+v", survivors, digest, way)
	}
	m3.Core.Kill()
	start := time.Now()
	c.Refound(m3)
	anew := c.Open(m3)
	spool, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	if _, err := anew.Reform(within(t, natslab.Patience), mirrored, "lab", spool); err != nil {
		t.Fatal(err)
	}
	mustPut(t, anew, store.Cluster(), `{"generation":2}`)
	t.Logf("formed anew, and written, after %s", time.Since(start).Round(time.Millisecond))
	sameFactsAs(t, before, listed(t, anew)[1:])
	for _, m := range c.Machines {
		c.Mirror(within(t, natslab.Patience), m)
	}
	c.Promote(m1) // with the gap in its revisions
	wantVoters(t, anew, 2)
	for _, m := range c.Machines {
		eventuallyVerified(t, c.Open(m))
	}
}

func TestChooseCopy(t *testing.T) {
	copyOf := func(name string, last store.Revision, sum string) natsstore.NamedDigest {
		return natsstore.NamedDigest{Name: name, Digest: natsstore.Digest{Generation: 1, Last: last, Sum: sum}}
	}
	for _, c := range []struct {
		name      string
		survivors []natsstore.Survivor
		mirrors   []natsstore.NamedDigest
		want      string
		inPlace   bool
		odd       int
	}{
		{"the voter has all", []natsstore.Survivor{{Name: "m1-1", Facts: 9}}, []natsstore.NamedDigest{copyOf("m2", 9, "a")}, "m1-1", true, 0},
		{"the voter has more", []natsstore.Survivor{{Name: "m1-1", Facts: 9}}, []natsstore.NamedDigest{copyOf("m2", 8, "a")}, "m1-1", true, 0},
		{"the longer voter", []natsstore.Survivor{{Name: "m1-1", Facts: 8}, {Name: "m3-1", Facts: 9}}, nil, "m3-1", true, 0},
		{"a mirror has more", []natsstore.Survivor{{Name: "m1-1", Facts: 8}}, []natsstore.NamedDigest{copyOf("m2", 9, "a"), copyOf("m3", 7, "b")}, "m2", false, 0},
		{"no voter", nil, []natsstore.NamedDigest{copyOf("m3", 9, "a"), copyOf("m2", 9, "a")}, "m2", false, 0},
		{"the odd one is not used", nil, []natsstore.NamedDigest{copyOf("m1", 9, "b"), copyOf("m2", 9, "a"), copyOf("m3", 9, "a")}, "m2", false, 1},
		{"nobody can say", []natsstore.Survivor{{Name: "m1-1", Facts: 8}}, []natsstore.NamedDigest{copyOf("m1", 9, "b"), copyOf("m2", 9, "a")}, "m1-1", true, 2},
	} {
		got := natsstore.ChooseCopy(c.survivors, c.mirrors)
		if got.From != c.want || got.InPlace != c.inPlace || len(got.Odd) != c.odd {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func told(string) {}
