package oci

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

const indexVersion = 1

// indexFile is index.json.
type indexFile struct {
	Version int      `json:"version"`
	Images  []record `json:"images"`
}

// record is one image that was completed at least once.
type record struct {
	// Digest is the manifest's.
	Digest digest.Digest `json:"digest"`
	// Index is the digest of the multi-platform index it was chosen from, if any: a reference
	// by that digest means this image on this machine.
	Index digest.Digest `json:"index,omitempty"`
	// References are full names. Empty once newer images took them all.
	References []string `json:"references"`
	// Named is when a name was given to an image that was pushed: of names that no registry knows, the newest counts
	// among the machines.
	Named map[string]time.Time `json:"named,omitempty"`
	// Origin is "registry", "archive" or "machine".
	Origin string    `json:"origin"`
	Added  time.Time `json:"added"`
}

func (s *Store) loadIndex() (indexFile, error) {
	name := s.path("index.json")
	body, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return indexFile{Version: indexVersion}, nil
	}
	if err != nil {
		return indexFile{}, err
	}
	var f indexFile
	if err := json.Unmarshal(body, &f); err != nil {
		return f, damaged(name, "not readable as JSON: %w", err).WithHint("move the file away; pulling again costs no download of what is here")
	}
	if f.Version != indexVersion {
		return f, damaged(name, "version %d, this ployzd knows %d", f.Version, indexVersion).WithHint("run the ployzd that wrote it")
	}
	return f, nil
}

// changeIndex applies change to the index and writes it, alone.
func (s *Store) changeIndex(ctx context.Context, change func(*indexFile)) error {
	unlock, err := s.lock(ctx, indexLock, true)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := s.loadIndex()
	if err != nil {
		return err
	}
	change(&f)
	body, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return s.writeFile(s.path("index.json"), append(body, '\n'))
}

// add gives the image the name, taking it from any image that had it.
func (f *indexFile) add(r record, name string) {
	f.forget(name)
	i := slices.IndexFunc(f.Images, func(old record) bool { return old.Digest == r.Digest })
	if i < 0 {
		r.References = []string{}
		f.Images = append(f.Images, r)
		i = len(f.Images) - 1
	}
	old := &f.Images[i]
	old.Added = r.Added
	if r.Index != "" {
		old.Index = r.Index
	}
	if name != "" {
		old.References = append(old.References, name)
	}
}

// name gives an image a name that it was pushed under, unless another has had it since.
func (f *indexFile) name(d digest.Digest, name string, at time.Time) {
	has, known := f.byName(name)
	if known && has.Digest != d && has.named(name).After(at) {
		return
	}
	f.forget(name)
	for i := range f.Images {
		r := &f.Images[i]
		if r.Digest != d {
			continue
		}
		r.References = append(r.References, name)
		if r.Named == nil {
			r.Named = map[string]time.Time{}
		}
		r.Named[name] = at
	}
}

// named is when a pushed image got a name; zero for one that a registry knows. An older store noted no times.
func (r record) named(name string) time.Time {
	if at, noted := r.Named[name]; noted || r.Origin != "archive" || !slices.Contains(r.References, name) {
		return at
	}
	return r.Added
}

// forget takes the name from the image that has it, and says whether one had.
func (f *indexFile) forget(name string) bool {
	for i := range f.Images {
		refs := f.Images[i].References
		if at := slices.Index(refs, name); at >= 0 {
			f.Images[i].References = slices.Delete(refs, at, at+1)
			delete(f.Images[i].Named, name)
			return true
		}
	}
	return false
}

func (f *indexFile) byName(name string) (record, bool) {
	for _, r := range f.Images {
		if slices.Contains(r.References, name) {
			return r, true
		}
	}
	return record{}, false
}

func (f *indexFile) byDigest(d digest.Digest) (record, bool) {
	for _, r := range f.Images {
		if r.Digest == d || r.Index == d {
			return r, true
		}
	}
	return record{}, false
}
