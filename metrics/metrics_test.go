package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
)

func page(fill func(*Sheet)) *Page {
	return &Page{Program: Core, Version: "1.2.3", Fill: fill, Log: slog.New(slog.DiscardHandler)}
}

func scrape(t *testing.T, p *Page) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Code, w.Body.String()
}

func TestPage(t *testing.T) {
	code, text := scrape(t, page(func(s *Sheet) {
		s.Flag("ployz_nats_leader", true, "core")
		s.Put("ployz_nats_stream_messages", 17, "core", "FACTS")
	}))
	for _, line := range []string{
		`ployz_build_info{program="ployz-nats core",version="1.2.3"} 1`, `ployz_nats_leader{role="core"} 1`,
		`ployz_nats_stream_messages{role="core",stream="FACTS"} 17`, "process_resident_memory_bytes ", "go_goroutines ",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is missing in %d:\n%s", line, code, text)
		}
	}
}

// TestOnlyTheCatalogue: what the documentation does not know fails in every test that scrapes.
func TestOnlyTheCatalogue(t *testing.T) {
	for name, fill := range map[string]func(*Sheet){
		"an unknown name":     func(s *Sheet) { s.Put("ployz_unheard_of", 1) },
		"another program's":   func(s *Sheet) { s.Put("ployz_gateway_in_flight", 1) },
		"too few labels":      func(s *Sheet) { s.Put("ployz_nats_leader", 1) },
		"twice":               func(s *Sheet) { s.Put("ployz_nats_leader", 1, "core"); s.Put("ployz_nats_leader", 1, "core") },
		"a histogram's value": func(s *Sheet) { s.Distribution("ployz_nats_leader", 1, 1, nil) },
	} {
		if code, text := scrape(t, page(fill)); code != http.StatusInternalServerError {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
}

func TestCatalogue(t *testing.T) {
	name, seen := regexp.MustCompile(`^ployz(_[a-z]+)+$`), map[string]bool{}
	for _, f := range Catalogue() {
		switch {
		case !name.MatchString(f.Name) || seen[f.Name]:
			t.Errorf("%q is no name, or there twice", f.Name)
		case (f.Kind == Counter) != strings.HasSuffix(f.Name, "_total"):
			t.Errorf("%s is a %s", f.Name, f.Kind)
		case !strings.HasSuffix(f.Help, ".") || len(f.Programs) == 0:
			t.Errorf("%s: %q, told by %v", f.Name, f.Help, f.Programs)
		}
		seen[f.Name] = true
	}
}

func TestPorts(t *testing.T) {
	seen := map[uint16]bool{0: true, 7480: true, 7481: true}
	for _, p := range Programs() {
		if seen[p.Port()] {
			t.Errorf("%s has port %d, which is somebody else's", p, p.Port())
		}
		seen[p.Port()] = true
	}
}

func TestAdmits(t *testing.T) {
	here := Place{Overlay: netip.MustParseAddr("fd00:1:0:1::1"), Cluster: netip.MustParsePrefix("fd00:1::/48")}
	for from, want := range map[string]bool{
		"fd00:1:0:1::1": true, "fd00:1:0:2::1": true, "fd00:1:0:2::1%eth0": true,
		"fd00:1:0:2::2": false, "fd00:1:0:1:7::1": false, "fd00:2:0:1::1": false, "2001:db8::1": false, "10.101.1.1": false, "::1": false,
	} {
		if got := here.admits(netip.MustParseAddr(from)); got != want {
			t.Errorf("%s: %v", from, got)
		}
	}
}

// TestRun: it waits for a place, serves beside a predecessor, and stops with its context.
func TestRun(t *testing.T) {
	loopback := Place{Overlay: netip.MustParseAddr("::1")}
	first, stopFirst := context.WithCancel(t.Context())
	second, stopSecond := context.WithCancel(t.Context())
	defer stopSecond()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		page(func(*Sheet) {}).Run(first, func() (Place, error) { return loopback, nil })
	}()
	answers(t, loopback)
	go page(func(*Sheet) {}).Run(second, func() (Place, error) { return loopback, nil })
	stopFirst()
	<-ended
	answers(t, loopback)
}

func TestRunNowhere(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	asked := make(chan bool, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		page(func(*Sheet) {}).Run(ctx, func() (Place, error) { asked <- true; return Place{}, errors.New("no cluster") })
	}()
	<-asked
	stop()
	<-ended
}

// answers polls until the page is there: the second listens in its own time.
func answers(t *testing.T, at Place) {
	t.Helper()
	url := "http://" + netip.AddrPortFrom(at.Overlay, Core.Port()).String() + "/metrics"
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		resp, err := client.Get(url)
		if err == nil {
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: %v", resp.Status, err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestBeforeTheAddress: a program starts before ployz-net has given the machine its address.
func TestBeforeTheAddress(t *testing.T) {
	l, err := listen(t.Context(), netip.MustParseAddrPort("[fd00:4242::1]:0"))
	if err != nil {
		t.Fatal(err)
	}
	if at := l.Addr().(*net.TCPAddr).AddrPort().Addr(); at != netip.MustParseAddr("fd00:4242::1") {
		t.Errorf("it listens on %s", at)
	}
	l.Close()
}
