package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/ployz/ployz/datapath/dns"
	"github.com/ployz/ployz/datapath/state"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/store"
)

// retryMembers is the pause before the feed of memberships is opened again.
const retryMembers = time.Second

// members follows the machines' memberships, for names under machine.ployz.internal. How fresh
// they are is not said by itself: they come over the same mirror as the routes.
type members struct {
	view store.View
	path string // file of the last good ones
	log  *slog.Logger
	// show gets all of them whenever they changed, sorted by name.
	show func([]dns.Machine)
	// kept is what the file has, known what was read last of every fact; only run uses them.
	kept  []dns.Machine
	known map[store.Key]dns.Machine
}

// load returns the last good ones. Only a damaged file is worth a word: the store has them all.
func (m *members) load() []dns.Machine {
	var list []dns.Machine
	text, err := os.ReadFile(m.path)
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log.Error("the last good list of machines cannot be read and is ignored", "path", m.path, "error", err)
	}
	m.kept = slices.DeleteFunc(list, func(one dns.Machine) bool { return unfit(one) != nil })
	return m.kept
}

// run follows the store until ctx ends; each lost feed is opened again and read from the beginning.
func (m *members) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := m.follow(ctx); ctx.Err() == nil {
			m.log.Debug("memberships are read anew", "cause", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryMembers):
		}
	}
}

func (m *members) follow(ctx context.Context) error {
	feed, err := m.view.Follow(ctx, store.Machines())
	if err != nil {
		return err
	}
	defer feed.Close()
	found := map[store.Key]dns.Machine{}
	for current := false; ; {
		change, err := feed.Next(ctx)
		if err != nil {
			return err
		}
		m.take(found, change)
		// An edge that has not heard of any machine, not even of its own, knows nothing yet.
		if current = current || change.Current; current && len(found) > 0 {
			m.accept(found)
			m.known = found
		}
	}
}

// take applies one change. A membership that cannot be named keeps what it was before.
func (m *members) take(found map[store.Key]dns.Machine, change store.Change) {
	key := change.Fact.Key
	if key == "" {
		return
	}
	if change.Removed {
		delete(found, key)
		return
	}
	var member machine.Member
	err := json.Unmarshal(change.Fact.Value, &member)
	one := machineOf(member.Name, member.Subnet4, member.Overlay)
	if err == nil {
		err = unfit(one)
	}
	if err != nil {
		m.log.Error("a machine's membership cannot be read; what it was before stays", "fact", key, "revision", change.Fact.Revision, "error", err)
		if was, known := m.known[key]; known {
			found[key] = was
		}
		return
	}
	found[key] = one
}

// unfit says why a machine would spoil the zone.
func unfit(one dns.Machine) error {
	return dns.Zone{Machine: one.Name, Machines: []dns.Machine{one}}.CheckFrame()
}

func (m *members) accept(found map[store.Key]dns.Machine) {
	var list []dns.Machine
	for _, one := range found {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b dns.Machine) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.V6.Compare(b.V6))
	})
	list = slices.CompactFunc(list, func(a, b dns.Machine) bool { return a.Name == b.Name })
	m.show(list)
	if slices.Equal(list, m.kept) {
		return
	}
	m.kept = list
	if err := state.Save(m.path, list); err != nil {
		m.log.Error("the list of machines could not be kept on disk", "path", m.path, "error", err)
	}
}
