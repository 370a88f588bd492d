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

// accessEvery is exact enough: blocks leave the cache ten seconds after they were used, and facts with a TTL may go as late as that.
const accessEvery = 2 * time.Second

// accessTime is in whole ticks, as the ten seconds are. The library looks again after what is left of them: were that a
// millisecond by this clock, it would look a thousand times until the next tick.
func accessTime(now time.Time) int64 { return now.Truncate(accessEvery).UnixNano() }

// calm has the clock tick that slowly, until stop. The last store's end leaves its word in the channel's buffer,
// where nobody needs it.
func calm(stop <-chan struct{}) {
	accessDone <- struct{}{}
	tick := time.NewTicker(accessEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			accessed.Store(accessTime(now))
		case <-stop:
			return
		}
	}
}

// Servers of a group tell each other how much an account holds, every second and a half, and at once when it is much. Ours
// hold little and have room.
//
//go:linkname usageEvery github.com/nats-io/nats-server/v2/server.usageTick
var usageEvery time.Duration

const (
	libraryUsageEvery = 1500 * time.Millisecond
	calmUsageEvery    = 15 * time.Second
)

// tellSeldom has servers that start from now on do so. Where the library's measure is another than is known here, it is left alone.
func tellSeldom() {
	if usageEvery == libraryUsageEvery {
		usageEvery = calmUsageEvery
	}
}
