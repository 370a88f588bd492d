package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// storedValue is the fact of one named secret or config.
type storedValue struct {
	Operation string           `json:"operation"`
	Sealed    api.SealedSecret `json:"sealed,omitzero"`
	Content   []byte           `json:"content,omitempty"`
}

// SetValue stores, replaces or removes a named secret or config of a namespace. Instances get it with the
// next deploy that refers to it.
type SetValue struct {
	kit    Kit
	ns     string
	name   string
	secret bool
	remove bool
	value  []byte

	revision store.Revision
	exists   bool
	sealed   api.SealedSecret
}

// NewSetSecret stores a secret; a nil value removes it.
func NewSetSecret(kit Kit, ns, name string, value []byte) *SetValue {
	return &SetValue{kit: kit, ns: ns, name: name, secret: true, remove: value == nil, value: value}
}

// NewSetConfig stores a config; a nil value removes it.
func NewSetConfig(kit Kit, ns, name string, value []byte) *SetValue {
	return &SetValue{kit: kit, ns: ns, name: name, remove: value == nil, value: value}
}

// Kind implements operation.Operation.
func (s *SetValue) Kind() string {
	if s.secret {
		return "secret.set"
	}
	return "config.set"
}

// Scope implements operation.Operation.
func (s *SetValue) Scope() string { return scopeOf(s.ns) + "/" + s.name }

func (s *SetValue) key() store.Key {
	if s.secret {
		return store.Secret(s.ns, s.name)
	}
	return store.Config(s.ns, s.name)
}

// Inspect implements operation.Operation.
func (s *SetValue) Inspect(ctx context.Context, _ operation.Situation) error {
	if err := CheckNamespace(s.ns); err != nil {
		return err
	}
	if err := s.key().Valid(); err != nil {
		return err
	}
	fact, err := s.kit.Facts.Get(ctx, s.key())
	if err != nil && !store.IsNotFound(err) {
		return err
	}
	s.revision, s.exists = fact.Revision, err == nil
	if !s.secret || s.remove {
		return nil
	}
	return s.seal(ctx)
}

func (s *SetValue) seal(ctx context.Context) error {
	members, err := machine.Members(ctx, s.kit.Facts)
	if err != nil {
		return err
	}
	var recipients []string
	for _, m := range members {
		recipients = append(recipients, m.Recipient)
	}
	sealed, err := s.kit.Sealer.Seal(s.value, recipients)
	s.sealed = api.SealedSecret{Sealed: sealed, Fingerprint: s.kit.Sealer.Fingerprint(s.ns, s.name, s.value)}
	return err
}

// Plan implements operation.Operation: there is nothing to do but the commit.
func (s *SetValue) Plan() operation.Plan {
	change := api.Change{Action: "create", Subject: string(s.key())}
	var absent *api.Error
	switch {
	case s.remove && !s.exists:
		absent = api.Errorf(api.CodeNotFound, "there is nothing of that name").About(s.ns + "/" + s.name)
	case s.remove:
		change.Action = "remove"
	case s.exists:
		change.Action = "update"
	}
	return operation.Plan{
		Requirements: []operation.Requirement{operation.Met("it exists", absent)},
		Changes:      []api.Change{change},
		Commit:       s.commit(),
		Resolves:     true, // there are no steps, so nothing can be left
	}
}

func (s *SetValue) commit() operation.Commit {
	return operation.Commit{
		Witness: s.key(), Expect: s.revision, Content: s.content(),
		Batch: func(op string) ([]store.Put, error) {
			var b puts
			if s.remove {
				b.remove(s.key(), store.Expect(s.revision))
				return b.list, nil
			}
			stored := storedValue{Operation: op, Sealed: s.sealed}
			if !s.secret {
				stored.Content = s.value
			}
			b.value(s.key(), stored, store.Expect(s.revision))
			return b.list, b.err
		},
	}
}

// content stands for the value in the plan's digest: a secret by its fingerprint, since a digest of
// the value itself could be guessed at.
func (s *SetValue) content() string {
	if s.secret {
		return s.sealed.Fingerprint
	}
	return string(s.value)
}
