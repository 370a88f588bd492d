package daemon

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/store/natsstore"
)

// verbDigest has a machine sum up its mirror.
const verbDigest = "store.digest"

// storeSurface shows the store: StoreSurface.
type storeSurface struct {
	daemon *Daemon
	self   machine.Identity
}

// Report implements StoreSurface. It works as far as possible without a majority, and says so.
func (s storeSurface) Report(ctx context.Context, verify bool) (api.StoreReport, error) {
	t, err := s.daemon.store.Load().Topology(ctx)
	if err != nil {
		return api.StoreReport{}, err
	}
	members, _, err := machine.Readable(ctx, s.daemon.peering.Load().view)
	if err != nil {
		return api.StoreReport{}, err
	}
	r := api.StoreReport{
		Leader: machineOf(members, t.Leader), Quorum: t.Quorum, Writable: t.HasQuorum(), Voters: []api.StoreVoter{},
		Statement: named(t.Statement(), members),
	}
	for _, v := range t.Voters {
		one := api.StoreVoter{Machine: machineOf(members, v.Name), Server: v.Name, State: voterState(v), Lag: v.Lag}
		if v.NoRoom {
			full := s.daemon.askRoom(ctx, members, v)
			one.Room, r.Statement = full.room, append(r.Statement, full.err().Message+". "+full.err().Hint)
		}
		r.Voters = append(r.Voters, one)
	}
	slices.SortFunc(r.Voters, func(a, b api.StoreVoter) int { return cmp.Compare(a.Machine, b.Machine) })
	if !verify {
		return r, nil
	}
	s.verify(ctx, members, &r)
	facts, err := s.daemon.peering.Load().view.List(ctx, "")
	r.Unreadable = unreadableOf(facts)
	return r, err
}

func voterState(v natsstore.Voter) string {
	switch {
	case v.NoRoom:
		return api.RoomFull
	case !v.Answers || !v.Online:
		return api.SeenSilent
	case !v.Current || v.Lag > 0:
		return "behind"
	}
	return api.StateUp
}

// machineOf is the machine that a server's name belongs to, or the name where no member has it.
func machineOf(members []machine.Member, server string) string {
	for _, m := range members {
		if strings.HasPrefix(server, m.ID+"-") {
			return m.Name
		}
	}
	return server
}

// named puts machines' names where a statement has their servers'.
func named(statement []string, members []machine.Member) []string {
	for i, line := range statement {
		words := strings.Fields(line)
		for k, word := range words {
			bare := strings.Trim(word, ",.:;()")
			if name := machineOf(members, bare); name != bare {
				words[k] = strings.Replace(word, bare, name, 1)
			}
		}
		statement[i] = strings.Join(words, " ")
	}
	return statement
}

// verify has every machine sum up its copy, and the leader its own.
func (s storeSurface) verify(ctx context.Context, members []machine.Member, r *api.StoreReport) {
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		copies []natsstore.NamedDigest
	)
	add := func(name string, digest natsstore.Digest, err error) {
		mu.Lock()
		defer mu.Unlock()
		c := api.StoreCopy{Name: name, Last: uint64(digest.Last), Facts: digest.Facts, Sum: digest.Sum}
		if err != nil {
			c = api.StoreCopy{Name: name, Error: api.AsError(err)}
		} else {
			copies = append(copies, natsstore.NamedDigest{Name: name, Digest: digest})
		}
		r.Copies = append(r.Copies, c)
	}
	wg.Go(func() {
		digest, err := s.daemon.store.Load().CoreDigest(ctx)
		add("the core", digest, err)
	})
	for _, m := range members {
		wg.Go(func() {
			digest, err := command[natsstore.Digest](ctx, s.daemon, m.ID, coordination.Command{Verb: verbDigest}, struct{}{})
			add(m.Name, digest, err)
		})
	}
	wg.Wait()
	slices.SortFunc(r.Copies, func(a, b api.StoreCopy) int { return cmp.Compare(a.Name, b.Name) })
	for _, odd := range natsstore.OddOnes(copies) {
		r.Odd = append(r.Odd, odd.Name)
	}
}

// Backup implements StoreSurface.
func (s storeSurface) Backup(ctx context.Context, to io.Writer) (api.BackupManifest, error) {
	m, err := s.daemon.store.Load().Backup(ctx, to, s.self.Cluster)
	return api.BackupManifest{
		Cluster: m.Cluster, Generation: m.Generation, Machine: s.self.Name, Taken: m.Taken, Facts: m.Facts.Messages,
		Entries: m.Ledger.Messages, Revision: uint64(m.Facts.Last), Digest: m.Digest,
	}, err
}
