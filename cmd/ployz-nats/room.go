package main

import (
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// lookEvery is how often the room is looked at: often enough that a busy store does not fill what is kept free meanwhile.
const lookEvery = time.Second

// room keeps a server from the end of its disk. Out of room, a core stops voting and goes on carrying what the machines
// say to each other; an edge takes nothing from the core any more, and is read from as before.
type room struct {
	role, dir string
	free      int64
	short     bool // until AgainRoomBytes are free
	near      bool // there was little at one of the last two looks
	idle      bool // the core was started without JetStream, which cannot start on a disk that is quite full
}

// look finds out how much is free, and says whether that changes what the server may do. Where it cannot be found
// out, nothing changes.
func (r *room) look() (changed bool) {
	free, err := natsconf.FreeBytes(r.dir)
	return err == nil && r.see(free)
}

// see is the verdict on what is free.
func (r *room) see(free int64) (changed bool) {
	r.near = min(free, r.free) < natsconf.LowRoomBytes
	before, least := r.short, r.least()
	if before {
		least = natsconf.AgainRoomBytes
	}
	r.free, r.short = free, free < least
	return r.short != before
}

func (r *room) least() int64 {
	if r.role == "core" {
		return natsconf.CoreRoomBytes
	}
	return natsconf.EdgeRoomBytes
}

func (r *room) String() string {
	return fmt.Sprintf("%s has %d MiB free", r.dir, r.free>>20)
}

// keep looks, and acts on what it finds. It returns true when the server must start anew: JetStream, once off, comes
// back in no other way. Off without a lack of room it has another cause, and is left as it is.
func (r *room) keep(s *server.Server, f settings, st *status) (startAnew bool) {
	if r.look() {
		r.tell(s, st)
		if r.role == "edge" {
			st.reloaded(s, apply(s, f))
		}
	}
	off := !s.JetStreamEnabled()
	if r.role == "core" && r.short {
		if !off {
			r.stop(s)
		}
		return false
	}
	return off && r.near // an edge starts with its mirror held still
}

// stop hands leadership over where others vote. What the server had stays on disk, as for a restart.
func (r *room) stop(s *server.Server) {
	if err := s.ShutdownJetStream(); err != nil {
		s.Errorf("Out of room: %v", err)
	}
}

func (r *room) tell(s *server.Server, st *status) {
	word := "there is room again"
	if r.short {
		word = "out of room"
	}
	s.Warnf("%s: %s", r, word)
	st.room(s, r.short)
	notify("STATUS=" + st.line())
}

// begin is the first look, before the server starts.
func (r *room) begin(dir string) {
	r.dir, r.free = dir, math.MaxInt64 // nothing was seen before
	r.look()
	r.idle = r.short && r.role == "core"
}

// hold turns off the remotes by which an edge's mirror takes from the core; the others carry commands, which write
// nothing. A core keeps JetStream for as long as it runs, or does not have it for as long: to take it away by a reload
// would delete what the voter has.
func (r *room) hold(o *server.Options) {
	switch {
	case r == nil:
	case r.idle:
		o.JetStream = false
	case r.short && r.role == "edge":
		for _, remote := range o.LeafNode.Remotes {
			remote.Disabled = remote.LocalAccount == natsconf.AccountStore
		}
	}
}
