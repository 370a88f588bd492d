package runtimetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ployz/ployz/node/runtime"
)

// awaitLines polls until the instance has written at least n lines.
func awaitLines(t *testing.T, f Fixture, id string, n int) []runtime.LogLine {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		lines := logs(t, f, runtime.LogQuery{Instance: id, Lines: -1})
		if len(lines) >= n {
			return lines
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d lines of %s after %v, want %d: %v", len(lines), id, patience, n, lines)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func logs(t *testing.T, f Fixture, q runtime.LogQuery) []runtime.LogLine {
	t.Helper()
	var lines []runtime.LogLine
	err := f.Console.Logs(t.Context(), q, func(l runtime.LogLine) error {
		lines = append(lines, l)
		return nil
	})
	must(t, err)
	return lines
}

func testLogs(t *testing.T, f Fixture) {
	spec := Spec(t, "", "say=first", "say=second", "serve")
	spec.Namespace = spec.ID // one that no other test writes in
	begin := time.Now().Add(-time.Second)
	started(t, f, spec)
	lines := awaitLines(t, f, spec.ID, 2)
	for i, want := range []string{"first", "second"} {
		l := lines[i]
		if l.Message != want || l.Namespace != spec.ID || l.Service != "web" || l.Instance != spec.ID || l.Time.Before(begin) {
			t.Fatalf("line %d: %+v", i, l)
		}
	}
	for _, q := range []runtime.LogQuery{{Namespace: spec.ID}, {Namespace: spec.ID, Service: "web"}, {Namespace: spec.ID, Instance: spec.ID}} {
		q.Lines = -1
		if got := logs(t, f, q); len(got) != 2 {
			t.Fatalf("query %+v found %v", q, got)
		}
	}
	if got := logs(t, f, runtime.LogQuery{Namespace: spec.ID, Service: "other", Lines: -1}); len(got) != 0 {
		t.Fatalf("another service's query found %v", got)
	}
	if got := logs(t, f, runtime.LogQuery{Namespace: "elsewhere", Instance: spec.ID, Lines: -1}); len(got) != 0 {
		t.Fatalf("another namespace's query found %v", got)
	}
	if got := logs(t, f, runtime.LogQuery{Instance: spec.ID, Lines: -1, Since: time.Now().Add(time.Hour)}); len(got) != 0 {
		t.Fatalf("a query for the future found %v", got)
	}
}

func testLogsTail(t *testing.T, f Fixture) {
	spec := Spec(t, "", "say=1", "say=2", "say=3", "serve")
	started(t, f, spec)
	awaitLines(t, f, spec.ID, 3)
	got := logs(t, f, runtime.LogQuery{Instance: spec.ID, Lines: 2})
	if len(got) != 2 || got[0].Message != "2" || got[1].Message != "3" {
		t.Fatalf("last two lines: %v", got)
	}
	if got := logs(t, f, runtime.LogQuery{Instance: spec.ID, Lines: 0}); len(got) != 0 {
		t.Fatalf("last no lines: %v", got)
	}
}

func testFollow(t *testing.T, f Fixture) {
	spec := Spec(t, "", "say=hello", "exit=0")
	spec.Job = true
	started(t, f, spec)
	awaitLines(t, f, spec.ID, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := make(chan string, 16)
	done := make(chan error, 1)
	go func() {
		done <- f.Console.Logs(ctx, runtime.LogQuery{Instance: spec.ID, Lines: -1, Follow: true}, func(l runtime.LogLine) error {
			seen <- l.Message
			return nil
		})
	}()
	wantSeen(t, seen, "hello")
	await(t, f.Runtime, spec.ID, runtime.StateStopped)
	must(t, f.Runtime.Start(t.Context(), spec.ID))
	wantSeen(t, seen, "hello")
	cancel()
	must(t, <-done)
}

func wantSeen(t *testing.T, seen <-chan string, want string) {
	t.Helper()
	select {
	case got := <-seen:
		if got != want {
			t.Fatalf("followed %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("nothing followed in %v", patience)
	}
}

func testEmitError(t *testing.T, f Fixture) {
	spec := Spec(t, "", "say=1", "say=2", "serve")
	started(t, f, spec)
	awaitLines(t, f, spec.ID, 2)
	full := errors.New("reader is full")
	calls := 0
	err := f.Console.Logs(t.Context(), runtime.LogQuery{Instance: spec.ID, Lines: -1, Follow: true}, func(runtime.LogLine) error {
		calls++
		return full
	})
	if !errors.Is(err, full) || calls != 1 {
		t.Fatalf("error %v after %d calls", err, calls)
	}
}
