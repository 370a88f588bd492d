package mempool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// body is a stream without its header: what differs from the base, or everything. Its gob stands between the header and
// its checksum.
type body struct {
	Volume string
	// Text is what Write said, in a pool without a root.
	Text  string
	Files map[string]file
	Gone  []string
}

type file struct {
	Mode fs.FileMode
	Data []byte
}

// Write says what a volume holds, in a pool without a root: one that was written since its last snapshot takes no stream.
func (p *Pool) Write(id, text string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.findLocked(id)
	if err == nil {
		v.text = text
	}
	return err
}

// Read is what Write said, of the volume or, where a name is given, of its snapshot.
func (p *Pool) Read(id, snapshot string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if snapshot == "" {
		v, err := p.findLocked(id)
		if err != nil {
			return "", err
		}
		return v.text, nil
	}
	v, _, err := p.snapshotLocked(id, snapshot)
	if err != nil {
		return "", err
	}
	return v.texts[snapshot], nil
}

// Estimate implements storage.Streams.
func (p *Pool) Estimate(ctx context.Context, from storage.From) (int64, error) {
	var size counter
	err := p.Send(ctx, from, &size)
	return int64(size), err
}

// Written implements storage.Streams.
func (p *Pool) Written(_ context.Context, id, base string) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.findLocked(id)
	if err != nil {
		return 0, err
	}
	if v.snapshot(base) == nil {
		return 0, storage.BaseMissing(id, base, "there is no such snapshot")
	}
	now, err := p.tree(p.folder(v))
	if err != nil {
		return 0, err
	}
	before, err := p.tree(p.snapshotFolder(id, base))
	changed, _ := difference(before, now)
	var size int64
	for _, f := range changed {
		size += int64(len(f.Data))
	}
	if v.text != v.texts[base] {
		size += int64(len(v.text))
	}
	return size, err
}

type counter int64

// Write implements io.Writer.
func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// Send implements storage.Streams.
func (p *Pool) Send(_ context.Context, from storage.From, w io.Writer) error {
	h, b, err := p.stream(from)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := gob.NewEncoder(&text).Encode(b); err != nil {
		return typed(err)
	}
	if err := h.Write(w); err != nil {
		return err
	}
	sum := sha256.Sum256(text.Bytes())
	_, err = w.Write(append(text.Bytes(), sum[:]...))
	return err
}

func (p *Pool) stream(from storage.From) (h storage.Header, b body, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, s, err := p.snapshotLocked(from.Volume, from.Snapshot)
	if err != nil {
		return h, b, err
	}
	h = storage.Header{Backend: Backend, Snapshot: s.Name, GUID: s.GUID}
	b = body{Volume: v.ID, Text: v.texts[s.Name]}
	files, err := p.tree(p.snapshotFolder(v.ID, s.Name))
	if err != nil || from.Base == "" {
		b.Files = files
		return h, b, err
	}
	base := v.snapshot(from.Base)
	if base == nil {
		return h, b, storage.BaseMissing(v.ID, from.Base, "there is no such snapshot")
	}
	h.BaseGUID = base.GUID
	before, err := p.tree(p.snapshotFolder(v.ID, from.Base))
	b.Files, b.Gone = difference(before, files)
	return h, b, err
}

func difference(before, after map[string]file) (changed map[string]file, gone []string) {
	changed = map[string]file{}
	for name, f := range after {
		if was, there := before[name]; !there || was.Mode != f.Mode || !bytes.Equal(was.Data, f.Data) {
			changed[name] = f
		}
	}
	for name := range before {
		if _, there := after[name]; !there {
			gone = append(gone, name)
		}
	}
	return changed, gone
}

// tree is what a folder holds, by path; nothing in a pool without a root.
func (p *Pool) tree(dir string) (map[string]file, error) {
	files := map[string]file{}
	if p.root == "" {
		return files, nil
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := file{Mode: info.Mode()}
		if info.Mode().IsRegular() {
			if f.Data, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		name, err := filepath.Rel(dir, path)
		files[name] = f
		return err
	})
	return files, typed(err)
}

// Receive implements storage.Streams. What arrives is applied once all of it is here, so that a broken stream leaves
// nothing.
func (p *Pool) Receive(ctx context.Context, as storage.Spec, r io.Reader) (storage.Snapshot, error) {
	if err := as.Check(); err != nil {
		return storage.Snapshot{}, err
	}
	h, err := storage.ReadHeader(r, Backend)
	if err != nil {
		return storage.Snapshot{}, err
	}
	b, err := readBody(ctx, r)
	if err != nil {
		return storage.Snapshot{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.volumes[as.ID]
	if v != nil {
		if s := v.withGUID(h.GUID); s != nil {
			return *s, nil
		}
	}
	if err := p.fitsLocked(v, as, h, b); err != nil {
		return storage.Snapshot{}, err
	}
	return p.applyLocked(v, as, h, b)
}

// readBody ends with ctx, also while the reader waits.
func readBody(ctx context.Context, r io.Reader) (b body, err error) {
	var text []byte
	done := make(chan error, 1)
	go func() {
		var err error
		text, err = io.ReadAll(r)
		done <- err
	}()
	select {
	case <-ctx.Done():
		return b, context.Cause(ctx)
	case err = <-done:
	}
	at := len(text) - sha256.Size
	if err == nil && (at < 0 || sha256.Sum256(text[:at]) != [sha256.Size]byte(text[at:])) {
		err = errors.New("its checksum is another")
	}
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(text[:at])).Decode(&b)
	}
	if err != nil {
		return b, storage.StreamDamaged(err)
	}
	return b, nil
}

func (v *volume) withGUID(guid string) *storage.Snapshot {
	for _, s := range v.snapshots {
		if s.GUID == guid {
			return s
		}
	}
	return nil
}

// fitsLocked refuses a stream that does not follow what is here. v is nil where nothing is.
func (p *Pool) fitsLocked(v *volume, as storage.Spec, h storage.Header, b body) error {
	switch {
	case v == nil && h.BaseGUID == "":
		return nil
	case v == nil:
		return storage.BaseMissing(as.ID, h.BaseGUID, "the volume is not here")
	case b.Volume != as.ID || h.BaseGUID == "":
		return storage.NameTaken(v.Spec)
	}
	if err := storage.CheckState(v.Spec, v.state, storage.StateKept); err != nil {
		return err
	}
	if len(v.snapshots) == 0 || v.snapshots[len(v.snapshots)-1].GUID != h.BaseGUID {
		return storage.BaseMissing(as.ID, h.BaseGUID, "its last snapshot is another")
	}
	written, err := p.writtenLocked(v)
	if err == nil && written {
		return storage.BaseMissing(as.ID, h.BaseGUID, "it was written since")
	}
	return err
}

// writtenLocked tells whether a volume holds anything else than its last snapshot.
func (p *Pool) writtenLocked(v *volume) (bool, error) {
	last := v.snapshots[len(v.snapshots)-1].Name
	is, err := p.tree(p.folder(v))
	if err != nil {
		return false, err
	}
	was, err := p.tree(p.snapshotFolder(v.ID, last))
	changed, gone := difference(was, is)
	return len(changed)+len(gone) > 0 || v.text != v.texts[last], err
}

func (p *Pool) applyLocked(v *volume, as storage.Spec, h storage.Header, b body) (storage.Snapshot, error) {
	if v == nil {
		v = &volume{Mark: storage.Mark{Spec: as, Created: time.Now().UTC()}, state: storage.StateKept}
		if err := p.makeFolder(p.folder(v)); err != nil {
			return storage.Snapshot{}, err
		}
		p.volumes[as.ID] = v
	}
	v.Spec, v.text = as, b.Text
	if err := p.fill(p.folder(v), b); err != nil {
		return storage.Snapshot{}, err
	}
	if err := p.recordLocked(v, h.Snapshot, h.GUID); err != nil {
		return storage.Snapshot{}, err
	}
	return *v.snapshot(h.Snapshot), nil
}

// fill makes a folder what a stream says.
func (p *Pool) fill(dir string, b body) error {
	for _, name := range b.Gone {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return typed(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.Files)) { // folders before what is in them
		f, at := b.Files[name], filepath.Join(dir, name)
		var err error
		if f.Mode.IsDir() {
			err = os.MkdirAll(at, f.Mode.Perm())
		} else {
			err = os.WriteFile(at, f.Data, f.Mode.Perm())
		}
		if err != nil {
			return typed(err)
		}
	}
	return nil
}

// Partial implements storage.Streams: what broke is not gone on with.
func (p *Pool) Partial(_ context.Context, id string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.findLocked(id)
	if api.CodeOf(err) == api.CodeVolumeNotFound {
		return "", nil
	}
	return "", err
}

// Abandon implements storage.Streams: a broken stream has left nothing.
func (p *Pool) Abandon(context.Context, string) error { return nil }
