package deploy_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/store"
)

// pair is a cluster of two machines, by name.
type pair map[string]*deploy.Local

func (p pair) Participant(_ context.Context, name string) (deploy.Participant, error) {
	if l := p[name]; l != nil {
		return l, nil
	}
	return nil, api.Errorf(api.CodeMachineSilent, "%s does not answer", name)
}

// TestPushedNames: of what was pushed to two machines under one name the newest is deployed, every machine that runs it
// knows it by that name afterwards, and the machine that it was pushed to may be gone.
func TestPushedNames(t *testing.T) {
	l := newLab(t)
	l.put(t, store.Machine("m2"), machine.Member{ID: "m2", Name: "m2", Recipient: "age1test"})
	images := memruntime.NewImages()
	fences, err := coordination.OpenFences(filepath.Join(t.TempDir(), "fences.json"))
	if err != nil {
		t.Fatal(err)
	}
	run := memruntime.New()
	machines := pair{"m1": l.local, "m2": &deploy.Local{
		Runtime: run, Images: images, Network: run.Network.(*memruntime.Network), Console: run, Fences: fences,
		Subnet:  deploy.Subnet{V4: netip.MustParsePrefix("10.101.2.0/24"), V6: netip.MustParsePrefix("fd00:1:2:2::/64")},
		Machine: l.observe, Serving: l.serving, Steady: time.Nanosecond,
	}}
	l.kit.Participants = machines
	push := func(to *memruntime.Images, content string) runtime.Image {
		t.Helper()
		image, err := to.Import(t.Context(), "own:1", strings.NewReader(content), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []*memruntime.Images{l.images, images} {
			i.Serve("own:1", content, runtime.ImageConfig{}) // by digest, as other machines do
			i.Serve("own:1", "the registry's", runtime.ImageConfig{})
		}
		return image
	}
	push(l.images, "older")
	newest := push(images, "newest")
	spec := api.Spec{Namespace: "shop", Services: map[string]api.Service{"app": {Image: "own:1", Placement: api.Placement{Global: true}}}}
	l.mustRun(t, deploy.NewDeploy(l.kit, spec, nil))
	if got := l.current(t, "shop").Spec.Services["app"].Digest; got != newest.Digest {
		t.Errorf("deployed %s, the newest is %s", got, newest.Digest)
	}
	for name, m := range machines {
		if got, err := m.Resolve(t.Context(), deploy.Query{Reference: "own:1", Here: true}); err != nil || got.Digest != newest.Digest || !got.Named.Equal(newest.Named) {
			t.Errorf("%s knows %+v, %v", name, got, err)
		}
	}
	if _, err := l.store.Facts().Commit(t.Context(), store.Batch{ID: "gone", Puts: []store.Put{{Key: store.Machine("m2"), Remove: true}}}); err != nil {
		t.Fatal(err)
	}
	delete(machines, "m2")
	spec.Services["app"] = api.Service{Image: "own:1", Placement: api.Placement{Global: true}, Process: api.Process{Env: map[string]string{"A": "2"}}}
	l.mustRun(t, deploy.NewDeploy(l.kit, spec, nil))
	if got := l.current(t, "shop").Spec.Services["app"].Digest; got != newest.Digest {
		t.Errorf("afterwards %s is deployed", got)
	}
}
