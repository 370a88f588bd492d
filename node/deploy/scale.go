package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
)

// Scale changes how many instances a service has, and nothing else.
type Scale struct {
	change
	service  string
	replicas int
}

// NewScale sets the replicas of a service; 0 stops it and keeps it.
func NewScale(kit Kit, ns, service string, replicas int) *Scale {
	return &Scale{change: change{kit: kit, ns: ns, kind: "scale"}, service: service, replicas: replicas}
}

// Inspect implements operation.Operation.
func (s *Scale) Inspect(ctx context.Context, before operation.Situation) error {
	if err := s.inspect(ctx, before); err != nil {
		return err
	}
	if err := s.needService(s.service); err != nil {
		return err
	}
	s.next = s.present()
	service := s.next.spec.Services[s.service]
	if service.Job != nil || service.Placement.Global {
		return api.Errorf(api.CodeSpecInvalid, "%s is a job or runs on every machine, so it has no replicas to scale", s.service).About(s.ns)
	}
	if s.replicas < 0 || s.replicas > 1000 {
		return api.Errorf(api.CodeSpecInvalid, "%d replicas are not between 0 and 1000", s.replicas).About(s.ns + "/" + s.service)
	}
	service.Placement.Replicas, service.Placement.Zero = s.replicas, s.replicas == 0
	s.next.spec.Services[s.service] = service
	s.complete(ctx)
	return s.inspectNext(ctx)
}
