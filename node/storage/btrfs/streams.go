package btrfs

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// from finds what a stream holds, and writes its header's words.
func (p *Pool) from(from storage.From) (args []string, h storage.Header, err error) {
	f, err := p.find(from.Volume)
	if err != nil {
		return nil, h, err
	}
	s, err := f.get(from.Snapshot)
	if err != nil {
		return nil, h, err
	}
	h = storage.Header{Backend: Backend, Snapshot: s.Name, GUID: s.GUID}
	args = []string{"send", "-q"}
	if from.Base != "" {
		base, err := f.base(from.Base)
		if err != nil {
			return nil, h, err
		}
		h.BaseGUID = base.GUID
		args = append(args, "-p", f.snapshot(from.Base)+"/data")
	}
	return append(args, f.snapshot(from.Snapshot)+"/data"), h, nil
}

// base finds the snapshot that a stream begins with.
func (f found) base(name string) (storage.Snapshot, error) {
	s, err := f.get(name)
	if err != nil {
		err = storage.BaseMissing(f.ID, name, "there is no such snapshot")
	}
	return s, err
}

// Estimate implements storage.Streams: a stream without its contents says how long they are.
func (p *Pool) Estimate(ctx context.Context, from storage.From) (int64, error) {
	args, _, err := p.from(from)
	if err != nil {
		return 0, err
	}
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(stream(ctx, nil, w, append([]string{"send", "-q", "--no-data"}, args[2:]...)...))
	}()
	defer r.Close()
	return measure(bufio.NewReader(r))
}

// Send implements storage.Streams. What Resume says is never ours: this pool's Partial says nothing.
func (p *Pool) Send(ctx context.Context, from storage.From, w io.Writer) error {
	args, h, err := p.from(from)
	if err != nil {
		return err
	}
	if err := h.Write(w); err != nil {
		return err
	}
	return stream(ctx, nil, w, args...)
}

// Receive implements storage.Streams.
func (p *Pool) Receive(ctx context.Context, as storage.Spec, r io.Reader) (storage.Snapshot, error) {
	if err := as.Check(); err != nil {
		return storage.Snapshot{}, err
	}
	h, err := storage.ReadHeader(r, Backend)
	if err != nil {
		return storage.Snapshot{}, err
	}
	f, done, err := p.arrive(ctx, as, h)
	if err != nil {
		return storage.Snapshot{}, err
	}
	defer p.leave(as.ID)
	if done != nil {
		return *done, storage.Drain(r)
	}
	s, err := p.receive(ctx, f, h, r)
	if err != nil {
		return s, errors.Join(err, p.giveUp(context.WithoutCancel(ctx), f, h.Snapshot))
	}
	return s, p.whole(f)
}

// arrive finds or makes the place for a stream, and takes it for this one.
func (p *Pool) arrive(ctx context.Context, as storage.Spec, h storage.Header) (f found, done *storage.Snapshot, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.receiving[as.ID] {
		return f, nil, storage.InUse(as, "another stream is arriving")
	}
	f, err = p.find(as.ID)
	switch {
	case err != nil && api.CodeOf(err) != api.CodeVolumeNotFound:
		return f, nil, err
	case err != nil || f.state == storage.StateIncoming:
		if h.BaseGUID != "" {
			return f, nil, storage.BaseMissing(as.ID, h.BaseGUID, "the volume is not here")
		}
		f, err = p.expect(ctx, as)
	default:
		done, err = p.continues(f, h)
	}
	if err != nil {
		return f, nil, err
	}
	p.receiving[as.ID] = true
	return f, done, nil
}

func (p *Pool) leave(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.receiving, id)
}

// expect makes the folder for a volume's first stream.
func (p *Pool) expect(ctx context.Context, as storage.Spec) (found, error) {
	f := found{Mark: storage.Mark{Spec: as, Created: time.Now().UTC()}, dir: p.path(incomingDir, as.ID), state: storage.StateIncoming}
	if as.SizeBytes > 0 && !p.quotas() { // now, when nobody waits for the volume yet
		if err := p.counts(ctx); err != nil {
			return f, err
		}
	}
	if err := p.clear(ctx, f.dir); err != nil {
		return f, err
	}
	if err := os.MkdirAll(f.dir+"/snapshots", 0o711); err != nil {
		return f, typed(err)
	}
	return f, writeMark(f.dir, volumeMark, f.Mark)
}

// continues refuses a stream that does not go on where this volume is; done is the snapshot that it would
// bring, if it is here.
func (p *Pool) continues(f found, h storage.Header) (done *storage.Snapshot, err error) {
	all, err := f.list()
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.GUID == h.GUID {
			return &s, nil
		}
		if s.Name == h.Snapshot {
			return nil, storage.SnapshotTaken(h.Snapshot, []string{f.ID})
		}
	}
	switch {
	case h.BaseGUID == "":
		return nil, storage.NameTaken(f.Spec)
	case f.state != storage.StateKept:
		return nil, storage.CheckState(f.Spec, f.state, storage.StateKept)
	case len(all) == 0 || all[len(all)-1].GUID != h.BaseGUID:
		return nil, storage.BaseMissing(f.ID, h.BaseGUID, "it is not the last snapshot")
	}
	return nil, f.unwritten(all[len(all)-1])
}

// unwritten refuses a volume that was written since its last snapshot: what arrives would hide that. Data that are as
// they were made are those of the snapshot, see usable.
func (f found) unwritten(last storage.Snapshot) error {
	if !isSubvolume(f.tree()) {
		return nil
	}
	now, err := show(f.tree())
	if err != nil {
		return err
	}
	then, err := show(f.snapshot(last.Name) + "/data")
	if err == nil && now.generation > max(then.born, now.born) {
		err = storage.BaseMissing(f.ID, last.Name, "the volume was written since")
	}
	return err
}

func (p *Pool) receive(ctx context.Context, f found, h storage.Header, r io.Reader) (storage.Snapshot, error) {
	half := f.snapshot(h.Snapshot) + ".half"
	if err := p.clearSnapshot(ctx, half); err != nil {
		return storage.Snapshot{}, err
	}
	if err := os.MkdirAll(half, 0o711); err != nil {
		return storage.Snapshot{}, typed(err)
	}
	if err := p.bring(ctx, half, h, r); err != nil {
		return storage.Snapshot{}, received(err)
	}
	v, err := show(half + "/data")
	if err != nil || v.guid() != h.GUID {
		return storage.Snapshot{}, errors.Join(storage.StreamDamaged(errors.New("it brought another snapshot than it said")), err)
	}
	s, err := p.publish(f, h.Snapshot, half)
	if err != nil {
		return s, err
	}
	// The data that a kept volume had is the base's: it is made anew of the last snapshot when it is wanted.
	return s, deleteSubvolume(ctx, f.tree())
}

// received types what btrfs receive said: but for a full pool it is the stream's fault.
func received(err error) error {
	if api.CodeOf(err) != api.CodeVolumePoolFailed {
		return err
	}
	return storage.StreamDamaged(err)
}

// giveUp clears what a broken stream left: with Btrfs it cannot go on.
func (p *Pool) giveUp(ctx context.Context, f found, snapshot string) error {
	if f.state == storage.StateIncoming {
		return p.clear(ctx, f.dir)
	}
	return p.clearSnapshot(ctx, f.snapshot(snapshot)+".half")
}

// whole makes a volume of which the first stream is whole a kept one.
func (p *Pool) whole(f found) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.state != storage.StateIncoming {
		return p.settle()
	}
	if err := p.vacate(f.ID); err != nil {
		return err
	}
	return p.move(f.dir, p.path(keptDir, f.ID))
}

// Partial implements storage.Streams.
func (p *Pool) Partial(context.Context, string) (string, error) { return "", nil }

// Abandon implements storage.Streams: what a killed receiver left.
func (p *Pool) Abandon(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := p.find(id)
	switch {
	case api.CodeOf(err) == api.CodeVolumeNotFound:
		return nil
	case err != nil:
		return err
	case p.receiving[id]:
		return storage.InUse(f.Spec, "its stream is arriving")
	case f.state == storage.StateIncoming:
		return p.clear(ctx, f.dir)
	}
	return p.clearHalves(ctx, f)
}

// clearHalves deletes the snapshots of a volume that never became whole.
func (p *Pool) clearHalves(ctx context.Context, f found) error {
	entries, err := os.ReadDir(f.dir + "/snapshots")
	if err != nil {
		return typed(err)
	}
	for _, e := range entries {
		ok, err := readMark(f.snapshot(e.Name()), snapshotMark, &snapshotFile{})
		if err == nil && !ok {
			err = p.clearSnapshot(ctx, f.snapshot(e.Name()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
