package store

import (
	"encoding/json"
	"errors"

	"github.com/ployz/ployz/node/api"
)

// NotFound is the error for a key that holds no live value.
func NotFound(key Key) error {
	return api.Errorf(api.CodeStoreNotFound, "the store has no fact %s", key)
}

// Conflict is the error for a guard that did not hold.
func Conflict(key Key) error {
	e := api.Errorf(api.CodeStoreConflict, "%s changed since it was read", key).About(string(key)).Again()
	return e.WithHint("look again and repeat: another operation wrote it")
}

// Decode reads a fact's JSON. Errors: store.fact-unreadable, about the fact: the others go on without it.
func Decode(fact Fact, into any) error {
	if err := json.Unmarshal(fact.Value, into); err != nil {
		return Unreadable(fact, err)
	}
	return nil
}

// Unreadable is the error for a fact that is there, and is not what its key promises.
func Unreadable(fact Fact, cause error) *api.Error {
	e := api.Errorf(api.CodeStoreUnreadable, "the fact at revision %d cannot be read: %w", fact.Revision, cause).About(string(fact.Key))
	return e.WithHint("put back what it said before: ployzctl store repair %s --preview; where a newer version wrote it, install that one; "+
		"all that cannot be read: ployzctl store verify", fact.Key)
}

// IsNotFound reports a missing fact.
func IsNotFound(err error) bool { return is(err, api.CodeStoreNotFound) }

// IsConflict reports a batch refused by a guard: nothing was written.
func IsConflict(err error) bool { return is(err, api.CodeStoreConflict) }

// IsUncertain reports a write that may or may not have landed.
func IsUncertain(err error) bool { return is(err, api.CodeStoreUncertain) }

func is(err error, code api.Code) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == code
}

// Unavailable is the error of a request that certainly did not reach the store: nothing was
// written and nothing read.
func Unavailable(what string, cause error) error {
	e := api.Errorf(api.CodeStoreUnavailable, "%s: the store does not answer: %w", what, cause).Again()
	return e.WithHint("ployzctl status shows the store; systemctl status ployz-nats ployz-nats-core")
}

// Uncertain is the error of a write that was sent and not answered.
func Uncertain(what string, cause error) error {
	e := api.Errorf(api.CodeStoreUncertain, "%s was sent and no answer came: %w", what, cause)
	return e.WithHint("it may yet land: look before you repeat it")
}

// Full is the error of a store that has no room for new facts.
func Full(what string, cause error) error {
	e := api.Errorf(api.CodeStoreFull, "%s: the store has no room for it: %w", what, cause)
	return e.WithHint("remove what is no longer needed, or raise the store's limit")
}

// IsUnavailable reports a request that did not reach the store.
func IsUnavailable(err error) bool { return is(err, api.CodeStoreUnavailable) }
