package memworld

import (
	"context"
	"sync/atomic"

	"github.com/ployz/ployz/node/storage"
)

// Volumes is a machine's pool: none, until a test gives it a real one.
type Volumes struct {
	*storage.Late
	given atomic.Pointer[storage.Pool]
}

func newVolumes() *Volumes {
	v := &Volumes{}
	v.Late = &storage.Late{OpenPool: func(context.Context) (storage.Pool, error) {
		if p := v.given.Load(); p != nil {
			return *p, nil
		}
		return nil, storage.PoolAbsent()
	}}
	return v
}

// UsePool gives the machine a pool.
func (v *Volumes) UsePool(p storage.Pool) { v.given.Store(&p) }
