package oci_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime/oci"
	. "github.com/ployz/ployz/node/runtime/oci/ocitest"
)

// two imports two images that share their lowest layer, and returns their digests.
func two(t *testing.T, s *oci.Store) (string, string) {
	t.Helper()
	base := Files(map[string]string{"base": "b"})
	a, err := importTar(t, s, "a:1", (&Image{Layers: []Layer{base, Files(map[string]string{"a": strings.Repeat("a", 5000)})}}).MustBuild())
	must(t, err)
	b, err := importTar(t, s, "b:1", (&Image{Layers: []Layer{base, Files(map[string]string{"b": "b"})}}).MustBuild())
	must(t, err)
	return a.Digest, b.Digest
}

func TestPruneRemovesExactlyThePlan(t *testing.T) {
	used := map[string]bool{}
	s, root := open(t, func(o *oci.Options) { o.InUse = func(d string) bool { return used[d] } })
	a, b := two(t, s)
	clean(t, root, 7, 3)
	used[b] = true
	plan, err := s.PlanPrune(ctx, nil, time.Hour)
	must(t, err)
	if len(plan.Images)+len(plan.Blobs)+len(plan.Layers) != 0 {
		t.Fatalf("younger than an hour, and planned: %+v", plan)
	}
	plan, err = s.PlanPrune(ctx, nil, 0)
	must(t, err)
	if len(plan.Images) != 1 || plan.Images[0].Digest != a || len(plan.Blobs) != 3 || len(plan.Layers) != 1 || plan.Bytes < 5000 {
		t.Fatalf("planned: %+v", plan)
	}
	clean(t, root, 7, 3)
	gone, err := s.Prune(ctx, plan, nil)
	must(t, err)
	if gone.Bytes != plan.Bytes || len(gone.Layers) != 1 || len(gone.Images) != 1 {
		t.Errorf("planned %+v, gone %+v", plan, gone)
	}
	clean(t, root, 4, 2)
	if _, err := s.Lookup(ctx, b); err != nil {
		t.Error(err)
	}
}

func TestPruneSparesWhatBecameUsed(t *testing.T) {
	used := map[string]bool{}
	s, root := open(t, func(o *oci.Options) { o.InUse = func(d string) bool { return used[d] } })
	a, b := two(t, s)
	plan, err := s.PlanPrune(ctx, nil, 0)
	must(t, err)
	if len(plan.Images) != 2 {
		t.Fatalf("planned: %+v", plan)
	}
	used[a] = true
	// b was imported again, and is wanted again.
	_, err = importTar(t, s, "b:1", (&Image{Layers: []Layer{Files(map[string]string{"base": "b"}), Files(map[string]string{"b": "b"})}}).MustBuild())
	must(t, err)
	gone, err := s.Prune(ctx, plan, nil)
	must(t, err)
	if len(gone.Images)+len(gone.Blobs)+len(gone.Layers) != 0 {
		t.Errorf("gone: %+v", gone)
	}
	clean(t, root, 7, 3)
	plan.Layers = append(plan.Layers, api.PrunedPart{Name: "../../blobs"})
	gone, err = s.Prune(ctx, plan, func(d string) bool { return d == b })
	must(t, err)
	if len(gone.Layers) != 0 {
		t.Errorf("gone: %+v", gone)
	}
}

func TestRemove(t *testing.T) {
	inUse := true
	s, _ := open(t, func(o *oci.Options) { o.InUse = func(string) bool { return inUse } })
	b := web().MustBuild()
	for _, name := range []string{"web:1", "web:2"} {
		_, err := importTar(t, s, name, b)
		must(t, err)
	}
	must(t, s.Remove(ctx, "web:1"))
	expectCode(t, s.Remove(ctx, "web:1"), api.CodeImageNotFound)
	expectCode(t, s.Remove(ctx, "web:2"), api.CodeImageInUse)
	expectCode(t, s.Remove(ctx, string(b.Digest)), api.CodeImageInUse)
	inUse = false
	must(t, s.Remove(ctx, "web:2"))
	_, err := s.Lookup(ctx, string(b.Digest))
	expectCode(t, err, api.CodeImageNotFound)
}

func TestVerifyFindsDamageAndEnsureMends(t *testing.T) {
	s, root := open(t)
	b := web().MustBuild()
	img, err := importTar(t, s, "web:1", b)
	must(t, err)
	found, err := s.Verify(ctx, false)
	if must(t, err); len(found) != 0 {
		t.Fatalf("found %+v in a healthy store", found)
	}
	layer := filepath.Join(root, "blobs/sha256", b.Manifest.Layers[1].Digest.Encoded())
	must(t, os.Chmod(layer, 0o600))
	must(t, os.WriteFile(layer, []byte("rot"), 0o600))
	must(t, os.RemoveAll(filepath.Dir(img.Layers[0])))
	found, err = s.Verify(ctx, true)
	must(t, err)
	if len(found) != 2 || found[0].Images[0] != img.Digest {
		t.Errorf("found %+v", found)
	}
	_, err = s.Lookup(ctx, "web:1")
	expectCode(t, err, api.CodeImageDamaged)
	_, err = importTar(t, s, "web:1", b)
	must(t, err)
	found, err = s.Verify(ctx, false)
	if must(t, err); len(found) != 0 {
		t.Errorf("still %+v", found)
	}
}

func TestDamagedManifestIsNeverGarbage(t *testing.T) {
	s, root := open(t, func(o *oci.Options) { o.InUse = func(string) bool { return true } })
	img, err := importTar(t, s, "web:1", web().MustBuild())
	must(t, err)
	name := filepath.Join(root, "blobs/sha256", strings.TrimPrefix(img.Digest, "sha256:"))
	must(t, os.Remove(name))
	must(t, os.WriteFile(name, []byte("{}"), 0o644))
	_, err = s.PlanPrune(ctx, nil, 0)
	expectCode(t, err, api.CodeImageDamaged)
}
