package store

import (
	"time"

	"github.com/ployz/ployz/node/api"
)

// The sizes every implementation takes, and no more.
const (
	// MaxValueBytes bounds one value. With headers it stays inside NATS' 1 MiB payload.
	MaxValueBytes = 1_000_000
	// MaxBatch bounds the puts and checks of one batch together.
	MaxBatch = 900
	// MaxIDBytes bounds a batch's ID, a record's id and an operation's name.
	MaxIDBytes = 100
)

// DedupeWindow is how long a retry is recognised by its ID.
const DedupeWindow = 10 * time.Minute

// Valid refuses a batch that no store could take. Errors: request.malformed (no ID, no puts, an
// invalid key, a key named twice, a negative TTL), store.too-large.
func (b Batch) Valid() error {
	if b.ID == "" || len(b.ID) > MaxIDBytes {
		return api.Errorf(api.CodeBadRequest, "a batch's ID has 1 to %d bytes, this one has %d", MaxIDBytes, len(b.ID))
	}
	if len(b.Puts) == 0 {
		return api.Errorf(api.CodeBadRequest, "batch %s writes nothing", b.ID)
	}
	if n := len(b.Puts) + len(b.Checks); n > MaxBatch {
		return api.Errorf(api.CodeStoreTooLarge, "batch %s has %d writes and checks, the most is %d", b.ID, n, MaxBatch)
	}
	return b.validKeys()
}

func (b Batch) validKeys() error {
	seen := make(map[Key]bool, len(b.Puts)+len(b.Checks))
	for _, p := range b.Puts {
		if err := p.valid(seen); err != nil {
			return err
		}
	}
	for _, c := range b.Checks {
		if err := validOnce(c.Key, seen); err != nil {
			return err
		}
	}
	return nil
}

func (p Put) valid(seen map[Key]bool) error {
	if err := validOnce(p.Key, seen); err != nil {
		return err
	}
	if p.TTL < 0 {
		return api.Errorf(api.CodeBadRequest, "the TTL of %s is negative: %s", p.Key, p.TTL)
	}
	return ValidValue(string(p.Key), p.Value)
}

// validOnce also refuses a key named twice: a batch's guards judge what was there before it.
func validOnce(k Key, seen map[Key]bool) error {
	if err := k.Valid(); err != nil {
		return err
	}
	if seen[k] {
		return api.Errorf(api.CodeBadRequest, "the batch names %s twice", k)
	}
	seen[k] = true
	return nil
}

// ValidValue returns store.too-large when a value for subject cannot be stored.
func ValidValue(subject string, value []byte) error {
	if len(value) > MaxValueBytes {
		return api.Errorf(api.CodeStoreTooLarge, "%d bytes, the most is %d", len(value), MaxValueBytes).About(subject)
	}
	return nil
}

// ValidRecord refuses a ledger record that no store could take. Errors: request.malformed,
// store.too-large.
func ValidRecord(operation, id string, value []byte) error {
	if err := ValidOperation(operation); err != nil {
		return err
	}
	if id == "" || len(id) > MaxIDBytes {
		return api.Errorf(api.CodeBadRequest, "a record's id has 1 to %d bytes, this one has %d", MaxIDBytes, len(id))
	}
	return ValidValue(operation, value)
}

// ValidOperation returns request.malformed for a name that the ledger cannot file records under.
func ValidOperation(name string) error {
	if err := Key(name).Valid(); err != nil || len(name) > MaxIDBytes || Key(name).Last() != name {
		return api.Errorf(api.CodeBadRequest, "an operation's name is one token of letters, digits, - and _, not %q", name)
	}
	return nil
}

// WholeSeconds rounds a TTL up to what stores count in; 0 stays 0.
func WholeSeconds(ttl time.Duration) time.Duration {
	return (ttl + time.Second - 1).Truncate(time.Second)
}
