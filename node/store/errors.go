package store

import (
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
