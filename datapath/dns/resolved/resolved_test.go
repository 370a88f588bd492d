package resolved

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

var busDaemon = testenv.Feature{Name: "dbus-daemon", Missing: func() string {
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		return "no dbus-daemon (Debian: apt install dbus)"
	}
	return ""
}}

// manager1 stands at resolved's place on a bus of the test's own and notes what it is told,
// with the signatures of org.freedesktop.resolve1(5).
type manager1 struct {
	mu    sync.Mutex
	calls []string // guarded by mu
	fail  *dbus.Error
}

func (m *manager1) note(format string, args ...any) *dbus.Error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, fmt.Sprintf(format, args...))
	return m.fail
}

func (m *manager1) SetLinkDNS(index int32, servers []server) *dbus.Error {
	return m.note("SetLinkDNS %d %v", index, servers)
}

func (m *manager1) SetLinkDomains(index int32, domains []domain) *dbus.Error {
	return m.note("SetLinkDomains %d %v", index, domains)
}

func (m *manager1) SetLinkDefaultRoute(index int32, enable bool) *dbus.Error {
	return m.note("SetLinkDefaultRoute %d %v", index, enable)
}

func (m *manager1) RevertLink(index int32) *dbus.Error { return m.note("RevertLink %d", index) }

// privateBus starts a bus and makes it this process's system bus.
func privateBus(t *testing.T) {
	t.Helper()
	testenv.Require(t, busDaemon)
	socket := filepath.Join(t.TempDir(), "bus")
	config := filepath.Join(t.TempDir(), "bus.conf")
	text := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=` + socket + `</listen>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--nofork", "--print-address", "--config-file="+config)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // says only that it was killed
	})
	address, err := bufio.NewReader(out).ReadString('\n') // written once it listens
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", strings.TrimSpace(address))
}

func export(t *testing.T, m *manager1) {
	t.Helper()
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.Export(m, object, iface); err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.RequestName(service, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("RequestName: %v, %v", reply, err)
	}
}

var link = Link{7, []netip.Addr{netip.MustParseAddr("10.101.3.1"), netip.MustParseAddr("fd00::1")}, []string{"ployz.internal"}}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestEnsureAndRevert(t *testing.T) {
	privateBus(t)
	m := &manager1{}
	export(t, m)
	if st, err := Ensure(bounded(t), link); st != Applied || err != nil {
		t.Fatalf("Ensure: %s, %v", st, err)
	}
	if st, err := Revert(bounded(t), 7); st != Applied || err != nil {
		t.Fatalf("Revert: %s, %v", st, err)
	}
	want := []string{
		"SetLinkDomains 7 [{ployz.internal true}]",
		"SetLinkDefaultRoute 7 false",
		"SetLinkDNS 7 [{2 [10 101 3 1]} {10 [253 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1]}]",
		"RevertLink 7",
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if got := strings.Join(m.calls, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("resolved was told\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestNotRunning(t *testing.T) {
	privateBus(t)
	if st, err := Ensure(bounded(t), link); st != NotRunning || err != nil {
		t.Errorf("on a bus without resolved: %s, %v", st, err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	if st, err := Ensure(bounded(t), link); st != NotRunning || err != nil {
		t.Errorf("without a bus: %s, %v", st, err)
	}
}

func TestRefusalIsAnError(t *testing.T) {
	privateBus(t)
	export(t, &manager1{fail: dbus.NewError("org.freedesktop.resolve1.LinkBusy", []any{"managed by networkd"})})
	st, err := Ensure(bounded(t), link)
	var e dbus.Error
	if st == Applied || !errors.As(err, &e) || e.Name != "org.freedesktop.resolve1.LinkBusy" || !strings.Contains(err.Error(), "SetLinkDomains of link 7") {
		t.Errorf("Ensure: %q, %v", st, err)
	}
}
