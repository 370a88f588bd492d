package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestKilledGatewayLeavesNothing: its successor removes its sockets, and of nobody who lives.
func TestKilledGatewayLeavesNothing(t *testing.T) {
	l := newLab(t)
	alive := l.starts(t)
	killed := l.starts(t)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.Wait()
	left := fmt.Sprintf("%s.%d", l.status, killed.Process.Pid)
	unnamed := []string{fmt.Sprintf("%s.new-%d", l.status, ended(t)), fmt.Sprintf("%s.new-%d", l.status, os.Getpid())}
	for _, file := range unnamed {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(left); err != nil {
		t.Fatalf("the killed one left nothing to remove: %v", err)
	}
	next := l.starts(t)
	got, err := filepath.Glob(l.status + "*")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{l.status, fmt.Sprintf("%s.%d", l.status, alive.Process.Pid), fmt.Sprintf("%s.%d", l.status, next.Process.Pid), unnamed[1]}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("there are\n%q\nwant\n%q", got, want)
	}
}

// starts runs the program until the test is over.
func (l *lab) starts(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := l.start(t)
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // an error says that it ended before
		hung := time.AfterFunc(30*time.Second, func() { t.Error("it does not end"); cmd.Process.Kill() })
		cmd.Wait()
		hung.Stop()
	})
	return cmd
}

// ended is the pid of a process that is no more.
func ended(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}
