package main

import (
	"sync/atomic"
	"time"
	_ "unsafe" // for linkname

	_ "github.com/nats-io/nats-server/v2/server/ats"
)

// The server's clock of when a cached block was last used: it ticks ten times a second for as long as there is a file
// store, and at rest these ticks were more than half of all that a server did. The library has no setting for it.
var (
	//go:linkname accessed github.com/nats-io/nats-server/v2/server/ats.utime
	accessed atomic.Int64
	//go:linkname accessDone github.com/nats-io/nats-server/v2/server/ats.done
	accessDone chan struct{}
)

// accessEvery is exact enough: blocks leave the cache ten seconds after they were used.
const accessEvery = time.Second

// calm has the clock tick once a second instead, until stop. The last store's end leaves its word in the channel's buffer,
// where nobody needs it.
func calm(stop <-chan struct{}) {
	accessDone <- struct{}{}
	tick := time.NewTicker(accessEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			accessed.Store(now.UnixNano())
		case <-stop:
			return
		}
	}
}
