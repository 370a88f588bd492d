package operation_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

// noRelease is a store that takes everything but the releases after the first few, of which it takes none.
func noRelease(how func() error, first int) memstore.Hooks {
	return memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if !strings.HasPrefix(b.ID, "release-") || first == 0 {
			return nil
		}
		first--
		return how()
	}}
}

const always = -1

func (s *stage) expectScope(free bool) {
	s.t.Helper()
	_, err := s.store.Facts().Get(s.t.Context(), store.Lease("thing/x"))
	if store.IsNotFound(err) != free {
		s.t.Errorf("the scope's lease: %v, free should be %t", err, free)
	}
}

func note(seen []api.Event) string {
	for _, e := range seen {
		if e.Type == api.EventNote {
			return e.Message
		}
	}
	return ""
}

// TestReleaseFailsOnce: the scope is free when the operation ends, and so is its open fact.
func TestReleaseFailsOnce(t *testing.T) {
	landed := func(once bool) memstore.Hooks {
		return memstore.Hooks{AfterCommit: func(b store.Batch, _ store.Revision) error {
			defer func() { once = once && !strings.HasPrefix(b.ID, "release-") }()
			return onlyIf(once && strings.HasPrefix(b.ID, "release-"), memstore.ReplyLost())
		}}
	}
	for name, hooks := range map[string]memstore.Hooks{
		"never sent":          noRelease(memstore.NeverSent, 1),
		"lost":                noRelease(memstore.ReplyLost, 1),
		"landed, answer lost": landed(true),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.store.SetHooks(hooks)
				out, seen, _ := s.run(t.Context(), s.good("y"))
				if out.Outcome != api.Committed || note(seen) != "" {
					t.Errorf("it ended %s, with the note %q", out.Outcome, note(seen))
				}
				s.expectScope(true)
				s.expectOpens(0)
			})
		})
	}
}

// TestReleaseFailsLong: the operator gets the outcome within some seconds, and the scope is free soon after the store
// takes the release.
func TestReleaseFailsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.store.SetHooks(noRelease(memstore.NeverSent, always))
		began := time.Now()
		out, seen, _ := s.run(t.Context(), s.good("y"))
		if waited := time.Since(began); out.Outcome != api.Committed || waited > 4*time.Second {
			t.Errorf("it ended %s after %s", out.Outcome, waited)
		}
		if !strings.Contains(note(seen), "not given back yet") {
			t.Errorf("the operator was told %q", note(seen))
		}
		time.Sleep(10 * time.Second)
		s.expectScope(false)
		s.store.SetHooks(memstore.Hooks{})
		time.Sleep(3 * time.Second)
		s.expectScope(true)
		s.expectOpens(0)
	})
}

// TestReleaseFailsForGood: nothing tries on for longer than the lease can last. The bubble ends only when nothing runs.
func TestReleaseFailsForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		tries := 0
		s.store.SetHooks(noRelease(func() error { tries++; return memstore.NeverSent() }, always))
		s.run(t.Context(), s.good("y"))
		time.Sleep(coordination.TTL + 2*time.Second)
		ended := tries
		time.Sleep(time.Hour)
		if tries != ended || tries < 10 || tries > 40 {
			t.Errorf("%d tries at first, %d in the end", ended, tries)
		}
		s.expectScope(false)
	})
}

// TestReleaseNotOurs: the lease ran out meanwhile and another took the scope: that one keeps it.
func TestReleaseNotOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.store.SetHooks(noRelease(memstore.NeverSent, always))
		s.run(t.Context(), s.good("y"))
		s.advance(coordination.TTL + time.Second) // the store forgets the lease
		other, err := s.acquire(t.Context(), "thing/x", coordination.Holder{Operation: "other"})
		if err != nil {
			t.Fatal(err)
		}
		s.store.SetHooks(memstore.Hooks{})
		time.Sleep(3 * time.Second)
		s.expectScope(false)
		if err := other.Release(t.Context()); err != nil {
			t.Errorf("the other cannot give it back: %v", err)
		}
	})
}
