package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/ployz/ployz/datapath/gateway"
)

// apply gives the running program a table.
func (l *lab) apply(t *testing.T, table gateway.Table) {
	t.Helper()
	text, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", l.status) }}}
	resp, err := c.Post("http://gateway/table", "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatal(resp.Status)
	}
}

// TestHoldLosesNothing moves a service with one instance from one place to another under load: no request fails, though
// for a while there is no instance at all.
func TestHoldLosesNothing(t *testing.T) {
	l := newLab(t)
	table, err := gateway.ReadTable(l.dir + "/table.json")
	if err != nil {
		t.Fatal(err)
	}
	program := l.start(t)
	defer program.Process.Kill()
	g := l.load()
	for range 3 {
		old := httptest.NewServer(http.HandlerFunc(answerWeb))
		at := netip.MustParseAddrPort(old.Listener.Addr().String())
		route := &table.Namespaces[0].HTTP[0]
		route.Hold, route.Upstreams = false, []gateway.Upstream{{ID: at.String(), Address: at}}
		l.apply(t, table)
		g.more(t, 200)
		route.Hold = true
		l.apply(t, table)
		l.waits(t, at.String())
		old.CloseClientConnections()
		old.Close() // nobody is there, until the next round
		time.Sleep(100 * time.Millisecond)
	}
	table.Namespaces[0].HTTP[0].Hold = false
	table.Namespaces[0].HTTP[0].Upstreams = []gateway.Upstream{{ID: "last", Address: netip.MustParseAddrPort(l.last(t))}}
	l.apply(t, table)
	g.more(t, 200)
	g.end(t)
	status, err := l.statusAt(l.status)
	if err != nil || status.Counters["held"] < 30 {
		t.Errorf("%d were held, %v", status.Counters["held"], err)
	}
}

// waits returns when nothing is open at an instance.
func (l *lab) waits(t *testing.T, id string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		s, err := l.statusAt(l.status)
		if err != nil {
			t.Fatal(err)
		}
		busy := false
		for _, u := range s.Upstreams {
			busy = busy || u.ID == id && u.InFlight > 0
		}
		if !busy {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s is never without requests", id)
}

func (l *lab) last(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(answerWeb))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
