package daemon

import (
	"context"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy/agebox"
	"github.com/ployz/ployz/node/machine"
)

// verbReseal has a machine seal anew what it can open.
const verbReseal = "secret.reseal"

type resealBody struct {
	Sealed     []byte   `json:"sealed"`
	Recipients []string `json:"recipients"`
	// Namespace and Name are what the fingerprint is for.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

type resealAnswer struct {
	Sealed      []byte `json:"sealed"`
	Fingerprint string `json:"fingerprint"`
}

// sealer seals to the cluster's machines: deploy.Sealer. What this machine cannot open, since it joined later,
// another one can.
type sealer struct {
	*agebox.Box
	daemon *Daemon
}

// Reseal implements deploy.Sealer.
func (s sealer) Reseal(ctx context.Context, sealed []byte, recipients []string, namespace, name string) ([]byte, string, error) {
	body := resealBody{sealed, recipients, namespace, name}
	members, err := s.daemon.peering.Load().members(ctx)
	if err != nil {
		return nil, "", err
	}
	self := s.daemon.peering.Load().self.ID
	slices.SortFunc(members, func(a, b machine.Member) int { // this one first: it is asked without a bus
		return boolInt(b.ID == self) - boolInt(a.ID == self)
	})
	for _, m := range members {
		answer, err := command[resealAnswer](ctx, s.daemon, m.ID, coordination.Command{Verb: verbReseal}, body)
		if err == nil {
			return answer.Sealed, answer.Fingerprint, nil
		}
		s.daemon.Log.Info("a secret could not be sealed anew", "machine", m.Name, "error", err)
	}
	return nil, "", api.Errorf(api.CodeSecretSealed, "it was sealed before this machine joined, and no machine that answers can open it").
		WithHint("set it again: ployzctl secret set, or deploy with its file")
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// reseal answers a coordinator. It seals to members and to nobody else.
func (d *Daemon) reseal(ctx context.Context, b resealBody) (resealAnswer, error) {
	members, err := d.peering.Load().members(ctx)
	if err != nil {
		return resealAnswer{}, err
	}
	for _, r := range b.Recipients {
		if !slices.ContainsFunc(members, func(m machine.Member) bool { return m.Recipient == r }) {
			return resealAnswer{}, api.Errorf(api.CodePermission, "%s is no member's key", r).About(d.selfName())
		}
	}
	value, err := agebox.Unseal(d.keys(), b.Sealed)
	if err != nil {
		return resealAnswer{}, api.Errorf(api.CodeSecretSealed, "it was not sealed to this machine").About(d.selfName())
	}
	box, err := agebox.Open(d.keys())
	if err != nil {
		return resealAnswer{}, err
	}
	sealed, err := box.Seal(value, b.Recipients)
	return resealAnswer{sealed, box.Fingerprint(b.Namespace, b.Name, value)}, err
}
