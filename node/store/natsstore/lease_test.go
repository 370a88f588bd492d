package natsstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// race is several who want one lease, and commit under it, some after it ran out.
type race struct {
	s  *natsstore.Store
	mu sync.Mutex
	// taken are the tokens of leases that were told as taken, and done the commits that were told as committed, by
	// their revision, with the token that they had.
	taken []store.Revision
	done  map[store.Revision]store.Revision
}

const (
	raceLease, raceHead store.Key = "lease.race", "ns.race.head"
	raceTTL                       = 2 * time.Second
)

// contend takes the lease, stalls for up to twice its life, and commits, until ctx ends.
func (r *race) contend(ctx context.Context, name string) {
	for n := 0; ctx.Err() == nil; n++ {
		r.once(ctx, fmt.Sprintf("%s-%d", name, n))
		time.Sleep(time.Duration(rand.N(50)) * time.Millisecond)
	}
}

func (r *race) once(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, 4*raceTTL)
	defer cancel()
	lease, err := r.s.Facts().Get(ctx, raceLease)
	if err == nil || !store.IsNotFound(err) {
		return // somebody has it, or nobody answers
	}
	take := put(raceLease, id)
	take.TTL, take.Expect = raceTTL, store.Expect(lease.Revision)
	token, err := r.s.Facts().Commit(ctx, batch("take-"+id, take))
	if err != nil {
		return
	}
	r.mu.Lock()
	r.taken = append(r.taken, token)
	r.mu.Unlock()
	head, err := r.s.Facts().Get(ctx, raceHead)
	if err != nil && !store.IsNotFound(err) {
		return
	}
	time.Sleep(rand.N(2 * raceTTL))
	b := batch("commit-"+id, put(raceHead, id), put(store.Key("ns.race."+id), id))
	b.Puts[0].Expect = store.Expect(head.Revision)
	b.Checks = []store.Check{{Key: raceLease, Expect: token}}
	if revision, err := r.s.Facts().Commit(ctx, b); err == nil {
		r.mu.Lock()
		r.done[revision] = token
		r.mu.Unlock()
	}
}

// TestLeaseRaceUnderKills has several contend for a lease while whoever leads is killed: nobody commits whose lease
// another one took before, and what was told as committed is there.
func TestLeaseRaceUnderKills(t *testing.T) {
	t.Parallel()
	c := natslab.StartCluster(t, 3)
	c.Promote(c.Machines[1])
	c.Promote(c.Machines[2])
	r := &race{s: c.Open(c.Machines[0]), done: map[store.Revision]store.Revision{}}
	ready(t, r.s)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() { r.contend(ctx, fmt.Sprint("c", i)) })
	}
	for range 2 {
		r.await(t, 3)
		leader := leaderOf(t, c, r.s)
		leader.Core.Kill()
		leader.Core.Start()
	}
	r.await(t, 3)
	stop()
	all.Wait()
	for revision, token := range r.done {
		for _, other := range r.taken {
			if token < other && other < revision {
				t.Errorf("revision %d was committed under lease %d, after %d had been taken", revision, token, other)
			}
		}
	}
	facts, err := r.s.Facts().List(within(t, natslab.Patience), "ns.race")
	if err != nil || len(facts) < len(r.done)+1 {
		t.Errorf("%d commits were told, %d facts are there: %v", len(r.done), len(facts), err)
	}
	t.Logf("%d leases taken, %d commits", len(r.taken), len(r.done))
}

// await waits for some more commits.
func (r *race) await(t *testing.T, n int) {
	t.Helper()
	count := func() int { r.mu.Lock(); defer r.mu.Unlock(); return len(r.done) }
	until := count() + n
	for deadline := time.Now().Add(2 * natslab.Patience); count() < until; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("commits did not resume: %d", count())
		}
	}
}
