package storetest

import (
	"sync"
	"time"
)

// Clock is a time that moves when told to, and otherwise with the real one.
type Clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

// Now returns the present.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// Pass moves the present on.
func (c *Clock) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}
