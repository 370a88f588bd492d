package daemon

import (
	"maps"

	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/transfer"
)

// carry makes this machine's part in carrying volumes: what it is commanded to do, and what peers may fetch. pool is
// the machine's; nil where it has none, and then both say so.
func (p *Peering) carry(pool storage.Pool, fences *coordination.Fences, verbs map[string]coordination.Verb) {
	p.desk = &transfer.Desk{Pool: pool, Dial: p.Neighbours.DialVolume}
	maps.Copy(verbs, deploy.ServeCarrier(deploy.LocalCarrier{Carrier: p.desk, Fences: fences}))
}
