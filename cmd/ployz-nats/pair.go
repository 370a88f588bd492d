package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Bounds of founding. It takes about a second; elections may need up to nine each.
const (
	pairWithin = 40 * time.Second
	stepWithin = 20 * time.Second
	// A request that reaches the leader is answered in milliseconds; one sent while the two servers
	// still learn of each other's subscriptions is not answered at all, and must be repeated.
	askWithin = time.Second
)

// pair is a core and the throw-away second one that lets it begin.
type pair struct {
	core, second *server.Server
	admin        *nats.Conn // to core, in the system account
}

// foundIn leaves a one-voter core in work/core. Meanwhile the route port is listened on, and a port
// for clients that nobody is told (without one, nats-server does not begin to route).
func foundIn(work string, opts *server.Options) error {
	p, err := startPair(work, opts)
	if err == nil {
		err = p.found()
		p.stop()
	}
	return err
}

func startPair(work string, opts *server.Options) (*pair, error) {
	key, err := newInner(opts.SystemAccount)
	if err != nil {
		return nil, err
	}
	coreOpts := opts.Clone()
	prepare(coreOpts, filepath.Join(work, "core"))
	if err := key.admit(coreOpts); err != nil {
		return nil, err
	}
	secondOpts := opts.Clone()
	prepare(secondOpts, filepath.Join(work, "second"))
	secondOpts.ServerName = "founding-" + rand.Text()
	secondOpts.Routes = cloneURLs(opts.Routes)
	secondOpts.Cluster.Port = server.RANDOM_PORT
	var p pair
	if p.core, err = startQuiet(coreOpts); err != nil {
		return nil, err
	}
	if p.second, err = startQuiet(secondOpts); err != nil {
		return nil, p.giveUp(err)
	}
	if p.admin, err = key.connect(p.core, nats.InboxPrefix+"founding"); err != nil {
		return nil, p.giveUp(err)
	}
	return &p, nil
}

// prepare takes away what founding does not need.
func prepare(o *server.Options, storeDir string) {
	o.ConfigFile, o.StoreDir, o.Port = "", storeDir, server.RANDOM_PORT
	o.LeafNode = server.LeafNodeOpts{}
}

func cloneURLs(in []*url.URL) []*url.URL {
	var out []*url.URL
	for _, u := range in {
		c := *u
		out = append(out, &c)
	}
	return out
}

// startQuiet logs warnings and worse only: two servers talking at once would confuse a reader.
func startQuiet(o *server.Options) (*server.Server, error) {
	if err := os.MkdirAll(o.StoreDir, 0o700); err != nil {
		return nil, err
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, err
	}
	s.SetLoggerV2(quiet{newJournal(os.Stderr)}, false, false, false)
	s.Start()
	return s, nil
}

type quiet struct{ *journal }

// Noticef says nothing.
func (quiet) Noticef(string, ...any) {}

// found makes the core the leader, and the only member.
func (p *pair) found() error {
	if err := p.await("both members", func(m *server.MetaClusterInfo) bool {
		return m.Size == 2 && m.Leader != ""
	}); err != nil {
		return err
	}
	if err := p.lead(); err != nil {
		return err
	}
	if err := p.remove(); err != nil {
		return err
	}
	return p.await("a cluster of one", func(m *server.MetaClusterInfo) bool {
		return m.Size == 1 && m.QuorumNeeded == 1 && m.Leader == p.core.Name()
	})
}

// lead moves the leadership to the core if the throw-away got it.
func (p *pair) lead() error {
	deadline := time.Now().Add(stepWithin)
	for !p.core.JetStreamIsLeader() {
		if time.Now().After(deadline) {
			return fmt.Errorf("founding: the leadership did not move to %s within %s", p.core.Name(), stepWithin)
		}
		place := &server.Placement{Preferred: p.core.Name()}
		if err := p.request(server.JSApiLeaderStepDown, server.JSApiLeaderStepdownRequest{Placement: place}); err != nil {
			time.Sleep(50 * time.Millisecond) // an election is under way; ask its outcome again
			continue
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// remove takes the throw-away out of the group. A repeated request may find it gone.
func (p *pair) remove() error {
	deadline := time.Now().Add(stepWithin)
	for {
		err := p.request(server.JSApiRemoveServer, server.JSApiMetaServerRemoveRequest{Server: p.second.Name()})
		if err == nil || p.alone() {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (p *pair) alone() bool {
	info, err := p.core.Jsz(nil)
	return err == nil && info.Meta != nil && info.Meta.Size == 1
}

func (p *pair) await(what string, ok func(*server.MetaClusterInfo) bool) error {
	deadline := time.Now().Add(pairWithin)
	var last *server.MetaClusterInfo
	for time.Now().Before(deadline) {
		if info, err := p.core.Jsz(nil); err == nil && info.Meta != nil {
			if last = info.Meta; ok(last) {
				return nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("founding: no %s within %s; last seen: %+v", what, pairWithin, last)
}

func (p *pair) request(subject string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	msg, err := p.admin.Request(subject, text, askWithin)
	if err != nil {
		return fmt.Errorf("founding: %s: %w", subject, err)
	}
	var reply server.ApiResponse
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return fmt.Errorf("founding: %s: %w", subject, err)
	}
	if reply.Error != nil {
		return fmt.Errorf("founding: %s: %s", subject, reply.Error.Description)
	}
	return nil
}

func (p *pair) giveUp(err error) error { p.stop(); return err }

func (p *pair) stop() {
	if p.admin != nil {
		p.admin.Close()
	}
	for _, s := range []*server.Server{p.second, p.core} {
		if s != nil {
			s.Shutdown()
			s.WaitForShutdown()
		}
	}
}
