package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/ployz/ployz/metrics"
	"github.com/ployz/ployz/metrics/metricstest"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/mesh"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store/memstore"
)

// listed is what runs, as a test says it.
type listed []runtime.Observation

func (l listed) List(context.Context) ([]runtime.Observation, error) { return l, nil }

func TestMetrics(t *testing.T) {
	var r running
	for _, out := range []api.Outcome{{Kind: "deploy", Outcome: api.Committed}, {Kind: "deploy", Outcome: api.Committed}, {Kind: "rm", Outcome: api.Refused}} {
		if err := r.begin(); err != nil {
			t.Fatal(err)
		}
		r.ended("", out)
	}
	if err := r.begin(); err != nil {
		t.Fatal(err)
	}
	key := mesh.GenerateKey().Public()
	member := &Member{View: memstore.New(memstore.Config{}).View(), Instances: listed{
		{ID: "a", State: runtime.StateRunning}, {ID: "b", State: runtime.StateRunning, Drift: []string{"edited"}}, {ID: "c", State: runtime.StateFailed},
	}}
	f := &figures{
		operations: r.figures, member: func() *Member { return member },
		adopted: func() *adoption {
			return &adoption{list: []api.Adoption{{Verdict: "adopt"}, {Verdict: "adopt"}, {Verdict: "leave"}}, took: 2 * time.Second}
		},
		roster: func() (machine.Roster, error) {
			return machine.Roster{Cluster: machine.Cluster{Voters: []string{"m1id"}}, Members: []machine.Member{{ID: "m1id", Name: "m1", MeshKey: "its own"}, {ID: "m2id", Name: "m2", MeshKey: key.String()}}}, nil
		},
		pool: func(context.Context) (api.PoolStatus, []storage.Volume) {
			return api.PoolStatus{
				State: api.StateUp, Backend: "btrfs", SizeBytes: 100, FreeBytes: 60, PromisedBytes: 120, Volumes: map[string]int{"live": 2, "kept": 1},
			}, []storage.Volume{{}, {Problem: errors.New("damaged")}, {}}
		},
		mesh: func(context.Context) (mesh.Seen, error) {
			at := time.Now().Add(-time.Minute)
			return mesh.Seen{Peers: []mesh.SeenPeer{
				{PublicKey: key, LastHandshake: at, Rx: 10, Tx: 20, Endpoint: netip.MustParseAddrPort("192.0.2.1:1")}, {PublicKey: mesh.GenerateKey().Public(), Rx: 7},
			}}, nil
		},
	}
	page := metricstest.Scrape(t, &metrics.Page{Program: metrics.Daemon, Fill: f.tell, Log: slog.New(slog.DiscardHandler)})
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"ployz_operations_total", []string{"deploy", "committed"}, 2},
		{"ployz_operations_total", []string{"rm", "refused"}, 1},
		{"ployz_operations_running", nil, 1},
		{"ployz_adoption_seconds", nil, 2},
		{"ployz_adopted", []string{"adopt"}, 2},
		{"ployz_cluster_members", nil, 2},
		{"ployz_cluster_voters", nil, 1},
		{"ployz_mesh_received_bytes_total", []string{"m2"}, 10},
		{"ployz_mesh_sent_bytes_total", []string{"m2"}, 20},
		{"ployz_workloads", []string{"running"}, 2},
		{"ployz_workloads", []string{"failed"}, 1},
		{"ployz_workloads", []string{"starting"}, 0},
		{"ployz_workloads_drifted", nil, 1},
		{"ployz_pool_up", nil, 1},
		{"ployz_pool_size_bytes", []string{"btrfs"}, 100},
		{"ployz_pool_free_bytes", []string{"btrfs"}, 60},
		{"ployz_pool_promised_bytes", []string{"btrfs"}, 120},
		{"ployz_volumes", []string{"live"}, 2},
		{"ployz_volumes", []string{"kept"}, 1},
		{"ployz_volumes", []string{"incoming"}, 0},
		{"ployz_volumes", []string{"damaged"}, 1},
		{"ployz_store_answers", nil, 1},
	} {
		if got := metricstest.Value(t, page, c.name, c.labels...); got != c.want {
			t.Errorf("%s%q is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	if got := metricstest.Value(t, page, "ployz_mesh_handshake_age_seconds", "m2"); got < 60 || got > 600 {
		t.Errorf("the handshake is %v seconds old", got)
	}
	if n := len(page["ployz_mesh_received_bytes_total"].GetMetric()); n != 1 {
		t.Errorf("%d peers: one that is no member is told", n)
	}
}
