package deploy

import (
	"context"

	"github.com/ployz/ployz/node/operation"
)

// Restart replaces every instance of a service by a new one of the same content.
type Restart struct {
	change
	service string
}

// NewRestart restarts one service.
func NewRestart(kit Kit, ns, service string) *Restart {
	return &Restart{change: change{kit: kit, ns: ns, kind: "restart"}, service: service}
}

// Inspect implements operation.Operation.
func (r *Restart) Inspect(ctx context.Context, before operation.Situation) error {
	if err := r.inspect(ctx, before); err != nil {
		return err
	}
	if err := r.needService(r.service); err != nil {
		return err
	}
	r.next = r.present()
	if r.next.restarts == nil {
		r.next.restarts = map[string]int{}
	}
	r.next.restarts[r.service]++
	r.jobs = r.next.spec.Services[r.service].Job != nil // a job that is restarted runs again
	r.complete(ctx)
	return r.inspectNext(ctx)
}
