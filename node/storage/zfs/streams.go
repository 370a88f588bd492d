package zfs

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	gozfs "github.com/mistifyio/go-zfs/v3"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// form asks for large, embedded and compressed blocks as they are on the disk.
const form = "-Lec"

// from finds what a stream holds, and writes its header's words.
func (p *Pool) from(ctx context.Context, from storage.From) (args []string, h storage.Header, err error) {
	pic, f, s, err := p.get(ctx, from.Volume, from.Snapshot)
	if err != nil {
		return nil, h, err
	}
	h = storage.Header{Backend: Backend, Snapshot: s.Name, GUID: s.GUID, Resumed: from.Resume != ""}
	args = []string{form}
	if from.Base != "" {
		base, err := pic.snapshot(f, from.Base)
		if err != nil {
			return nil, h, storage.BaseMissing(f.ID, from.Base, "there is no such snapshot")
		}
		h.BaseGUID = base.GUID
		args = append(args, "-i", "@"+base.Name)
	}
	if h.Resumed {
		return []string{"-t", from.Resume}, h, nil
	}
	return append(args, f.name+"@"+s.Name), h, nil
}

// Estimate implements storage.Streams.
func (p *Pool) Estimate(ctx context.Context, from storage.From) (int64, error) {
	args, h, err := p.from(ctx, from)
	if err != nil {
		return 0, err
	}
	out, err := zfs(ctx, append([]string{"send", "-nvP"}, args...)...)
	if err != nil {
		return 0, err
	}
	size, guid := estimated(out)
	if guid != "" && guid != h.GUID {
		return 0, storage.StreamDamaged(errors.New("what broke was the stream of another snapshot than " + h.Snapshot))
	}
	if size < 0 {
		return 0, api.Errorf(api.CodeVolumePoolFailed, "zfs send printed no size but %q", out)
	}
	return size, nil
}

// estimated reads what `zfs send -nvP` prints: the stream's size in bytes, -1 where there is none, and, of one that is
// resumed, the GUID of its snapshot, in decimal as the property has it.
func estimated(out string) (size int64, guid string) {
	size = -1
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "size\t"); ok {
			if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				size = n
			}
		}
		if text, ok := strings.CutPrefix(line, "toguid = "); ok {
			if n, err := strconv.ParseUint(text, 0, 64); err == nil {
				guid = strconv.FormatUint(n, 10)
			}
		}
	}
	return size, guid
}

// Written implements storage.Streams. The file system counts what it has written out: it is told to do so first.
func (p *Pool) Written(ctx context.Context, id, base string) (int64, error) {
	_, f, s, err := p.get(ctx, id, base)
	switch {
	case api.CodeOf(err) == api.CodeVolumeSnapshotNotFound:
		return 0, storage.BaseMissing(id, base, "there is no such snapshot")
	case err != nil:
		return 0, err
	}
	zpool, _, _ := strings.Cut(p.base, "/")
	if said, err := storage.Run(ctx, nil, nil, "zpool", "sync", zpool); err != nil {
		return 0, failure("sync", said, err)
	}
	out, err := zfs(ctx, "get", "-Hpo", "value", "written@"+s.Name, f.name)
	if err != nil {
		return 0, err
	}
	size, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	return size, typed(err)
}

// Send implements storage.Streams.
func (p *Pool) Send(ctx context.Context, from storage.From, w io.Writer) error {
	args, h, err := p.from(ctx, from)
	if err != nil {
		return err
	}
	if err := h.Write(w); err != nil {
		return err
	}
	return stream(ctx, nil, w, append([]string{"send"}, args...)...)
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
	to, here, err := p.arrive(ctx, as, h)
	if err != nil {
		return storage.Snapshot{}, err
	}
	defer p.leave(as.ID)
	if here {
		err = storage.Drain(r)
	} else {
		err = stream(ctx, r, io.Discard, "receive", "-s", "-u", to+"@"+h.Snapshot)
	}
	if err != nil {
		return storage.Snapshot{}, err
	}
	return p.whole(ctx, as, to, h)
}

// arrive finds or makes the dataset that a stream goes to, and takes it for this one; here says that what it
// brings was brought before.
func (p *Pool) arrive(ctx context.Context, as storage.Spec, h storage.Header) (to string, here bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.receiving[as.ID] {
		return "", false, storage.InUse(as, "another stream is arriving")
	}
	pic, f, err := p.find(ctx, as.ID)
	switch {
	case err != nil && api.CodeOf(err) != api.CodeVolumeNotFound:
		return "", false, err
	case err != nil || f.state == storage.StateIncoming:
		to, here, err = p.expect(ctx, pic, as, h)
	default:
		to, here, err = f.name, pic.has(f.name, h), nil
		if !here {
			err = p.continues(ctx, pic, f, h)
		}
	}
	if err == nil {
		p.receiving[as.ID] = true
	}
	return to, here, err
}

func (p *Pool) leave(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.receiving, id)
}

// has reports whether a dataset has a stream's snapshot, marked or not yet.
func (pic picture) has(name string, h storage.Header) bool {
	d, there := pic.get(name + "@" + h.Snapshot)
	return there && d.text("guid") == h.GUID
}

// expect is the place for a volume's first stream: empty, or with what a broken one has brought if this goes
// on with that.
func (p *Pool) expect(ctx context.Context, pic picture, as storage.Spec, h storage.Header) (to string, here bool, err error) {
	place := p.dataset(incomingDir, as.ID)
	to = place + "/data"
	if pic.has(to, h) {
		return to, true, nil
	}
	d, there := pic.get(to)
	if h.Resumed {
		if d.text("receive_resume_token") == "" {
			return "", false, storage.StreamDamaged(errors.New("it goes on with one of which nothing is here"))
		}
		return to, false, nil
	}
	if h.BaseGUID != "" {
		return "", false, storage.BaseMissing(as.ID, h.BaseGUID, "the volume is not here")
	}
	if there {
		if err := p.destroy(ctx, pic, to); err != nil {
			return "", false, err
		}
	}
	if _, there := pic.get(place); there {
		return to, false, nil
	}
	text, err := markText(storage.Mark{Spec: as, Created: time.Now().UTC()})
	if err == nil {
		_, err = gozfs.CreateFilesystem(place, map[string]string{"canmount": "off", volumeProperty: text})
		err = done(err)
	}
	return to, false, err
}

// continues refuses a stream that does not go on where a kept volume is. Whether it was written since its last
// snapshot the command itself looks at.
func (p *Pool) continues(ctx context.Context, pic picture, f found, h storage.Header) error {
	broken := f.text("receive_resume_token") != ""
	all, _ := pic.snapshots(f)
	switch {
	case h.Resumed && !broken:
		return storage.StreamDamaged(errors.New("it goes on with one of which nothing is here"))
	case h.BaseGUID == "":
		return storage.NameTaken(f.Spec)
	case f.state != storage.StateKept:
		return storage.CheckState(f.Spec, f.state, storage.StateKept)
	case len(all) == 0 || all[len(all)-1].GUID != h.BaseGUID:
		return storage.BaseMissing(f.ID, h.BaseGUID, "it is not the last snapshot")
	case broken && !h.Resumed:
		_, err := zfs(ctx, "receive", "-A", f.name)
		return err
	}
	return nil
}

// whole marks what a stream has brought, and makes a volume whose first it was a kept one.
func (p *Pool) whole(ctx context.Context, as storage.Spec, to string, h storage.Header) (storage.Snapshot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := zfs(ctx, "set", snapshotProperty+"="+h.Snapshot, to+"@"+h.Snapshot); err != nil {
		return storage.Snapshot{}, err
	}
	if place := p.dataset(incomingDir, as.ID); to == place+"/data" {
		if err := p.remark(ctx, to, storage.Mark{Spec: as, Created: time.Now().UTC()}); err != nil {
			return storage.Snapshot{}, err
		}
		if err := p.rename(as.ID, to, p.dataset(keptDir, as.ID)); err != nil {
			return storage.Snapshot{}, err
		}
		if err := done((&gozfs.Dataset{Name: place}).Destroy(gozfs.DestroyDefault)); err != nil {
			return storage.Snapshot{}, err
		}
	}
	_, _, s, err := p.get(ctx, as.ID, h.Snapshot)
	if err == nil && s.GUID != h.GUID {
		err = storage.StreamDamaged(errors.New("it brought another snapshot than it said"))
	}
	return s, err
}

// token is where a broken stream of a volume stopped, and the dataset it was for; both "" if there is none.
func (pic picture) token(id string) (name, token string, err error) {
	f, err := pic.volume(id)
	if err != nil {
		return "", "", err
	}
	if f.state == storage.StateIncoming {
		f.dataset, _ = pic.get(f.name + "/data")
	}
	return f.name, f.text("receive_resume_token"), nil
}

// Partial implements storage.Streams.
func (p *Pool) Partial(ctx context.Context, id string) (string, error) {
	pic, err := p.look(ctx)
	if err != nil {
		return "", err
	}
	_, token, err := pic.token(id)
	return token, err
}

// Abandon implements storage.Streams.
func (p *Pool) Abandon(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pic, f, err := p.find(ctx, id)
	switch {
	case api.CodeOf(err) == api.CodeVolumeNotFound:
		return nil
	case err != nil:
		return err
	case p.receiving[id]:
		return storage.InUse(f.Spec, "its stream is arriving")
	case f.state == storage.StateIncoming:
		return p.destroy(ctx, pic, f.name)
	case f.text("receive_resume_token") == "":
		return nil
	}
	_, err = zfs(ctx, "receive", "-A", f.name)
	return err
}
