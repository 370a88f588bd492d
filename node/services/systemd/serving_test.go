package systemd

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/services"
	"github.com/ployz/ployz/units"
)

// ensure acts on sockets and their service, and wants one verdict for all of them.
func ensure(t *testing.T, s *Supervisor, v units.Serving, want services.Act) {
	t.Helper()
	for _, socket := range v.Sockets {
		r := services.Ensure(t.Context(), s, services.Wanted{Unit: socket, SocketOf: v.Service}, nil)
		if r.Err != nil || (r.Act != services.Adopt && r.Act != want) {
			t.Fatalf("%+v, want %s", r, want)
		}
	}
	r := services.Ensure(t.Context(), s, services.Wanted{Unit: v.Service, HandOver: true}, nil)
	if r.Err != nil || r.Act != want {
		t.Fatalf("%+v, want %s", r, want)
	}
}

func removed(t *testing.T, s *Supervisor, v units.Serving) {
	t.Cleanup(func() {
		names := []string{v.Service.Name}
		for _, socket := range v.Sockets {
			names = append(names, socket.Name)
		}
		if err := s.Remove(context.Background(), names...); err != nil {
			t.Error(err)
		}
	})
}

// TestServingUnits runs the real gateway and resolver in their sandboxes, and replaces and
// restarts them under requests: none may fail.
func TestServingUnits(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Systemd, testenv.DevMachine)
	s := New()
	t.Cleanup(s.Close)
	gateway, err := units.Gateway{Args: emptyTable(t)}.Render()
	if err != nil {
		t.Fatal(err)
	}
	dns, err := units.DNS{Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.55"), netip.MustParseAddr("10.101.77.1"), netip.MustParseAddr("fd00:77::1")}}.Render()
	if err != nil {
		t.Fatal(err)
	}
	reloads := countReloads(t)
	for _, v := range []units.Serving{gateway, dns} {
		removed(t, s, v)
		wanted := []services.Wanted{{Unit: v.Service}}
		for _, socket := range v.Sockets {
			wanted = append(wanted, services.Wanted{Unit: socket, SocketOf: v.Service})
		}
		if nowhere, err := services.InstallNew(t.Context(), s, wanted...); err != nil || len(nowhere) != len(wanted) {
			t.Fatalf("%v %v", nowhere, err)
		}
		ensure(t, s, v, services.Create)
		if n := reloads(); n != 0 {
			t.Errorf("systemd read all its files %d times for units that it had not loaded", n)
		}
		ensure(t, s, v, services.Adopt)
	}
	requests := ask(t)
	for _, v := range []units.Serving{gateway, dns} {
		before, err := s.Observe(t.Context(), v.Service.Name)
		if err != nil {
			t.Fatal(err)
		}
		upgrade(t, before.Executable)
		ensure(t, s, v, services.Replace)
		after, err := s.Observe(t.Context(), v.Service.Name)
		if err != nil || after.MainPID == before.MainPID || after.Restarts != 0 || after.ExecutableStale {
			t.Fatalf("hand-over: before %+v, after %+v, %v", before, after, err)
		}
		// A main process that is not systemd's own child is killed by the restart, not told to drain.
		if parent := parentOf(t, after.MainPID); parent != 1 {
			t.Fatalf("the successor's parent is %d", parent)
		}
		if err := s.Restart(t.Context(), v.Service.Name); err != nil {
			t.Fatal(err)
		}
		ensure(t, s, v, services.Adopt)
	}
	if ok, failed := requests(); failed != 0 || ok < 20 {
		t.Fatalf("%d requests answered, %d failed", ok, failed)
	}
	extra, err := units.Gateway{Args: emptyTable(t), TCP: []uint16{5432}}.Render()
	if err != nil {
		t.Fatal(err)
	}
	removed(t, s, extra)
	r := services.Ensure(t.Context(), s, services.Wanted{Unit: extra.Sockets[2], SocketOf: extra.Service}, nil)
	if r.Err != nil || !r.Deferred {
		t.Fatalf("a new socket under a running service: %+v", r)
	}
	if err := s.Restart(t.Context(), units.GatewayService); err != nil {
		t.Fatal(err)
	}
	if o, err := s.Observe(t.Context(), extra.Sockets[2].Name); err != nil || !o.Running() {
		t.Fatalf("the new socket after a restart of its service: %+v, %v", o, err)
	}
}

// countReloads returns how many times systemd has begun to read its files anew since.
func countReloads(t *testing.T) func() (n int) {
	t.Helper()
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	const manager = "org.freedesktop.systemd1.Manager"
	if err := conn.AddMatchSignal(dbus.WithMatchInterface(manager), dbus.WithMatchMember("Reloading")); err != nil {
		t.Fatal(err)
	}
	systemd := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
	signals := make(chan *dbus.Signal, 100)
	conn.Signal(signals)
	ask := func(method string) {
		t.Helper()
		if err := systemd.Call(manager+"."+method, 0).Err; err != nil {
			t.Fatal(err)
		}
	}
	ask("Subscribe")
	return func() (n int) {
		t.Helper()
		ask("GetDefaultTarget") // its answer comes after every signal before it
		for len(signals) > 0 {
			if s := <-signals; len(s.Body) == 1 && s.Body[0] == true {
				n++
			}
		}
		return n
	}
}

func parentOf(t *testing.T, pid int) (parent int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var state string
	if _, err := fmt.Sscan(rest, &state, &parent); err != nil {
		t.Fatal(err)
	}
	return parent
}

// emptyTable are the gateway's arguments for serving without a store.
func emptyTable(t *testing.T) []string {
	t.Helper()
	const path = "/run/ployz-test-table.json"
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	return []string{"-table", path}
}

// upgrade puts another file in the program's place, and the old one back at the end.
func upgrade(t *testing.T, program string) {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	put := func(text []byte) {
		if err := os.WriteFile(program+".new", text, 0o755); err != nil {
			t.Error(err)
		}
		if err := os.Rename(program+".new", program); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { put(text) })
	put(append(text[:len(text):len(text)], 0))
}

// ask sends requests, each on a connection of its own, until the returned function is called: it
// returns how many were answered, whatever the answer, and how many were not.
func ask(t *testing.T) func() (ok, failed int64) {
	var answered, unanswered atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.55:53")
	}}
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			resp, err := client.Get("http://127.0.0.1/")
			_, dnsErr := resolver.LookupHost(ctx, "nothing.ployz.internal.")
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				resp.Body.Close()
			}
			var typed *net.DNSError
			isDNS := dnsErr != nil && asDNS(dnsErr, &typed) && !typed.IsTimeout
			if err == nil && isDNS {
				answered.Add(1)
			} else {
				unanswered.Add(1)
				t.Logf("unanswered: %v; %v", err, dnsErr)
			}
		}
	}()
	return func() (int64, int64) {
		cancel()
		<-done
		return answered.Load(), unanswered.Load()
	}
}

func asDNS(err error, into **net.DNSError) (ok bool) {
	*into, ok = err.(*net.DNSError)
	return ok
}
