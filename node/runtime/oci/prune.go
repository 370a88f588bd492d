package oci

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
)

// PlanPrune says what would go: images that neither keep (nil: none) nor Options.InUse wants and that
// were added more than olderThan ago, and blobs and layers that no remaining image needs. It changes
// nothing.
func (s *Store) PlanPrune(ctx context.Context, keep func(digest string) bool, olderThan time.Duration) (api.PrunePlan, error) {
	unlock, err := s.lock(ctx, storeLock, false)
	if err != nil {
		return api.PrunePlan{}, err
	}
	defer unlock()
	return s.planPrune(keep, time.Now().Add(-olderThan))
}

func (s *Store) planPrune(keep func(string) bool, before time.Time) (api.PrunePlan, error) {
	plan := api.PrunePlan{Images: []api.PrunedImage{}, Blobs: []api.PrunedPart{}, Layers: []api.PrunedPart{}}
	f, err := s.loadIndex()
	if err != nil {
		return plan, err
	}
	var stay []record
	for _, r := range f.Images {
		if s.stays(r, keep, before) {
			stay = append(stay, r)
			continue
		}
		plan.Images = append(plan.Images, api.PrunedImage{Digest: string(r.Digest), References: familiarAll(r.References), Added: r.Added})
	}
	needed, err := s.needed(stay)
	if err != nil {
		return plan, err
	}
	if plan.Blobs, err = s.unneeded(s.path("blobs", "sha256"), needed, fileBytes); err != nil {
		return plan, err
	}
	if plan.Layers, err = s.unneeded(s.path("layers"), needed, layerBytes); err != nil {
		return plan, err
	}
	for _, p := range slices.Concat(plan.Blobs, plan.Layers) {
		plan.Bytes += p.Bytes
	}
	return plan, nil
}

func (s *Store) stays(r record, keep func(string) bool, before time.Time) bool {
	return r.Added.After(before) || s.opts.InUse(string(r.Digest)) || (keep != nil && keep(string(r.Digest)))
}

// needed names every file and folder that the images are made of: blobs by hex, layers by folder name. An
// image that cannot be read makes the plan fail, since what it needs is unknown.
func (s *Store) needed(images []record) (map[string]bool, error) {
	needed := map[string]bool{}
	for _, r := range images {
		p, err := s.parts(r.Digest)
		if err != nil {
			return nil, lost(err, string(r.Digest))
		}
		for _, d := range p.blobs() {
			needed[d.Encoded()] = true
		}
		if r.Index != "" {
			needed[r.Index.Encoded()] = true // for peers; an older store has none
		}
		for _, c := range p.chain {
			needed[shortName(c)] = true
		}
	}
	return needed, nil
}

func (s *Store) unneeded(dir string, needed map[string]bool, bytes func(string) int64) ([]api.PrunedPart, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := []api.PrunedPart{}
	for _, e := range entries {
		if !needed[e.Name()] {
			found = append(found, api.PrunedPart{Name: e.Name(), Bytes: bytes(filepath.Join(dir, e.Name()))})
		}
	}
	return found, nil
}

func fileBytes(name string) int64 {
	st, err := os.Stat(name)
	if err != nil {
		return 0 // a plan counts what it can see
	}
	return st.Size()
}

// layerBytes adds up the files of a layer, hard links once per name.
func layerBytes(dir string) int64 {
	var sum int64
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if st, err := e.Info(); err == nil && st.Mode().IsRegular() {
			sum += st.Size()
		}
		return nil
	})
	return sum
}

// pruneWait is how long a prune waits for pulls under way before it says so.
const pruneWait = 5 * time.Second

// Prune removes what the plan names and what is still removable now: anything that became needed since
// the plan stays. It returns what went. Errors: image.store-busy while a pull goes on.
func (s *Store) Prune(ctx context.Context, plan api.PrunePlan, keep func(digest string) bool) (api.PrunePlan, error) {
	gone := api.PrunePlan{Images: []api.PrunedImage{}, Blobs: []api.PrunedPart{}, Layers: []api.PrunedPart{}}
	waiting, cancel := context.WithTimeout(ctx, pruneWait)
	defer cancel()
	unlock, err := s.lock(waiting, storeLock, true)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return gone, api.Errorf(api.CodeImageStoreBusy, "a pull or import has been under way for %s", pruneWait).
			WithHint("try again when it is done").Again()
	}
	if err != nil {
		return gone, err
	}
	defer unlock()
	if err := s.forgetImages(ctx, plan, keep, &gone); err != nil {
		return gone, err
	}
	return gone, s.removeParts(plan, &gone)
}

// forgetImages takes the planned images out of the index first: after a crash here, their parts are
// garbage for the next plan, never an image with parts missing.
func (s *Store) forgetImages(ctx context.Context, plan api.PrunePlan, keep func(string) bool, gone *api.PrunePlan) error {
	return s.changeIndex(ctx, func(f *indexFile) {
		f.Images = slices.DeleteFunc(f.Images, func(r record) bool {
			i := slices.IndexFunc(plan.Images, func(p api.PrunedImage) bool { return p.Digest == string(r.Digest) })
			// Pulled again since the plan was made means wanted again.
			if i < 0 || !r.Added.Equal(plan.Images[i].Added) || s.stays(r, keep, r.Added) {
				return false
			}
			gone.Images = append(gone.Images, plan.Images[i])
			return true
		})
	})
}

func (s *Store) removeParts(plan api.PrunePlan, gone *api.PrunePlan) error {
	f, err := s.loadIndex()
	if err != nil {
		return err
	}
	needed, err := s.needed(f.Images)
	if err != nil {
		return err
	}
	gone.Layers, err = s.removeAll(s.path("layers"), plan.Layers, needed)
	if err != nil {
		return err
	}
	gone.Blobs, err = s.removeAll(s.path("blobs", "sha256"), plan.Blobs, needed)
	for _, p := range slices.Concat(gone.Blobs, gone.Layers) {
		gone.Bytes += p.Bytes
	}
	return err
}

// removeAll moves each part out of the way by one rename before it is taken apart, so that a death
// in the middle leaves no half layer.
func (s *Store) removeAll(dir string, planned []api.PrunedPart, needed map[string]bool) ([]api.PrunedPart, error) {
	gone := []api.PrunedPart{}
	for _, p := range planned {
		if needed[p.Name] || p.Name != filepath.Base(p.Name) {
			continue
		}
		away := filepath.Join(s.session, "gone-"+p.Name)
		err := os.Rename(filepath.Join(dir, p.Name), away)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.RemoveAll(away)
		}
		if err != nil {
			return gone, err
		}
		gone = append(gone, p)
	}
	return gone, durable.SyncFolder(dir)
}
