package oci_test

import (
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// TestNamesSpread: an image that comes from another machine gets the name that it was pushed under, also where it is
// already, unless a newer image has that.
func TestNamesSpread(t *testing.T) {
	from, _, _ := holder(t)
	to, _ := open(t)
	pushed, err := from.Lookup(ctx, "own:1")
	must(t, err)
	if pushed.Named.IsZero() || time.Since(pushed.Named) > time.Minute {
		t.Errorf("pushed at %s", pushed.Named)
	}
	byDigest := runtime.Pull{Peers: []runtime.Peer{&peer{blobs: from}}}
	_, err = to.Ensure(ctx, "own:1@"+pushed.Digest, byDigest)
	must(t, err)
	if _, err := to.Lookup(ctx, "own:1"); api.CodeOf(err) != api.CodeImageNotFound {
		t.Errorf("a name that nobody gave: %v", err)
	}
	named := byDigest
	named.Named = pushed.Named
	want := func(digest string, at time.Time) {
		t.Helper()
		if got, err := to.Lookup(ctx, "own:1"); err != nil || got.Digest != digest || !got.Named.Equal(at) {
			t.Errorf("own:1 is %s of %s, %v; want %s of %s", got.Digest, got.Named, err, digest, at)
		}
	}
	for range 2 { // it is there already
		_, err = to.Ensure(ctx, "own:1@"+pushed.Digest, named)
		must(t, err)
		want(pushed.Digest, pushed.Named)
	}
	changed := web()
	changed.Config.WorkingDir = "/newer"
	newer, err := importTar(t, to, "own:1", changed.MustBuild())
	must(t, err)
	again, err := to.Lookup(ctx, "own:1")
	must(t, err)
	_, err = to.Ensure(ctx, "own:1@"+pushed.Digest, named)
	must(t, err)
	want(newer.Digest, again.Named)
	named.Named = time.Now().Add(time.Minute)
	_, err = to.Ensure(ctx, "own:1@"+pushed.Digest, named)
	must(t, err)
	want(pushed.Digest, named.Named)
}
