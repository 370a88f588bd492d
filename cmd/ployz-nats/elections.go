package main

import (
	"encoding/binary"
	"net/netip"
	"time"
	_ "unsafe" // for linkname

	_ "github.com/nats-io/nats-server/v2/server" // whose variables they are
)

// A voter that hears nothing from its leader stands for election after 4 to 9 seconds, by the library's own measure, and a
// majority that lost its leader shall write again within ten. The least stays, for a leader on a busy machine may be silent
// for as long; the rest is there so that two seldom stand at once, for then neither may win, and all wait anew. The library
// has no setting for it.
var (
	//go:linkname standsAfterAtLeast github.com/nats-io/nats-server/v2/server.minElectionTimeout
	standsAfterAtLeast time.Duration
	//go:linkname standsAfterAtMost github.com/nats-io/nats-server/v2/server.maxElectionTimeout
	standsAfterAtMost time.Duration
)

const (
	libraryStandsAfterAtLeast = 4 * time.Second
	libraryStandsAfterAtMost  = 9 * time.Second
	soonEnough                = 6 * time.Second

	// Each turn is a part of that time, and ends before the next one begins by what a vote takes.
	turns   = 5
	aTurn   = (soonEnough - libraryStandsAfterAtLeast) / turns
	forVote = 100 * time.Millisecond
)

// electSoon is for servers that start from now on; host is where this one listens for its routes. Where the library's
// measure is another than is known here, it is left alone.
func electSoon(host string) {
	if standsAfterAtLeast == libraryStandsAfterAtLeast && standsAfterAtMost == libraryStandsAfterAtMost {
		standsAfterAtLeast, standsAfterAtMost = standsAfter(host)
	}
}

// standsAfter are bounds in the turn of a machine, which is by its number in the cluster: voters whose numbers are in a row
// never stand at once. Two that share a turn draw within it. Who has no overlay address takes all of the time.
func standsAfter(host string) (least, most time.Duration) {
	at, err := netip.ParseAddr(host)
	if err != nil || !at.Is6() || at.Is4In6() || at.IsLoopback() {
		return libraryStandsAfterAtLeast, soonEnough
	}
	whole := at.As16()
	number := binary.BigEndian.Uint16(whole[6:8]) // the /64's, within the cluster's /48
	least = libraryStandsAfterAtLeast + time.Duration(number%turns)*aTurn
	return least, least + aTurn - forVote
}
