package natsstore

import (
	"strconv"
	"time"
)

// clocksDiffer is how far this machine's clock may be from the leader's who dated a fact.
const clocksDiffer = 10 * time.Second

// expired says that a fact with a TTL has come to its end. Servers forget such facts by themselves; but one that was killed
// about that time may have it for ever, and a lease that never ends would lock its scope.
func expired(ttl string, written time.Time) bool {
	seconds, err := strconv.Atoi(ttl)
	return err == nil && time.Since(written) > time.Duration(seconds)*time.Second+clocksDiffer
}
