package routing

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/store"
)

// Load reads the last good projection and applies it; call it once, before Run. No file is an
// empty projection. A damaged one is reported and ignored as far as it is damaged, since the
// store has everything it held.
func (f *Follower) Load() {
	p, at, err := f.readFile()
	why := "the last good view from disk; the store has not been read yet"
	switch {
	case f.Path == "" || errors.Is(err, fs.ErrNotExist):
		why = "nothing has been read from the store yet"
	case err != nil:
		f.Log.Error("the last good projection cannot be read and is ignored", "path", f.Path, "error", err)
		why = "the last good view on disk cannot be read, and the store has not been read yet"
	}
	f.changed = make(chan struct{}, 1)
	f.mu.Lock()
	f.current = at
	f.mu.Unlock()
	f.show(p, &why)
	<-f.changed // what was just read need not be written
}

// file is a Projection with each namespace by itself, so that one that this version cannot read
// does not take the others along. Unknown fields are ignored: a newer version may have written it.
type file struct {
	Namespaces map[string]json.RawMessage `json:"namespaces"`
	Revision   store.Revision             `json:"revision"`
	Generation uint64                     `json:"generation"`
}

// readFile returns what is good of the file, and when that was last known to be current.
func (f *Follower) readFile() (Projection, time.Time, error) {
	text, err := os.ReadFile(f.Path)
	if err != nil {
		return Projection{}, time.Time{}, err
	}
	var stored file
	if err := json.Unmarshal(text, &stored); err != nil {
		return Projection{}, time.Time{}, err
	}
	p := Projection{Namespaces: map[string]Applied{}, Revision: stored.Revision, Generation: stored.Generation}
	for ns, text := range stored.Namespaces {
		var a Applied
		err := json.Unmarshal(text, &a)
		if err == nil && a.Revision > 0 {
			err = a.View.check(ns)
		}
		if err == nil && a.Revision > 0 && f.Check != nil {
			err = f.Check(a.View)
		}
		if err != nil {
			f.Log.Error("a namespace of the last good projection cannot be served", "namespace", ns, "error", err)
			continue
		}
		p.Namespaces[ns] = a
	}
	var at time.Time
	if stat, err := os.Stat(f.Path); err == nil {
		at = stat.ModTime()
	}
	return p, at, nil
}

func (f *Follower) noteChanged() {
	select {
	case f.changed <- struct{}{}:
	default: // one is waiting, and the newest projection is written then
	}
}

// keep writes the newest projection whenever one was shown, until ctx ends.
func (f *Follower) keep(ctx context.Context) {
	for {
		select {
		case <-f.changed:
			f.write()
		case <-ctx.Done():
			select {
			case <-f.changed:
				f.write()
			default:
			}
			return
		}
	}
}

func (f *Follower) write() {
	if f.Path == "" {
		return
	}
	text, err := json.Marshal(f.Projection())
	if err == nil {
		err = durable.WriteFile(f.Path, text, 0o640)
	}
	if err != nil {
		f.Log.Error("the last good projection could not be kept on disk", "path", f.Path, "error", err)
	}
}

// touch notes in the file's time that what it holds is current. That it fails when there is no
// file yet, or on a full disk, costs no more than a wrong age after the next start.
func (f *Follower) touch() {
	if f.Path != "" {
		_ = os.Chtimes(f.Path, time.Time{}, time.Now())
	}
}
