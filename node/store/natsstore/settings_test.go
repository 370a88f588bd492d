package natsstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// TestStandaloneAndUnsyncedAreRefused starts a server that ployz-nats would refuse: standalone, and
// syncing every two minutes. The daemon's check must refuse it too.
func TestStandaloneAndUnsyncedAreRefused(t *testing.T) {
	m := natslab.New(t)
	unsafe := unsafeCore(t, m)
	flags := append([]string{"--config", unsafe}, m.Core.Args()[3:]...)
	if _, err := natsstore.CheckConfig(within(t, natslab.Patience), natslab.Program(t), "core", flags...); err == nil || !strings.Contains(err.Error(), "sync_interval") {
		t.Errorf("ployz-nats takes it: %v", err)
	}
	o, err := server.ProcessConfigFile(unsafe)
	if err != nil {
		t.Fatal(err)
	}
	o.NoLog, o.NoSigs = true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	st := m.Open(func(c *natsstore.Config) { c.EdgeURL = "" })
	ctx := within(t, natslab.Patience)
	if err := st.AwaitCore(ctx); err != nil {
		t.Fatal(err)
	}
	err = st.CheckSettings(ctx)
	wantDetails(t, err, "jetstream.sync_interval is 120s, it must be always", "cluster is absent (standalone)", "stream KV_facts_g1 is absent", "stream LEDGER_g1 is absent")
}

func unsafeCore(t *testing.T, m *natslab.Machine) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.Dir, "core.conf"))
	if err != nil {
		t.Fatal(err)
	}
	out := regexp.MustCompile(`(?s)cluster \{.*?\n\}\n`).ReplaceAllString(string(text), "")
	out = strings.Replace(out, "  sync_interval: always\n", "", 1)
	path := filepath.Join(m.Dir, "unsafe.conf")
	if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantDetails(t *testing.T, err error, parts ...string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.CodeStoreSettings {
		t.Fatalf("%v, want store.unsafe-settings", err)
	}
	all := ""
	for _, d := range e.Details {
		all += d.Error() + "\n"
	}
	for _, p := range parts {
		if !strings.Contains(all, p) {
			t.Errorf("%q is not in\n%s", p, all)
		}
	}
}

// TestStreamSettingsAreChecked changes what can be changed on a live stream.
func TestStreamSettingsAreChecked(t *testing.T) {
	m := natslab.Start(t)
	s := m.Open()
	ready(t, s)
	ctx := within(t, natslab.Patience)
	if err := s.CheckSettings(ctx); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(client(t, m.Config().CoreURLs[0], m.Seed(natsconf.RoleCoordinator), natsconf.Inbox("m1")))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, natsconf.FactsStream(1))
	if err != nil {
		t.Fatal(err)
	}
	c := stream.CachedInfo().Config
	c.MaxMsgsPerSubject, c.Discard, c.Duplicates = 5, jetstream.DiscardOld, time.Minute
	if _, err := js.UpdateStream(ctx, c); err != nil {
		t.Fatal(err)
	}
	wantDetails(t, s.CheckSettings(ctx), "max_msgs_per_subject is 5, it must be 1", `discard is "old"`, "duplicate_window is 60000000000")
	if err := s.CreateStreams(ctx, 1, natsstore.StreamSize{}); api.CodeOf(err) != api.CodeStoreSettings {
		t.Errorf("CreateStreams over it: %v", err)
	}
}

// TestStandardTools reads the facts as the standard key-value client does, at the core and at the edge.
func TestStandardTools(t *testing.T) {
	m := natslab.Start(t)
	s := m.Open()
	ready(t, s)
	ctx := within(t, natslab.Patience)
	mustPut(t, s, "ns.shop.route", "v1")
	gone := mustPut(t, s, "gone", "1")
	b := toolBatch()
	b.Puts[0].Expect = store.Expect(gone)
	last, err := s.Facts().Commit(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitMirror(ctx, last); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string][2]string{
		"core": {m.Config().CoreURLs[0], m.Seed(natsconf.RoleCoordinator)}, "edge": {m.EdgeURL(), m.Seed(natsconf.RoleLocal)},
	} {
		t.Run(name, func(t *testing.T) { standardTools(t, at[0], at[1]) })
	}
}

func standardTools(t *testing.T, url, seed string) {
	ctx := within(t, natslab.Patience)
	js, err := jetstream.New(client(t, url, seed, natsconf.Inbox("m1")))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, natsconf.FactsBucket(1))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(ctx, "ns.shop.route"); err != nil || string(e.Value()) != "v2" || e.Revision() != 5 {
		t.Errorf("get: %v, %v", e, err)
	}
	if _, err := kv.Get(ctx, "gone"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("get of a removed key: %v", err)
	}
	keys, err := kv.Keys(ctx)
	if err != nil || len(keys) < 1 || len(keys) > 2 {
		t.Errorf("keys: %v, %v", keys, err)
	}
	w, err := kv.Watch(ctx, "ns.>")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if e := <-w.Updates(); e == nil || e.Key() != "ns.shop.route" {
		t.Errorf("watch: %v", e)
	}
	deadline := time.Now().Add(natslab.Patience)
	for { // the lease goes by its TTL at both places
		if _, err := kv.Get(ctx, "lease.a"); errors.Is(err, jetstream.ErrKeyNotFound) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the lease did not expire")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// toolBatch overwrites, takes a lease, and removes, all in one.
func toolBatch() store.Batch {
	return store.Batch{ID: "tools", Checks: []store.Check{{Key: "never"}}, Puts: []store.Put{
		{Key: "gone", Remove: true},
		{Key: "lease.a", Value: []byte("me"), TTL: time.Second}, put("ns.shop.route", "v2"),
	}}
}
