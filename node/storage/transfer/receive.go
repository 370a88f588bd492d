package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// Incoming is what a receiver wants of a connection.
type Incoming struct {
	Pool storage.Pool
	// As is the volume as it is to be here, with the ID that it has there.
	As storage.Spec
	// Snapshot is the one that is expected.
	Snapshot string
	// Progress is told of bytes that arrived; nil is nobody.
	Progress func(storage.Progress)
	// Silence is how long the sender may say nothing; 0 means 30 s.
	Silence time.Duration
}

// Receive takes from the sender at the other end of conn what this pool lacks, and closes conn. It returns once
// the snapshot is here with the GUID that it has there, or with the first error of either side and
// what was whole before. Errors: those of storage.Carrier.Fetch; ctx's own.
func Receive(ctx context.Context, conn io.ReadWriteCloser, in Incoming) (storage.Carried, error) {
	l := openLine(ctx, conn, "sender", in.Silence)
	r := &receiver{Incoming: in, line: l}
	defer func() { l.close(); await(r.filling) }()
	r.carried.Volume = in.As.ID
	err := r.run(ctx)
	return r.carried, l.conclude(ctx, err, r.filling)
}

type receiver struct {
	Incoming
	line  *line
	meter *meter

	filling chan struct{} // closed when fill ends; nil before the first
	arrived atomic.Int64  // bytes of all streams
	isHere  bool          // the volume was here before, whole
	carried storage.Carried
}

func (r *receiver) run(ctx context.Context) error {
	if err := r.line.greet(true); err != nil {
		return err
	}
	w, err := r.look(ctx)
	if err != nil {
		return err
	}
	var p plan
	if err := r.line.say(kindWant, w); err != nil {
		return err
	}
	if err := r.line.hear(kindPlan, &p); err != nil {
		return err
	}
	if err := r.check(ctx, p); err != nil {
		return err
	}
	// What is half here is another snapshot's than what comes first.
	if w.Partial != "" && len(p.Streams) > 0 && !p.Streams[0].Resumed {
		if err := r.Pool.Abandon(ctx, r.As.ID); err != nil {
			return err
		}
	}
	if err := r.line.say(kindGo, struct{}{}); err != nil {
		return err
	}
	r.meter = newMeter(p.bytes(), r.Progress, time.Now)
	for _, st := range p.Streams {
		if err := r.receive(ctx, st, p.bytes()); err != nil {
			return err
		}
	}
	r.carried.Snapshot, r.carried.GUID = p.Snapshot, p.GUID
	r.meter.finish()
	r.line.linger(nil) // so that the last receipt is read
	return nil
}

// look finds what of the volume is here, and refuses what could not become it.
func (r *receiver) look(ctx context.Context) (want, error) {
	w := want{Backend: r.Pool.Capabilities().Backend}
	if err := r.As.Check(); err != nil {
		return w, err
	}
	err := r.find(ctx)
	if err != nil {
		return w, err
	}
	if r.isHere {
		snapshots, err := r.Pool.ListSnapshots(ctx, r.As.ID)
		if err != nil {
			return w, err
		}
		if len(snapshots) == 0 {
			return w, storage.NameTaken(r.As) // it is no copy of anything
		}
		for _, s := range snapshots[max(0, len(snapshots)-mostHave):] {
			w.Have = append(w.Have, s.GUID)
		}
	}
	if w.Partial, err = r.Pool.Partial(ctx, r.As.ID); api.CodeOf(err) == api.CodeVolumeNotFound {
		err = nil
	}
	return w, err
}

// find looks for an older copy. All that the pool has is looked at only where there is none: what volumes hold may take its
// time to count, and the last of a volume's streams is waited for.
func (r *receiver) find(ctx context.Context) error {
	v, err := r.Pool.Inspect(ctx, r.As.ID)
	if err == nil && v.State != storage.StateIncoming {
		r.isHere = true
		return r.isCopy(v)
	}
	if err != nil && api.CodeOf(err) != api.CodeVolumeNotFound {
		return err
	}
	all, err := r.Pool.List(ctx)
	for _, v := range all {
		if v.State == storage.StateLive && v.FullName() == r.As.FullName() {
			return storage.NameTaken(v.Spec)
		}
	}
	return err
}

// isCopy refuses a volume of that ID which is no older copy.
func (r *receiver) isCopy(v storage.Volume) error {
	if v.FullName() != r.As.FullName() {
		return storage.NameTaken(v.Spec)
	}
	return storage.CheckState(v.Spec, v.State, storage.StateKept)
}

// check refuses a plan before anything moves.
func (r *receiver) check(ctx context.Context, p plan) error {
	if p.Snapshot != r.Snapshot || p.GUID == "" {
		return storage.NotOffered(r.As.ID, fmt.Sprintf("the sender has %q to send, and %q is wanted", p.Snapshot, r.Snapshot))
	}
	if p.Backend != r.Pool.Capabilities().Backend {
		return storage.StreamForeign(p.Backend, r.Pool.Capabilities().Backend)
	}
	u, err := r.Pool.Usage(ctx)
	if err != nil || len(p.Streams) == 0 {
		return err
	}
	return storage.CheckRoom(u, r.As, p.bytes(), r.isHere)
}

// receive takes one stream and says what the pool made of it.
func (r *receiver) receive(ctx context.Context, st stream, expected int64) error {
	begun := time.Now()
	q, filled := newQueue(), make(chan struct{})
	var (
		arrived flow
		failed  error
	)
	r.filling = filled
	go func() {
		defer close(filled)
		arrived, failed = r.fill(q)
	}()
	got, err := r.Pool.Receive(ctx, r.As, q)
	q.close()
	if err != nil {
		return r.ended(ctx, st, q, err, expected)
	}
	<-filled
	if failed != nil {
		return failed
	}
	if got.GUID != st.GUID {
		return storage.StreamDamaged(fmt.Errorf("%s is %s here, and was to be %s", got.Name, got.GUID, st.GUID))
	}
	if err := r.line.say(kindReceipt, receipt{GUID: got.GUID}); err != nil {
		return err
	}
	agree(&r.carried, st, arrived, time.Since(begun))
	return nil
}

// ended finds out why a pool gave a stream up: the connection's reason, where it had one, came first.
func (r *receiver) ended(ctx context.Context, st stream, q *queue, err error, expected int64) error {
	if why := q.reason(); why != nil {
		return why
	}
	detached := context.WithoutCancel(ctx)
	switch code := api.CodeOf(err); {
	case code == api.CodeVolumeNoSpace:
		if u, unknown := r.Pool.Usage(detached); unknown == nil {
			arrived := r.arrived.Load()
			err = storage.RanFull(u, r.As, arrived, max(arrived, expected), err)
		}
	case code == api.CodeVolumeStreamDamaged && st.Resumed && ctx.Err() == nil:
		// What is half here does not go with what was sent. The next try begins at the last whole snapshot.
		err = errors.Join(err, r.Pool.Abandon(detached, r.As.ID))
	}
	return err
}

// fill reads the frames of one stream into the queue, and goes on reading when nobody wants them any more, so that the
// sender can be told.
func (r *receiver) fill(q *queue) (arrived flow, err error) {
	defer func() { q.end(err) }()
	for {
		k, length, err := r.line.next()
		switch {
		case err != nil:
			return arrived, err
		case k == kindEnd:
			var e end
			if err := r.line.message(length, &e); err != nil {
				return arrived, err
			}
			if e.Bytes != arrived.bytes {
				return arrived, storage.StreamDamaged(fmt.Errorf("%d bytes arrived of %d", arrived.bytes, e.Bytes))
			}
			return arrived, nil
		case k != kindBytes:
			return arrived, r.line.unexpected(k)
		}
		begun := time.Now()
		chunk := q.room(length)
		if err := r.line.body(chunk); err != nil {
			return arrived, err
		}
		if q.push(chunk) == nil {
			r.meter.add(length)
			r.arrived.Add(int64(length))
		}
		arrived.pass(length, begun)
	}
}
