package main

import (
	"time"
	_ "unsafe" // for linkname

	_ "github.com/nats-io/nats-server/v2/server" // whose variable it is
)

// A voter that hears nothing from its leader stands for election after 4 to 9 seconds, by the library's own measure, and a
// majority that lost its leader shall write again within ten. The least stays, for a leader on a busy machine may be silent
// for as long; the rest is there so that two seldom stand at once, for which two seconds do. The library has no setting for it.
//
//go:linkname standsAfterAtMost github.com/nats-io/nats-server/v2/server.maxElectionTimeout
var standsAfterAtMost time.Duration

const (
	libraryStandsAfterAtMost = 9 * time.Second
	soonEnough               = 6 * time.Second
)

// electSoon is for servers that start from now on. Where the library's measure is another than is known here, it is left alone.
func electSoon() {
	if standsAfterAtMost == libraryStandsAfterAtMost {
		standsAfterAtMost = soonEnough
	}
}
