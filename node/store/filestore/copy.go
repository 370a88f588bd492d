package filestore

import (
	"context"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// CopyLog appends every record of a filestore's ledger to another ledger, in order and under the
// same ids. It is safe to repeat at any time: also when to has forgotten the ids, a record whose
// value is there already is not appended again. What to has beyond from is left alone. The
// records' times become those of the copying. Errors: those of to and from; internal.error when
// from is not the Log of a Store of this package, which alone knows the ids.
func CopyLog(ctx context.Context, from, to store.Log) error {
	source, ok := from.(ledger)
	if !ok {
		return api.Errorf(api.CodeInternal, "a ledger of type %T does not know its records' ids and cannot be copied", from)
	}
	all, err := source.all(ctx)
	if err != nil {
		return err
	}
	there := present{}
	for _, r := range all {
		found, err := there.take(ctx, to, r.Record)
		if err == nil && !found {
			_, err = to.Append(ctx, r.Operation, r.id, r.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// present counts, per operation, the values that a ledger had when it was first asked.
type present map[string]map[string]int

// take looks for one record, and crosses it off: of two with the same value both are wanted.
func (p present) take(ctx context.Context, in store.Log, r store.Record) (bool, error) {
	values, ok := p[r.Operation]
	if !ok {
		history, err := in.History(ctx, r.Operation)
		if err != nil {
			return false, err
		}
		values = map[string]int{}
		for _, h := range history {
			values[string(h.Value)]++
		}
		p[r.Operation] = values
	}
	values[string(r.Value)]--
	return values[string(r.Value)] >= 0, nil
}
