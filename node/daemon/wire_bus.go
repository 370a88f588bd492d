package daemon

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// coreURLs are the voters' addresses, in the order in which they are tried: this machine's own core is there
// when nothing else is, and the others in any order, so that not all go to one.
func coreURLs(self machine.Identity) []string {
	var urls []string
	for _, at := range rand.Perm(len(self.Voters)) {
		url := natsconf.ClientURL(self.Voters[at])
		if self.Voters[at] == self.Overlay {
			urls = slices.Insert(urls, 0, url)
			continue
		}
		urls = append(urls, url)
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
	if b := d.peering.Load(); b != nil {
		return b.MoveTo(self)
	}
	return nil
}

// here is a caller that has this machine itself do what a command says, without a bus between, unless it has heard
// of a newer coordinator.
type here struct {
	verbs  map[string]coordination.Verb
	fences *coordination.Fences
}

// Call implements coordination.Caller.
func (h here) Call(ctx context.Context, _ string, cmd coordination.Command, _ func(json.RawMessage)) (json.RawMessage, error) {
	verb := h.verbs[cmd.Verb]
	if verb.Acts {
		if err := h.fences.Admit(cmd.Scope, cmd.Fence); err != nil {
			return nil, err
		}
	}
	return verb.Do(ctx, cmd, func(json.RawMessage) {})
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
