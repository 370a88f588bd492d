package daemon

import (
	"context"
	"encoding/json"
	"path/filepath"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/coordination/natsbus"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// bus is this machine's way to the other daemons, and theirs to it.
type bus struct {
	wire     *natsbus.Wire
	calls    *coordination.Calls
	listener *natsbus.Listener
	verbs    map[string]coordination.Verb
}

// openBus dials the cores as a coordinator, and listens for commands on the machine's own edge.
func (d *Daemon) openBus(self machine.Identity, fences *coordination.Fences, members store.View, verbs map[string]coordination.Verb) (*bus, error) {
	seed := func(role natsconf.Role) string { return natsstore.SeedFile(d.keys(), role) }
	wire, err := natsbus.Dial(natsbus.Core{
		URLs: coreURLs(self), Seed: seed(natsconf.RoleCoordinatorBus), Inbox: natsconf.Inbox(self.ID), Commands: natsconf.CommandSubject,
	})
	if err != nil {
		return nil, err
	}
	replies, err := coordination.OpenReplies(filepath.Join(d.State, "replies"))
	if err != nil {
		return nil, err
	}
	responder := &coordination.Responder{
		Machine: self.ID, Verify: natsbus.Verifier(busKeys(members)), Fences: fences, Replies: replies, Verbs: verbs, Log: d.Log,
	}
	listener, err := natsbus.Listen(natsbus.Edge{
		URL: "nats://" + natsconf.EdgeListen.String(), Seed: seed(natsconf.RoleLocalBus),
		Inbox: natsconf.Inbox(self.ID), Commands: natsconf.CommandSubject(self.ID),
	}, responder.Receive)
	if err != nil {
		wire.Close()
		return nil, err
	}
	calls := &coordination.Calls{Machine: self.ID, Sign: natsbus.Signer(seed(natsconf.RoleCoordinatorBus)), Wire: wire}
	return &bus{wire, calls, listener, verbs}, nil
}

func coreURLs(self machine.Identity) []string {
	var urls []string
	for _, voter := range self.Voters {
		urls = append(urls, natsconf.ClientURL(voter))
	}
	return urls
}

// useCores points the connections to the cores at the present voters.
func (d *Daemon) useCores(self machine.Identity) error {
	urls := coreURLs(self)
	if opened := d.store.Load(); opened != nil {
		if err := opened.UseCores(urls); err != nil {
			return err
		}
	}
	if b := d.bus.Load(); b != nil {
		return b.wire.UseCores(urls)
	}
	return nil
}

// busKeys finds the key by which a member commands, in the machine's own mirror: removed is refused.
func busKeys(view store.View) func(context.Context, string) (string, error) {
	return func(ctx context.Context, id string) (string, error) {
		fact, err := view.Get(ctx, store.Machine(id))
		if err != nil {
			return "", err
		}
		var m machine.Member
		if err := json.Unmarshal(fact.Value, &m); err != nil {
			return "", api.Errorf(api.CodeInternal, "the fact %s is damaged: %w", fact.Key, err)
		}
		key := m.StoreKeys[string(natsconf.RoleCoordinatorBus)]
		if key == "" {
			return "", api.Errorf(api.CodeParticipantRefused, "machine %s does not coordinate", m.Name).About(m.Name)
		}
		return key, nil
	}
}

// here does what a command says on this machine itself.
func here[A any](ctx context.Context, v coordination.Verb, cmd coordination.Command, body any) (A, error) {
	var answer A
	var err error
	if cmd.Body, err = json.Marshal(body); err != nil {
		return answer, api.Errorf(api.CodeInternal, "encoding %s: %w", cmd.Verb, err)
	}
	text, err := v.Do(ctx, cmd, func(json.RawMessage) {})
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, api.Errorf(api.CodeInternal, "the answer to %s: %w", cmd.Verb, err)
	}
	return answer, nil
}

// call sends a command with a typed body and reads a typed answer.
func call[A any](ctx context.Context, c coordination.Caller, id string, cmd coordination.Command, body any) (A, error) {
	var answer A
	var err error
	if cmd.Body, err = json.Marshal(body); err != nil {
		return answer, api.Errorf(api.CodeInternal, "encoding %s: %w", cmd.Verb, err)
	}
	text, err := c.Call(ctx, id, cmd, nil)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, api.Errorf(api.CodeInternal, "the answer to %s: %w", cmd.Verb, err).About(id)
	}
	return answer, nil
}

// verb is one of ours with a typed body; what it returns is encoded.
func verb[B any](acts bool, do func(ctx context.Context, body B) (any, error)) coordination.Verb {
	return coordination.Verb{Acts: acts, Do: func(ctx context.Context, cmd coordination.Command, _ func(json.RawMessage)) (json.RawMessage, error) {
		var body B
		if err := json.Unmarshal(cmd.Body, &body); err != nil {
			return nil, api.Errorf(api.CodeBadRequest, "the body of %s: %w", cmd.Verb, err)
		}
		answer, err := do(ctx, body)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(answer)
		if err != nil {
			return nil, api.Errorf(api.CodeInternal, "encoding the answer to %s: %w", cmd.Verb, err)
		}
		return text, nil
	}}
}

// close ends both ways.
func (b *bus) close() {
	b.listener.Close()
	b.wire.Close()
}
