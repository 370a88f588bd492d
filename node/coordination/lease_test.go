package coordination_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/memstore"
)

const scope = "ns/shop"

func holder(op string) coordination.Holder {
	return coordination.Holder{Operation: op, Kind: "deploy", Machine: "m1", Caller: "root", Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// bubble runs a test in synthetic time with a store that expires by it.
func bubble(t *testing.T, test func(t *testing.T, s *memstore.Store, l *coordination.Leases)) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Config{})
		test(t, s, &coordination.Leases{Facts: s.Facts()})
	})
}

func acquire(t *testing.T, l *coordination.Leases, op string) *coordination.Lease {
	t.Helper()
	lease, err := l.Acquire(t.Context(), scope, holder(op))
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func release(t *testing.T, lease *coordination.Lease) {
	t.Helper()
	if err := lease.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func lost(lease *coordination.Lease) bool {
	select {
	case <-lease.Lost():
		return true
	default:
		return false
	}
}

func write(key store.Key) store.Batch {
	return store.Batch{ID: string(key), Puts: []store.Put{{Key: key, Value: []byte("{}")}}}
}

func TestRenewals(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		lease := acquire(t, l, "op1")
		first := lease.Fence()
		time.Sleep(10 * coordination.TTL)
		synctest.Wait()
		if lost(lease) || lease.Fence() <= first {
			t.Errorf("after ten times its life: lost %t, fence %d after %d", lost(lease), lease.Fence(), first)
		}
		if _, err := lease.Commit(t.Context(), write("a")); err != nil {
			t.Error(err)
		}
		_, err := l.Acquire(t.Context(), scope, holder("op2"))
		if api.CodeOf(err) != api.CodeScopeBusy || !strings.Contains(err.Error(), "deploy op1 by root on m1 holds it since 2026-01-01T00:00:00Z") {
			t.Errorf("a second holder: %v", err)
		}
		release(t, lease)
		release(t, lease) // again is nothing
		second := acquire(t, l, "op2")
		if second.Fence() <= lease.Fence() {
			t.Errorf("fence %d is not above %d", second.Fence(), lease.Fence())
		}
		release(t, second)
	})
}

// TestReleaseWritesWithIt: what is written with the release is written exactly while the lease was held.
func TestReleaseWritesWithIt(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		lease := acquire(t, l, "op1")
		if err := lease.Release(t.Context(), store.Put{Key: "a", Value: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Facts().Get(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		paused := acquire(t, l, "op2")
		pause(t, s, l)
		if err := paused.Release(t.Context(), store.Put{Key: "b", Value: []byte("{}")}); !store.IsConflict(err) {
			t.Errorf("a release after the lease was taken: %v", err)
		}
		if _, err := s.Facts().Get(t.Context(), "b"); !store.IsNotFound(err) {
			t.Errorf("it wrote: %v", err)
		}
	})
}

// TestReleaseAgain: a release that did not come through is repeated, and is the same one where it had.
func TestReleaseAgain(t *testing.T) {
	for name, hooks := range map[string]memstore.Hooks{
		"never sent":          {BeforeCommit: func(store.Batch) error { return memstore.NeverSent() }},
		"landed, answer lost": {AfterCommit: func(store.Batch, store.Revision) error { return memstore.ReplyLost() }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
				lease := acquire(t, l, "op1")
				with := store.Put{Key: "a", Value: []byte("{}")}
				s.SetHooks(hooks)
				if err := lease.Release(t.Context(), with); err == nil {
					t.Fatal("it says that it was given back")
				}
				s.SetHooks(memstore.Hooks{})
				if err := lease.Release(t.Context(), with); err != nil {
					t.Fatal(err)
				}
				if fact, err := s.Facts().Get(t.Context(), "a"); err != nil {
					t.Errorf("%v %v", fact, err)
				}
				release(t, acquire(t, l, "op2"))
			})
		})
	}
}

// TestReleaseAgainNotOurs: the release landed, its answer was lost, and another took the scope: that one keeps it.
func TestReleaseAgainNotOurs(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		lease := acquire(t, l, "op1")
		s.SetHooks(memstore.Hooks{AfterCommit: func(store.Batch, store.Revision) error { return memstore.ReplyLost() }})
		if err := lease.Release(t.Context()); !store.IsUncertain(err) {
			t.Fatal(err)
		}
		s.SetHooks(memstore.Hooks{})
		other := acquire(t, l, "op2")
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := other.Commit(t.Context(), write("a")); err != nil {
			t.Errorf("the other's commit: %v", err)
		}
		release(t, other)
	})
}

// renewedUnheard is a lease whose renewal landed without an answer, while nothing can be read either.
func renewedUnheard(t *testing.T, s *memstore.Store, l *coordination.Leases) *coordination.Lease {
	t.Helper()
	lease := acquire(t, l, "op1")
	s.SetHooks(memstore.Hooks{
		AfterCommit: func(store.Batch, store.Revision) error { return memstore.ReplyLost() },
		BeforeRead:  func(string) error { return memstore.NeverSent() },
	})
	time.Sleep(coordination.TTL/3 + time.Second)
	synctest.Wait()
	return lease
}

// TestReleaseMoved: the last renewal landed without an answer, and nothing could be read: the lease is still ours.
func TestReleaseMoved(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		lease := renewedUnheard(t, s, l)
		if err := lease.Release(t.Context()); !store.IsUnavailable(err) {
			t.Errorf("nothing can be read: %v", err)
		}
		s.SetHooks(memstore.Hooks{})
		release(t, lease)
		release(t, acquire(t, l, "op2"))
	})
}

// TestAbandonedIsNotReleased: who no longer knows whether the scope is his gives nothing back.
func TestAbandonedIsNotReleased(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		lease := acquire(t, l, "op1")
		lease.Abandon()
		release(t, lease)
		if _, err := l.Acquire(t.Context(), scope, holder("op2")); api.CodeOf(err) != api.CodeScopeBusy {
			t.Errorf("the scope: %v", err)
		}
	})
}

// pause stops the world for the one that holds the scope until another has taken it.
func pause(t *testing.T, s *memstore.Store, l *coordination.Leases) *coordination.Lease {
	t.Helper()
	s.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
		if strings.HasPrefix(b.ID, "renew-") {
			return memstore.NeverSent()
		}
		return nil
	}})
	time.Sleep(coordination.TTL + time.Second)
	other := acquire(t, l, "taker")
	s.SetHooks(memstore.Hooks{})
	t.Cleanup(other.Abandon)
	return other
}

func TestTakenOver(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		lease := acquire(t, l, "op1")
		other := pause(t, s, l)
		if _, err := lease.Commit(t.Context(), write("a")); api.CodeOf(err) != api.CodeLeaseLost {
			t.Errorf("a commit after the lease was taken: %v", err)
		}
		if _, err := s.Facts().Get(t.Context(), "a"); !store.IsNotFound(err) {
			t.Errorf("it wrote: %v", err)
		}
		time.Sleep(coordination.TTL / 2) // its next renewal is refused
		synctest.Wait()
		if !lost(lease) || lost(other) {
			t.Errorf("lost: the old %t, the new %t", lost(lease), lost(other))
		}
		if other.Fence() <= lease.Fence() {
			t.Errorf("fence %d is not above %d", other.Fence(), lease.Fence())
		}
		other.Abandon()
	})
}

// TestSilenceIsNotLoss: a store that does not answer says nothing about who holds the scope.
func TestSilenceIsNotLoss(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		lease := acquire(t, l, "op1")
		s.SetHooks(memstore.Hooks{BeforeCommit: func(store.Batch) error { return memstore.NeverSent() }})
		time.Sleep(coordination.TTL / 2)
		synctest.Wait()
		s.SetHooks(memstore.Hooks{})
		if lost(lease) {
			t.Error("lost by silence")
		}
		time.Sleep(coordination.TTL)
		if _, err := lease.Commit(t.Context(), write("a")); err != nil {
			t.Error(err)
		}
		release(t, lease)
	})
}

// TestExpiredIsLost: nobody took it, but somebody could have.
func TestExpiredIsLost(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		lease := acquire(t, l, "op1")
		s.SetHooks(memstore.Hooks{BeforeCommit: func(store.Batch) error { return memstore.NeverSent() }})
		time.Sleep(2 * coordination.TTL)
		s.SetHooks(memstore.Hooks{})
		time.Sleep(coordination.TTL / 2)
		synctest.Wait()
		if !lost(lease) {
			t.Error("a lease that ran out goes on")
		}
		if _, err := lease.Commit(t.Context(), write("a")); api.CodeOf(err) != api.CodeLeaseLost {
			t.Errorf("a commit after it ran out: %v", err)
		}
		lease.Abandon()
	})
}

// TestRecognise: a renewal that landed without an answer is known again at once, so that the commit after it
// is not refused.
func TestRecognise(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		lease := acquire(t, l, "op1")
		before := lease.Fence()
		s.SetHooks(memstore.Hooks{AfterCommit: func(store.Batch, store.Revision) error { return memstore.ReplyLost() }})
		time.Sleep(coordination.TTL/3 + time.Second)
		synctest.Wait()
		s.SetHooks(memstore.Hooks{})
		if lost(lease) || lease.Fence() <= before {
			t.Errorf("lost %t, fence %d after %d", lost(lease), lease.Fence(), before)
		}
		if _, err := lease.Commit(t.Context(), write("a")); err != nil {
			t.Error(err)
		}
		release(t, lease)
	})
}

// TestRecogniseLater: nothing can be read either, so the next renewal finds its own value in its way.
func TestRecogniseLater(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		lease := renewedUnheard(t, s, l)
		s.SetHooks(memstore.Hooks{})
		time.Sleep(coordination.TTL / 3)
		synctest.Wait()
		if lost(lease) {
			t.Fatal("lost to its own renewal")
		}
		if _, err := lease.Commit(t.Context(), write("a")); err != nil {
			t.Error(err)
		}
		release(t, lease)
	})
}

func TestAcquireAnswerLost(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		s.SetHooks(memstore.Hooks{AfterCommit: func(store.Batch, store.Revision) error { return memstore.ReplyLost() }})
		lease := acquire(t, l, "op1")
		s.SetHooks(memstore.Hooks{})
		if _, err := lease.Commit(t.Context(), write("a")); err != nil {
			t.Error(err)
		}
		release(t, lease)
	})
}

func TestAcquireUnanswered(t *testing.T) {
	for name, c := range map[string]struct {
		hooks memstore.Hooks
		want  api.Code
	}{
		"never sent":  {memstore.Hooks{BeforeCommit: func(store.Batch) error { return memstore.NeverSent() }}, api.CodeStoreUnavailable},
		"always lost": {memstore.Hooks{BeforeCommit: func(store.Batch) error { return memstore.ReplyLost() }}, api.CodeStoreUncertain},
		"no reading":  {memstore.Hooks{BeforeRead: func(string) error { return memstore.NeverSent() }}, api.CodeStoreUnavailable},
		"contended":   {memstore.Hooks{BeforeCommit: func(store.Batch) error { return memstore.Rejected("x") }}, api.CodeScopeBusy},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
				s.SetHooks(c.hooks)
				if _, err := l.Acquire(t.Context(), scope, holder("op1")); api.CodeOf(err) != c.want {
					t.Errorf("got %v, want %s", err, c.want)
				}
			})
		})
	}
}

// TestAcquireRace puts another's lease between the look and the write: the loser names the winner.
func TestAcquireRace(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		var winner *coordination.Lease
		s.SetHooks(memstore.Hooks{BeforeCommit: func(b store.Batch) error {
			if winner == nil && strings.HasPrefix(b.ID, "op1") {
				s.SetHooks(memstore.Hooks{})
				winner = acquire(t, l, "op2")
			}
			return nil
		}})
		_, err := l.Acquire(t.Context(), scope, holder("op1"))
		if api.CodeOf(err) != api.CodeScopeBusy || !strings.Contains(err.Error(), "op2") {
			t.Errorf("the loser: %v", err)
		}
		release(t, winner)
	})
}

// TestAcquireWhileRemovalExpires: the trace of the last release vanishes between the look and the write.
func TestAcquireWhileRemovalExpires(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		release(t, acquire(t, l, "op1"))
		time.Sleep(coordination.TTL - time.Second)
		s.SetHooks(memstore.Hooks{BeforeCommit: func(store.Batch) error {
			s.SetHooks(memstore.Hooks{})
			time.Sleep(3 * time.Second)
			return nil
		}})
		release(t, acquire(t, l, "op2"))
	})
}

// TestDeadHolder: the lease of one who certainly ended is taken over at once, and its fence is old.
func TestDeadHolder(t *testing.T) {
	bubble(t, func(t *testing.T, _ *memstore.Store, l *coordination.Leases) {
		dead := acquire(t, l, "op1")
		l.Dead = func(h coordination.Holder) bool { return h.Operation == "op1" }
		alive := acquire(t, l, "op2")
		if alive.Fence() <= dead.Fence() {
			t.Errorf("the fence was %d and is %d", dead.Fence(), alive.Fence())
		}
		if _, err := dead.Commit(t.Context(), write("a")); api.CodeOf(err) != api.CodeLeaseLost {
			t.Errorf("a commit of the dead: %v", err)
		}
		if _, err := l.Acquire(t.Context(), scope, holder("op3")); api.CodeOf(err) != api.CodeScopeBusy {
			t.Errorf("the next: %v", err)
		}
		dead.Abandon()
		release(t, alive)
	})
}

// TestOutlivesItsContext: only Release and Abandon end the renewals.
func TestOutlivesItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, s *memstore.Store, l *coordination.Leases) {
		ctx, cancel := context.WithCancel(t.Context())
		lease, err := l.Acquire(ctx, scope, holder("op1"))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		time.Sleep(3 * coordination.TTL)
		synctest.Wait()
		if lost(lease) {
			t.Error("lost with the context it was acquired under")
		}
		lease.Abandon()
		time.Sleep(coordination.TTL + time.Second)
		release(t, acquire(t, l, "op2"))
	})
}
