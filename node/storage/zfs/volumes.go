package zfs

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	gozfs "github.com/mistifyio/go-zfs/v3"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// Ensure implements storage.Volumes.
func (p *Pool) Ensure(ctx context.Context, spec storage.Spec) (storage.Volume, error) {
	if err := spec.Check(); err != nil {
		return storage.Volume{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pic, f, err := p.find(ctx, spec.ID)
	switch {
	case api.CodeOf(err) == api.CodeVolumeNotFound:
		err = p.make(ctx, pic, spec)
	case err == nil:
		err = p.adjust(ctx, pic, f, spec)
	}
	if err == nil {
		err = p.mount(p.dataset(liveDir, spec.FileName()), spec)
	}
	if err != nil {
		return storage.Volume{}, err
	}
	return p.Inspect(ctx, spec.ID)
}

// make makes a dataset with its size and identity in one command, which is one transaction.
func (p *Pool) make(ctx context.Context, pic picture, spec storage.Spec) error {
	name := p.dataset(liveDir, spec.FileName())
	if err := pic.taken(name); err != nil {
		return err
	}
	if err := p.couldHold(ctx, pic, spec); err != nil {
		return err
	}
	properties, err := identity(storage.Mark{Spec: spec, Created: now()})
	if err == nil {
		_, err = gozfs.CreateFilesystem(name, properties)
		err = done(err)
	}
	p.put(spec.ID, name)
	return err
}

// now is a moment as a mark has it, which is without the process's own clock.
func now() time.Time { return time.Now().UTC().Round(0) }

// identity are the properties that a volume begins with.
func identity(m storage.Mark) (map[string]string, error) {
	mark, err := markText(m)
	return map[string]string{volumeProperty: mark, "refquota": quota(m.Spec)}, err
}

func markText(m storage.Mark) (string, error) {
	text, err := json.Marshal(m)
	return string(text), typed(err)
}

// quota is the size as refquota wants it: what the volume refers to, without its snapshots.
func quota(s storage.Spec) string {
	if s.SizeBytes == 0 {
		return "none"
	}
	return strconv.FormatInt(s.SizeBytes, 10)
}

func (p *Pool) couldHold(ctx context.Context, pic picture, spec storage.Spec) error {
	u, err := p.usage(ctx, pic)
	if err != nil {
		return err
	}
	return storage.CheckSpace(u, spec)
}

// adjust gives a volume that is there the size that is asked for now; its owner and mode come with mount.
func (p *Pool) adjust(ctx context.Context, pic picture, f found, spec storage.Spec) error {
	if err := storage.CheckState(f.Spec, f.state, storage.StateLive); err != nil {
		return err
	}
	if f.FullName() != spec.FullName() {
		return storage.NameTaken(f.Spec)
	}
	used := f.number("referenced")
	if err := storage.CheckShrink(spec, used); err != nil {
		return err
	}
	if grow := spec; spec.SizeBytes > f.SizeBytes {
		grow.SizeBytes -= used
		if err := p.couldHold(ctx, pic, grow); err != nil {
			return err
		}
	}
	return p.remark(ctx, f.name, storage.Mark{Spec: spec, Origin: f.Origin, Created: f.Created})
}

// remark sets a dataset's size and identity in one command.
func (p *Pool) remark(ctx context.Context, name string, m storage.Mark) error {
	text, err := markText(m)
	if err == nil {
		_, err = zfs(ctx, "set", volumeProperty+"="+text, "refquota="+quota(m.Spec), name)
	}
	return err
}

// Inspect implements storage.Volumes.
func (p *Pool) Inspect(ctx context.Context, id string) (storage.Volume, error) {
	_, f, err := p.findNear(ctx, id)
	if err != nil {
		return storage.Volume{}, err
	}
	return p.observe(f), nil
}

// List implements storage.Volumes.
func (p *Pool) List(ctx context.Context) ([]storage.Volume, error) {
	pic, err := p.look(ctx)
	if err != nil {
		return nil, err
	}
	var volumes []storage.Volume
	for _, f := range pic.volumes() {
		volumes = append(volumes, p.observe(f))
	}
	return volumes, nil
}

func (p *Pool) observe(f found) storage.Volume {
	v := storage.Volume{
		Spec: f.Spec, State: f.state, Origin: f.Origin, Created: f.Created,
		UsedBytes: f.number("referenced"), OwnBytes: f.number("usedbydataset"), Problem: f.damaged,
	}
	if f.damaged == nil && f.state == storage.StateLive {
		v.Path = p.mountPoint(f.Spec)
	}
	return v
}

// Destroy implements storage.Volumes.
func (p *Pool) Destroy(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pic, f, err := p.find(ctx, id)
	if api.CodeOf(err) == api.CodeVolumeNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if f.state == storage.StateLive {
		return storage.CheckState(f.Spec, f.state, storage.StateKept)
	}
	if err := p.destroyable(ctx, pic, f); err != nil {
		return err
	}
	return p.destroy(ctx, pic, f.name)
}

// destroyable looks for itself at who needs the dataset: the command would unmount it, wherever it is.
func (p *Pool) destroyable(ctx context.Context, pic picture, f found) error {
	if p.receiving[f.ID] {
		return storage.InUse(f.Spec, "a stream is arriving")
	}
	snapshots, foreign := pic.snapshots(f)
	if len(foreign) > 0 {
		return storage.NotOurs(foreign[0])
	}
	snapshots, err := p.withHolds(ctx, pic, f, snapshots)
	if err != nil {
		return err
	}
	for _, s := range snapshots {
		if len(s.Holds)+len(s.Clones) > 0 {
			return storage.SnapshotNeeded(s)
		}
	}
	every, err := storage.EveryMount()
	for _, m := range every {
		if m.Source == f.name {
			return storage.InUse(f.Spec, m.String())
		}
	}
	return typed(err)
}

// destroy destroys a dataset of ours with all that is under it, after a stream that broke on its way there. A first stream
// that is given up takes the dataset that it was making with it.
func (p *Pool) destroy(ctx context.Context, pic picture, name string) error {
	if gone, err := p.giveUp(ctx, pic, name); gone || err != nil {
		return err
	}
	return done((&gozfs.Dataset{Name: name}).Destroy(gozfs.DestroyRecursive))
}

// giveUp ends the streams that broke on their way to a dataset and what is under it, and reports whether it went with one.
func (p *Pool) giveUp(ctx context.Context, pic picture, name string) (gone bool, err error) {
	broken := false
	for _, d := range pic.all {
		if (d.name == name || strings.HasPrefix(d.name, name+"/")) && d.text("receive_resume_token") != "" {
			broken = true
			_, abandoned := zfs(ctx, "receive", "-A", d.name)
			err = errors.Join(err, abandoned)
		}
	}
	if !broken || err != nil {
		return false, err
	}
	pic, err = p.look(ctx)
	_, there := pic.get(name)
	return err == nil && !there, err
}
