package main

import (
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ployz/ployz/metrics/metricstest"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// inProcess runs one of a lab's servers in this process.
func inProcess(t *testing.T, args []string) *gauges {
	t.Helper()
	f, err := parseFlags(args[0], args[1:], io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s, err := start(&f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	st := &status{}
	st.started(f.role, s, false)
	return &gauges{f.role, s, st}
}

// TestMetrics runs a lone machine's two servers in this process, with the store's streams in them.
func TestMetrics(t *testing.T) {
	m := natslab.Start(t)
	m.Edge.Stop()
	m.Core.Stop()
	core, edge := inProcess(t, m.Core.Args()), inProcess(t, m.Edge.Args())
	eventually(t, "the core leads and the edge mirrors", func() bool {
		info, err := edge.s.Jsz(&server.JSzOptions{Accounts: true, Streams: true, Config: true})
		return err == nil && core.s.JetStreamIsLeader() && mirrors(info)
	})
	edge.st.reloaded(edge.s, nil)
	edge.st.reloaded(edge.s, errNotReady)
	page := metricstest.Scrape(t, edge.page())
	if got := metricstest.Value(t, page, "ployz_nats_reloads_total", "edge", "taken"); got != 1 {
		t.Errorf("%v reloads were taken", got)
	}
	if got := metricstest.Value(t, page, "ployz_nats_leafs", "edge"); got != 2 {
		t.Errorf("%v leafs, want one for each account", got)
	}
	page = metricstest.Scrape(t, core.page())
	for _, name := range []string{"ployz_nats_leader", "ployz_nats_leader_known", "ployz_nats_voters", "ployz_nats_voters_seen"} {
		if got := metricstest.Value(t, page, name, "core"); got != 1 {
			t.Errorf("%s is %v", name, got)
		}
	}
}

func mirrors(info *server.JSInfo) bool {
	for _, a := range info.AccountDetails {
		for _, d := range a.Streams {
			if d.Mirror != nil && d.Mirror.Active >= 0 {
				return true
			}
		}
	}
	return false
}

// eventually polls until ok or the deadline.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(natslab.Patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: never", what)
		}
	}
}
