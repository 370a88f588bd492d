package natsstore_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// TestBackupAndRestore takes a backup from an edge whose core is gone, refuses it in every damaged
// form, and restores it as a new generation, with an interruption.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	c := natslab.StartCluster(t, 1)
	m := c.Machines[0]
	s := m.Open()
	ready(t, s)
	fill(t, s)
	before := listed(t, s)
	m.Core.Kill()
	var file bytes.Buffer
	manifest, err := s.Backup(within(t, natslab.Patience), &file, "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes: %+v", file.Len(), manifest)
	refusesDamage(t, file.Bytes(), manifest.Digest)

	c.Refound(m)
	restored := m.Open()
	ready(t, restored)
	opened := openBackup(t, file.Bytes(), manifest.Digest)
	holds(t, opened, before)
	if err := restored.Restore(within(t, natslab.Patience), opened, "other"); api.CodeOf(err) != api.CodeStoreBackupForeign {
		t.Errorf("into another cluster: %v", err)
	}
	if err := s.Restore(within(t, natslab.Patience), opened, "lab"); api.CodeOf(err) != api.CodeStoreBackupForeign {
		t.Errorf("into its own generation: %v", err)
	}
	interrupted(t, restored, opened)
	start := time.Now()
	for range 2 { // the second is nothing
		if err := restored.Restore(within(t, natslab.Patience), opened, "lab"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("restored in %s", time.Since(start).Round(time.Millisecond))
	sameFactsAs(t, before, listed(t, restored))
	if r := mustPut(t, restored, "after", "1"); uint64(r) <= uint64(manifest.Facts.Last)+1000 {
		t.Errorf("the first revision after a restore is %d, the backup's last was %d: fences could come twice", r, manifest.Facts.Last)
	}
	history, err := restored.Log().History(within(t, natslab.Patience), "op1")
	if err != nil || len(history) != 3 || string(history[2].Value) != "entry 2" {
		t.Errorf("the ledger: %+v, %v", history, err)
	}
	if err := restored.CheckSettings(within(t, natslab.Patience)); err == nil {
		t.Error("the mirrors of the new generation cannot be there yet")
	}
	followNewGeneration(t, s, restored)
}

// followNewGeneration makes the edge's mirrors anew and drops the old ones.
func followNewGeneration(t *testing.T, old, now *natsstore.Store) {
	t.Helper()
	ctx := within(t, natslab.Patience)
	fresh := func(ctx context.Context) error { return now.AwaitMirror(ctx, 1) }
	for i, do := range []func(context.Context) error{now.EnsureMirrors, fresh, now.CheckSettings, now.Verify} {
		if err := do(ctx); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	for range 2 {
		if err := old.RemoveMirrors(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func fill(t *testing.T, s *natsstore.Store) {
	t.Helper()
	ctx := within(t, natslab.Patience)
	for i := range 40 {
		mustPut(t, s, store.Key(fmt.Sprint("k.", i%25)), fmt.Sprint("value ", i))
	}
	b := batch("mixed", put("big", noise(400<<10)), store.Put{Key: "k.3", Remove: true},
		store.Put{Key: "lease.a", Value: []byte("held"), TTL: time.Hour})
	last, err := s.Facts().Commit(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := s.Log().Append(ctx, "op1", fmt.Sprint(i), []byte(fmt.Sprint("entry ", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AwaitMirror(ctx, last); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ledger's mirror", func() error {
		if h, err := s.MirrorLog().History(ctx, "op1"); err != nil || len(h) != 3 {
			return fmt.Errorf("%d records, %v", len(h), err)
		}
		return nil
	})
}

// noise does not compress.
func noise(size int) string {
	out := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(out)
	return string(out)
}

func listed(t *testing.T, s *natsstore.Store) []store.Fact {
	t.Helper()
	facts, err := s.Facts().List(within(t, natslab.Patience), "")
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

func sameFactsAs(t *testing.T, want, got []store.Fact) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d facts, want %d", len(got), len(want))
	}
	for i, f := range got {
		w := want[i]
		if f.Key != w.Key || f.Revision != w.Revision || !f.Written.Equal(w.Written) || !bytes.Equal(f.Value, w.Value) {
			t.Errorf("%s at %d, %s; want %s at %d, %s", f.Key, f.Revision, f.Written, w.Key, w.Revision, w.Written)
		}
	}
}

func openBackup(t *testing.T, file []byte, digest string) *natsstore.Backup {
	t.Helper()
	b, err := natsstore.OpenBackup(bytes.NewReader(file), digest)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// refusesDamage cuts the file at many places and flips a bit at many others.
func refusesDamage(t *testing.T, file []byte, digest string) {
	t.Helper()
	open := func(what string, b []byte, digest string) {
		_, err := natsstore.OpenBackup(bytes.NewReader(b), digest)
		if code := api.CodeOf(err); code != api.CodeStoreBackupDamaged && code != api.CodeStoreBackupForeign {
			t.Errorf("%s: %v", what, err)
		}
	}
	for at := 0; at < len(file); at += 1 + len(file)/97 {
		open(fmt.Sprint("cut at ", at), file[:at], "")
		flipped := bytes.Clone(file)
		flipped[at] ^= 0x10
		open(fmt.Sprint("flipped at ", at), flipped, "")
	}
	open("cut by a byte", file[:len(file)-1], "")
	open("grown", append(bytes.Clone(file), 0), "")
	open("another digest", file, "sha256:00")
	open("nothing", nil, "")
	if _, err := natsstore.OpenBackup(bytes.NewReader(file), digest); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// interrupted begins a restore whose caller gives up at once, some way in, or whose file changes.
func interrupted(t *testing.T, s *natsstore.Store, b *natsstore.Backup) {
	t.Helper()
	eventually(t, "a leader", func() error {
		topology, err := s.Topology(within(t, natslab.Patience))
		if err == nil && topology.Leader == "" {
			err = fmt.Errorf("%+v", topology)
		}
		return err
	})
	for _, after := range []time.Duration{15 * time.Millisecond, 40 * time.Millisecond, 90 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(context.Background(), after)
		err := s.Restore(ctx, b, "lab")
		cancel()
		t.Logf("given up after %s: %v", after, err)
	}
}

// holds wants a backup's contents to be read without a server as they were in the store.
func holds(t *testing.T, b *natsstore.Backup, want []store.Fact) {
	t.Helper()
	contents, err := b.Contents()
	if err != nil {
		t.Fatal(err)
	}
	got, err := contents.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	sameFactsAs(t, slices.DeleteFunc(slices.Clone(want), func(f store.Fact) bool { return f.Key.Under(store.Leases()) }), got)
	if f, err := contents.Get(t.Context(), "k.3"); !store.IsNotFound(err) || f.Revision == 0 {
		t.Errorf("what was removed: %+v, %v", f, err)
	}
	if f, err := contents.Get(t.Context(), "k.4"); err != nil || f.Revision == 0 {
		t.Errorf("what is there: %+v, %v", f, err)
	}
}
