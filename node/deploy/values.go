package deploy

import (
	"context"
	"regexp"

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
	// Removed stands in for a removal until the operation has ended: a fact that is gone could
	// not say which operation took it away.
	Removed bool `json:"removed,omitempty"`
}

// stored reads a named value and the revision that a write has to expect. Errors: store.not-found, with the
// revision; store.*.
func (k Kit) stored(ctx context.Context, key store.Key) (storedValue, store.Revision, error) {
	var value storedValue
	fact, err := k.Facts.Get(ctx, key)
	if err == nil {
		err = store.Decode(fact, &value)
	}
	if err == nil && value.Removed {
		err = store.NotFound(key)
	}
	return value, fact.Revision, err
}

// valueName is one token of a key, so that a list can give the whole name back.
var valueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// SetValue stores, replaces or removes a named secret or config of a namespace. Instances get it with the
// next deploy that refers to it.
type SetValue struct {
	kit    Kit
	kind   string
	ns     string
	name   string
	secret bool
	remove bool
	value  []byte

	operation  string
	unfinished *operation.Unfinished
	revision   store.Revision
	exists     bool
	sealed     api.SealedSecret
}

// NewSetSecret stores a secret.
func NewSetSecret(kit Kit, ns, name string, value []byte) *SetValue {
	return &SetValue{kit: kit, kind: api.KindSecretSet, ns: ns, name: name, secret: true, value: value}
}

// NewRemoveSecret takes a secret away.
func NewRemoveSecret(kit Kit, ns, name string) *SetValue {
	return &SetValue{kit: kit, kind: api.KindSecretRemove, ns: ns, name: name, secret: true, remove: true}
}

// NewSetConfig stores a config.
func NewSetConfig(kit Kit, ns, name string, value []byte) *SetValue {
	return &SetValue{kit: kit, kind: api.KindConfigSet, ns: ns, name: name, value: value}
}

// NewRemoveConfig takes a config away.
func NewRemoveConfig(kit Kit, ns, name string) *SetValue {
	return &SetValue{kit: kit, kind: api.KindConfigRemove, ns: ns, name: name, remove: true}
}

// Kind implements operation.Operation.
func (s *SetValue) Kind() string { return s.kind }

// Scope implements operation.Operation.
func (s *SetValue) Scope() string { return scopeOf(s.ns) + "/" + s.name }

func (s *SetValue) key() store.Key {
	if s.secret {
		return store.Secret(s.ns, s.name)
	}
	return store.Config(s.ns, s.name)
}

// Inspect implements operation.Operation.
func (s *SetValue) Inspect(ctx context.Context, before operation.Situation) error {
	s.operation, s.unfinished = before.Operation, before.Unfinished
	if err := CheckNamespace(s.ns); err != nil {
		return err
	}
	if !valueName.MatchString(s.name) {
		return api.Errorf(api.CodeBadRequest, "%q cannot be a name: letters, digits, dashes and underscores, at most 64", s.name).About(s.ns)
	}
	_, revision, err := s.kit.stored(ctx, s.key())
	if err != nil && !store.IsNotFound(err) {
		return err
	}
	s.revision, s.exists = revision, err == nil
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
	s.sealed, err = s.kit.seal(members, s.ns, s.name, s.value)
	return err
}

// Plan implements operation.Operation: there is nothing to do but the commit.
func (s *SetValue) Plan() operation.Plan {
	change := api.Change{Action: "create", Subject: string(s.key())}
	var absent *api.Error
	switch {
	case s.remove && !s.exists && s.unfinished == nil: // else it may be what that one removed
		absent = api.Errorf(api.CodeNotFound, "there is nothing of that name").About(s.ns + "/" + s.name)
	case s.remove:
		change.Action = "remove"
	case s.exists:
		change.Action = "update"
	}
	plan := operation.Plan{
		Requirements: []operation.Requirement{operation.Met("it exists", absent)},
		Changes:      []api.Change{change},
		Commit:       s.commit(),
		Resolves:     true, // there are no steps, so nothing can be left
	}
	if s.remove {
		plan.Cleanup = []operation.Step{{Name: "forget " + s.name, Clear: "ployzctl operation resolve " + s.operation, Do: s.forget}}
	}
	return plan
}

// forget turns the removed value into a removal.
func (s *SetValue) forget(ctx context.Context, act *operation.Act) error {
	value, revision, err := s.kit.stored(ctx, s.key())
	if err != nil && !store.IsNotFound(err) {
		return err
	}
	if err == nil || value.Operation != act.Operation {
		return nil // set anew, or forgotten already
	}
	_, err = s.kit.Facts.Commit(ctx, store.Batch{ID: act.Operation + "-forget", Puts: []store.Put{{
		Key: s.key(), Remove: true, Expect: store.Expect(revision),
	}}})
	return err
}

func (s *SetValue) commit() operation.Commit {
	return operation.Commit{
		Witness: s.key(), Expect: s.revision, Content: s.content(),
		Batch: func(op string) ([]store.Put, error) {
			var b puts
			stored := storedValue{Operation: op, Sealed: s.sealed, Removed: s.remove}
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
