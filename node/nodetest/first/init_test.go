package first_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/onemachine"
)

// wantUp fails the test unless status says that every part is up.
func wantUp(t *testing.T, m *onemachine.Machine) {
	t.Helper()
	s := m.Status()
	for part, state := range map[string]string{
		"daemon": s.Daemon.State, "store": s.Store.State, "gateway": s.Gateway.State, "dns": s.DNS.State,
	} {
		if state != api.StateUp {
			t.Errorf("status says that the %s is %s", part, state)
		}
	}
	if t.Failed() {
		t.Log(m.Ctl("status").Out)
	}
}

// awaitUp waits until every part is up: after a start each first has to hear that its view is fresh.
func awaitUp(t *testing.T, m *onemachine.Machine) {
	t.Helper()
	begin := time.Now()
	m.Eventually("every part to be up", func() bool {
		s := m.Status()
		return s.Daemon.State == api.StateUp && s.Store.State == api.StateUp && s.Gateway.State == api.StateUp && s.DNS.State == api.StateUp
	})
	t.Logf("every part is up after %s", time.Since(begin).Round(10*time.Millisecond))
}

func TestInitFoundsACluster(t *testing.T) {
	m := onemachine.Start(t)
	before := m.World()
	if s := m.Status(); s.Store.State != api.StateAbsent || s.Gateway.State != api.StateAbsent {
		t.Errorf("before init: store %s, gateway %s", s.Store.State, s.Gateway.State)
	}
	for _, argv := range [][]string{{"history", "shop"}, {"deploy", "-f", m.File("compose.yaml", "name: a\nservices: {b: {image: c}}\n")}} {
		if r := m.Ctl(argv...); r.Status != 3 || !strings.Contains(r.Err, string(api.CodeNotInitialised)) || !strings.Contains(r.Err, "ployzctl init") {
			t.Errorf("%v before init: exit status %d\n%s%s", argv, r.Status, r.Out, r.Err)
		}
	}
	if diff := onemachine.Differences(before, m.World()); diff != "" {
		t.Errorf("the refused commands changed:\n%s", diff)
	}

	m.Must("init")
	wantUp(t, m)
	before = m.World()
	r := m.Ctl("init")
	if r.Status != 3 || !strings.Contains(r.Err, string(api.CodeMachineInitialised)) {
		t.Errorf("init again: exit status %d\n%s%s", r.Status, r.Out, r.Err)
	}
	if diff := onemachine.Differences(before, m.World()); diff != "" {
		t.Errorf("init again changed:\n%s", diff)
	}
}

// TestInitWithPortTaken occupies each port that must be free.
func TestInitWithPortTaken(t *testing.T) {
	m := onemachine.Start(t)
	for _, port := range []string{"80", "443"} {
		m.Script("m1", "systemd-run --quiet --unit=squatter python3 -m http.server "+port)
		m.Eventually("the port to be taken", func() bool { return m.Try("m1", "curl", "-s", "-o", "/dev/null", "localhost:"+port).Status == 0 })
		before := m.World()
		r := m.Ctl("init")
		if r.Status != 3 || !strings.Contains(r.Err, string(api.CodeMachinePortTaken)) || !strings.Contains(r.Err, "python3") {
			t.Errorf("init with port %s taken: exit status %d\n%s%s", port, r.Status, r.Out, r.Err)
		}
		if diff := onemachine.Differences(before, m.World()); diff != "" {
			t.Errorf("it changed:\n%s", diff)
		}
		m.Script("m1", "systemctl stop squatter")
	}
	m.Must("init")
	wantUp(t, m)
}

// TestInitInterrupted kills the daemon at random moments of init, until one gets through.
func TestInitInterrupted(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	m := onemachine.Start(t)
	for try := range 6 {
		wait := time.Duration(random.Int64N(int64(6 * time.Second)))
		done := make(chan struct{})
		go func() {
			defer close(done)
			time.Sleep(wait)
			m.Try("m1", "systemctl", "kill", "--signal=KILL", "ployzd")
		}()
		r := m.Ctl("init")
		<-done
		t.Logf("try %d, ployzd killed after %s: exit status %d: %s", try, wait, r.Status, lastLine(r.Err))
		if r.Status == 0 || strings.Contains(r.Err, string(api.CodeMachineInitialised)) {
			break
		}
	}
	if r := m.Ctl("init"); r.Status != 0 && !strings.Contains(r.Err, string(api.CodeMachineInitialised)) {
		t.Fatalf("the last init: exit status %d\n%s%s", r.Status, r.Out, r.Err)
	}
	wantUp(t, m)
	deploySite(m)
}
