// Package labtest gives tests labs of real systemd machines (see cmd/ployzctl/dev), and tests the
// labs themselves and the package that is installed in them.
//
// A test gets a lab of its own, with a name that no other test of this computer has, and loses it
// when it ends, whichever way. Labs share no network, so tests with labs may run at the same time.
package labtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

// commandLimit ends a command that hangs; nothing that tests run in a machine takes that long.
const commandLimit = 2 * time.Minute

// Client is the place in a lab that is outside of every machine.
const Client = "client"

// Lab is a running lab that belongs to one test.
type Lab struct {
	Name  string
	t     testing.TB
	built string // path of the probe; "" is not built yet
}

var counter atomic.Int32

// FreshName returns a name for a lab that no other test has.
func FreshName() string { return fmt.Sprintf("t%d-%d", os.Getpid(), counter.Add(1)) }

// Start boots a lab of machines m1, m2, ... with the packages installed, and removes it when the
// test ends. A failed test first shows what the machines' journals warn of. It skips, or fails
// under PLOYZ_TEST_REQUIRE, where labs cannot be.
func Start(t testing.TB, machines int, debs ...string) *Lab {
	t.Helper()
	return StartWith(t, dev.Options{Machines: machines, Debs: debs})
}

// StartWith is Start with every option, but for the name and who is told of the progress.
func StartWith(t testing.TB, o dev.Options) *Lab {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Nspawn, testenv.Overlay)
	l := &Lab{Name: FreshName(), t: t}
	t.Cleanup(l.remove)
	l.Up(o)
	return l
}

// StartInstalled is Start with this checkout's own package.
func StartInstalled(t testing.TB, machines int) *Lab {
	t.Helper()
	testenv.Require(t, testenv.Deb)
	return Start(t, machines, testenv.DebPath())
}

// In returns the same lab for a subtest, whose failures are then its own. Who started the lab removes it.
func (l *Lab) In(t testing.TB) *Lab { return &Lab{Name: l.Name, t: t, built: l.built} }

// Up brings the lab up, again or further, and fails the test if it does not come.
func (l *Lab) Up(o dev.Options) *dev.Lab {
	l.t.Helper()
	o.Name, o.Progress = l.Name, func(text string) { l.t.Log(text) }
	found, err := dev.Up(l.t.Context(), o)
	if err != nil {
		l.t.Fatal(err)
	}
	return found
}

func (l *Lab) remove() {
	if l.t.Failed() {
		l.showJournals()
	}
	if err := dev.Down(l.Name); err != nil {
		l.t.Error(err)
	}
}

func (l *Lab) showJournals() {
	found, err := dev.Inspect(l.Name)
	if err != nil {
		return // it never was, or is gone already
	}
	for _, m := range found.Machines {
		r := l.run(context.Background(), m.Name, nil, "journalctl", "--no-pager", "--boot", "--priority=warning", "--lines=40")
		l.t.Logf("journal of %s (%s):\n%s", m.Name, m.State, r.Out)
	}
}

// Result is how a command in a lab ended.
type Result struct {
	Status   int
	Out, Err string
}

// Try runs a command in a machine, or at Client, and returns how it ended.
func (l *Lab) Try(place string, argv ...string) Result {
	l.t.Helper()
	return l.run(l.t.Context(), place, nil, argv...)
}

// Run runs a command that must succeed and returns what it printed, without the last newline.
func (l *Lab) Run(place string, argv ...string) string {
	l.t.Helper()
	r := l.Try(place, argv...)
	if r.Status != 0 {
		l.t.Fatalf("%s/%s: %s\nexit status %d\n%s%s", l.Name, place, strings.Join(argv, " "), r.Status, r.Out, r.Err)
	}
	return strings.TrimSuffix(r.Out, "\n")
}

// Script runs a shell script that must succeed and returns what it printed, without the last newline.
func (l *Lab) Script(place, script string) string {
	l.t.Helper()
	return l.Run(place, "sh", "-euc", script)
}

// Copy puts a file of this computer into a machine, executable.
func (l *Lab) Copy(machine, from, to string) {
	l.t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		l.t.Fatal(err)
	}
	r := l.run(l.t.Context(), machine, content, "sh", "-euc", `cat >"$0.new"; chmod 755 "$0.new"; mv "$0.new" "$0"`, to)
	if r.Status != 0 {
		l.t.Fatalf("copying to %s/%s: %s", machine, to, r.Err)
	}
}

// Eventually asks until the answer is yes, and fails the test with what was awaited after 30 s.
func (l *Lab) Eventually(what string, ask func() bool) {
	l.t.Helper()
	l.Within(30*time.Second, what, ask)
}

// Within is Eventually for what takes longer.
func (l *Lab) Within(patience time.Duration, what string, ask func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(patience); !ask(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func (l *Lab) run(ctx context.Context, place string, stdin []byte, argv ...string) Result {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	var out, errs bytes.Buffer
	status, err := dev.Exec(ctx, l.Name, place, argv, dev.Streams{In: bytes.NewReader(stdin), Out: &out, Err: &errs})
	if err != nil {
		l.t.Fatalf("%s/%s: %s: %v\n%s%s", l.Name, place, strings.Join(argv, " "), err, out.String(), errs.String())
	}
	return Result{Status: status, Out: out.String(), Err: errs.String()}
}
