package deploy_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
)

// awaited is an instance on loopback, started and ready to be asked.
func awaited(t *testing.T, program memruntime.Program, probe *api.Probe, bound time.Duration) error {
	t.Helper()
	r := memruntime.New()
	r.Program = func(runtime.Spec) memruntime.Program { return program }
	r.Command = func(_ runtime.Spec, c runtime.Command) (int, error) {
		fmt.Fprint(c.Stderr, "said the command")
		return strconv.Atoi(c.Args[0])
	}
	l := &deploy.Local{Runtime: r, Console: r, Steady: time.Millisecond}
	spec := runtime.Spec{ID: "shop-web-0-abc", Namespace: "shop", Service: "web", Slot: "web-0"}
	if err := r.Prepare(t.Context(), spec, runtime.Image{}, runtime.Addresses{V4: netip.MustParseAddr("127.0.0.1")}); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	return l.Await(ctx, spec, probe)
}

// expectAnswer wants readiness (want ""), or the refusal that shows the probe's last answer.
func expectAnswer(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("not ready: %v", err)
	case want != "" && (api.CodeOf(err) != api.CodeNotReady || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, want %q", err, want)
	}
}

func port(t *testing.T, addr string) uint16 {
	t.Helper()
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return ap.Port()
}

func quick(p api.Probe) *api.Probe {
	p.Interval, p.Timeout = api.Duration(time.Millisecond), api.Duration(50*time.Millisecond)
	return &p
}

func TestProbeHTTP(t *testing.T) {
	var warm atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/broken", http.StatusFound) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no database", http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/third", func(w http.ResponseWriter, _ *http.Request) {
		if warm.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("named.test/host", func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(mux)
	defer server.Close()
	at := port(t, server.Listener.Addr().String())
	for _, c := range []struct{ path, host, want string }{
		{"/ok", "", ""},
		{"/moved", "", ""},
		{"/third", "", ""},
		{"/host", "named.test", ""},
		{"/host", "", "404 Not Found"},
		{"/broken", "", "GET /broken: 503 Service Unavailable no database"},
		{"/slow", "", "deadline exceeded"},
	} {
		probe := quick(api.Probe{HTTP: &api.HTTPProbe{Path: c.path, Port: at, Host: c.host}})
		expectAnswer(t, awaited(t, memruntime.Program{}, probe, 300*time.Millisecond), c.want)
	}
}

func TestProbeTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	probe := quick(api.Probe{TCP: &api.TCPProbe{Port: port(t, listener.Addr().String())}})
	expectAnswer(t, awaited(t, memruntime.Program{}, probe, 300*time.Millisecond), "")
	listener.Close()
	expectAnswer(t, awaited(t, memruntime.Program{}, probe, 300*time.Millisecond), "connection refused")
}

func TestProbeExec(t *testing.T) {
	expectAnswer(t, awaited(t, memruntime.Program{}, quick(api.Probe{Exec: []string{"0"}}), 300*time.Millisecond), "")
	expectAnswer(t, awaited(t, memruntime.Program{}, quick(api.Probe{Exec: []string{"7"}}), 50*time.Millisecond), "7: status 7: said the command")
	expectAnswer(t, awaited(t, memruntime.Program{}, quick(api.Probe{Exec: []string{"never"}}), 50*time.Millisecond), "invalid syntax")
}

func TestNoProbe(t *testing.T) {
	expectAnswer(t, awaited(t, memruntime.Program{}, nil, 300*time.Millisecond), "")
	failed := awaited(t, memruntime.Program{Lines: []string{"bad flag"}, Ends: true, ExitCode: 2}, nil, time.Minute)
	expectAnswer(t, failed, "its process ended with status 2")
	if log := api.AsError(failed).Log; len(log) != 1 || log[0] != "bad flag" {
		t.Errorf("the log is %v", log)
	}
}

// TestTailIsShort: of a chatty instance only the last lines are shown.
func TestTailIsShort(t *testing.T) {
	var lines []string
	for i := range 100 {
		lines = append(lines, strconv.Itoa(i))
	}
	log := api.AsError(awaited(t, memruntime.Program{Lines: lines, Ends: true, ExitCode: 1}, nil, time.Minute)).Log
	if len(log) != 20 || log[19] != "99" {
		t.Errorf("%d lines, the last %v", len(log), log[max(0, len(log)-1):])
	}
}

// TestAwaitOfNothing ends at once: what is not there does not become ready.
func TestAwaitOfNothing(t *testing.T) {
	r := memruntime.New()
	l := &deploy.Local{Runtime: r, Console: r}
	for _, job := range []bool{false, true} {
		err := l.Await(t.Context(), runtime.Spec{ID: "none", Job: job}, nil)
		if err == nil || !strings.Contains(err.Error(), "it is not on the machine") {
			t.Errorf("job %t: %v", job, err)
		}
	}
}

func TestUnknownAction(t *testing.T) {
	l := newLab(t)
	by := deploy.Fenced{Scope: "ns/shop", Fence: 1}
	if err := l.local.Act(t.Context(), by, deploy.Action{Verb: "polish"}); api.CodeOf(err) != api.CodeBadRequest {
		t.Errorf("got %v", err)
	}
	if err := l.local.Act(t.Context(), by, deploy.Action{Verb: "publish", Namespace: "shop", Ports: map[string][]api.Port{"none": {{Published: 1}}}}); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("got %v", err)
	}
}

// TestCredentialsReachThePull, and are in nothing that is kept.
func TestCredentialsReachThePull(t *testing.T) {
	l := newLab(t)
	l.images.Serve("r.test/app:v1", "app", runtime.ImageConfig{})
	seen := map[string]string{}
	l.local.Images = watchedImages{l.images, seen}
	s := api.Spec{Namespace: "shop", Services: map[string]api.Service{"web": {Image: "r.test/app:v1"}}}
	l.mustRun(t, deploy.NewDeploy(l.kit, s, map[string]runtime.RegistryAuth{"r.test": {Username: "me", Password: "swordfish"}}))
	if seen["resolve"] != "swordfish" || seen["pull"] != "swordfish" {
		t.Errorf("credentials seen: %v", seen)
	}
	if contains(l.everywhere(t), "swordfish") {
		t.Error("the credentials are kept")
	}
}

type watchedImages struct {
	*memruntime.Images
	seen map[string]string
}

func (w watchedImages) Resolve(ctx context.Context, reference string, auth *runtime.RegistryAuth) (string, error) {
	if auth != nil {
		w.seen["resolve"] = auth.Password
	}
	return w.Images.Resolve(ctx, reference, auth)
}

func (w watchedImages) Ensure(ctx context.Context, reference string, pull runtime.Pull) (runtime.Image, error) {
	if pull.Auth != nil {
		w.seen["pull"] = pull.Auth.Password
	}
	return w.Images.Ensure(ctx, reference, pull)
}
