package systemd

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/units"
)

// frozenUnit names, for the process that TestKilledWhileFrozen starts, what to freeze.
const frozenUnit = "PLOYZ_TEST_FREEZE"

// TestKilledWhileFrozen: a unit goes on though who froze it was killed and nobody came after.
func TestKilledWhileFrozen(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Systemd)
	s := New()
	t.Cleanup(s.Close)
	if name := os.Getenv(frozenUnit); name != "" {
		if err := s.Freeze(t.Context(), name, 2*time.Second); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("frozen\n")
		select {} // until it is killed
	}
	u := units.Stamp("ployz-test-frozen.service", "[Unit]\n[Service]\nType=exec\nExecStart=/bin/sleep 1000\n")
	t.Cleanup(func() {
		if err := s.Remove(context.Background(), u.Name); err != nil {
			t.Error(err)
		}
	})
	if err := s.Write(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context(), u.Name); err != nil {
		t.Fatal(err)
	}
	freezer := exec.Command("/proc/self/exe", "-test.run", "^TestKilledWhileFrozen$")
	freezer.Env = append(os.Environ(), frozenUnit+"="+u.Name)
	out, err := freezer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := freezer.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if err := freezer.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = freezer.Wait() // it was killed, which is an error
	if !frozen(t, s, u.Name) {
		t.Fatal("it did not stand still")
	}
	deadline := time.Now().Add(20 * time.Second)
	for frozen(t, s, u.Name) {
		if time.Now().After(deadline) {
			t.Fatal("it stands still for ever")
		}
		time.Sleep(20 * time.Millisecond)
	}
	deadline = time.Now().Add(20 * time.Second)
	for left(t, s) > 0 {
		if time.Now().After(deadline) {
			t.Fatal("the units of the timer stay")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func frozen(t *testing.T, s *Supervisor, name string) bool {
	t.Helper()
	o, err := s.Observe(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return o.Frozen
}

func left(t *testing.T, s *Supervisor) int {
	t.Helper()
	all, err := s.List(t.Context(), "ployz-thaw-*")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
