package natsstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// TestFounding starts what was founded and lets it die in every order: a lone voter, killed, must
// come back with all it had.
func TestFounding(t *testing.T) {
	m := natslab.Start(t)
	s := m.Open()
	ready(t, s)
	ctx := within(t, 2*natslab.Patience)
	if err := s.CheckSettings(ctx); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "a", "1")

	m.Core.Kill()
	m.Edge.Kill()
	m.Core.Start() // must get ready without its edge, and so without a leader
	if err := s.AwaitCore(ctx); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	_, err := s.Facts().Commit(short, batch("alone", put("b", "1")))
	cancel()
	if !store.IsUnavailable(err) {
		t.Fatalf("a core without a leader must refuse, not leave it open: %v", err)
	}
	start := time.Now()
	m.Edge.Start()
	eventuallyPut(t, s, "b", "2")
	t.Logf("core killed, started, then its edge: writable %s after the edge's start", time.Since(start).Round(time.Millisecond))

	start = time.Now()
	m.Core.Kill()
	m.Core.Start()
	eventuallyPut(t, s, "c", "3")
	t.Logf("core killed under its edge: writable after %s", time.Since(start).Round(time.Millisecond))

	m.Found() // once more is nothing
	wantFacts(t, s, "a=1 b=2 c=3")
}

func TestFoundingDiesAnywhere(t *testing.T) {
	m := natslab.New(t)
	for i := range 6 {
		kill(t, m, time.Duration(i)*180*time.Millisecond)
	}
	m.Found()
	m.Core.Start()
	m.Edge.Start()
	s := m.Open()
	if err := s.CreateStreams(within(t, natslab.Patience), 1, natsstore.StreamSize{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.CoreConfig.StoreDir + ".founding"); !os.IsNotExist(err) {
		t.Errorf("an attempt's folder was left behind: %v", err)
	}
}

func kill(t *testing.T, m *natslab.Machine, after time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), after)
	defer cancel()
	if err := natsstore.Found(ctx, m.CoreFiles()); err == nil {
		t.Logf("founded within %s", after)
	}
}

func TestFoundingRefusesWhatItDidNotMake(t *testing.T) {
	m := natslab.New(t)
	if err := os.MkdirAll(filepath.Join(m.CoreConfig.StoreDir, "jetstream"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := natsstore.Found(within(t, natslab.Patience), m.CoreFiles())
	if api.CodeOf(err) != api.CodeStoreSettings {
		t.Fatalf("a foreign folder: %v", err)
	}
	if _, err := os.Stat(filepath.Join(m.CoreConfig.StoreDir, "jetstream")); err != nil {
		t.Fatalf("it was touched: %v", err)
	}
	if err := os.RemoveAll(m.CoreConfig.StoreDir); err != nil {
		t.Fatal(err)
	}
	m.Found()
	m.CoreConfig.Name = "m1-2"
	m.Render()
	if err := natsstore.Found(within(t, natslab.Patience), m.CoreFiles()); api.CodeOf(err) != api.CodeStoreSettings {
		t.Fatalf("another incarnation's folder: %v", err)
	}
}

func TestTermAndLameDuckEndCleanly(t *testing.T) {
	m := natslab.Start(t, natslab.OnIPv6)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGUSR2} {
		start := time.Now()
		m.Core.Signal(sig)
		if code := m.Core.ExitCode(); code != 0 {
			t.Fatalf("%s: exit status %d", sig, code)
		}
		t.Logf("%s: gone after %s", sig, time.Since(start).Round(time.Millisecond))
		m.Core.Start()
	}
}

func put(k store.Key, v string) store.Put { return store.Put{Key: k, Value: []byte(v)} }

func batch(id string, puts ...store.Put) store.Batch { return store.Batch{ID: id, Puts: puts} }

func mustPut(t testing.TB, s *natsstore.Store, k store.Key, v string) store.Revision {
	t.Helper()
	r, err := s.Facts().Commit(within(t, natslab.Patience), batch(fmt.Sprint(t.Name(), time.Now().UnixNano()), put(k, v)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// eventuallyPut repeats one batch until it is acknowledged; being one, it is written once.
func eventuallyPut(t testing.TB, s *natsstore.Store, k store.Key, v string) {
	t.Helper()
	id := fmt.Sprint(t.Name(), time.Now().UnixNano())
	var err error
	for deadline := time.Now().Add(natslab.Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err = s.Facts().Commit(within(t, natslab.Patience), batch(id, put(k, v))); err == nil {
			return
		}
		if !store.IsUnavailable(err) && !store.IsUncertain(err) {
			break
		}
	}
	t.Fatal(err)
}

func wantFacts(t testing.TB, s *natsstore.Store, want string) {
	t.Helper()
	facts, err := s.Facts().List(within(t, natslab.Patience), "")
	got := ""
	for i, f := range facts {
		if i > 0 {
			got += " "
		}
		got += string(f.Key) + "=" + string(f.Value)
	}
	if err != nil || got != want {
		t.Fatalf("got %s (%v), want %s", got, err, want)
	}
}
