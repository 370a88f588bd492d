package daemon_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/daemon"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
	"github.com/ployz/ployz/node/store/memstore"
)

// pruner prunes every image of a memruntime.
type pruner struct{ *memruntime.Images }

func (p pruner) PlanPrune(ctx context.Context, _ time.Duration) (api.PrunePlan, error) {
	list, err := p.List(ctx)
	var plan api.PrunePlan
	for _, e := range list {
		plan.Images = append(plan.Images, api.PrunedImage{Digest: e.Digest, References: e.References})
	}
	return plan, err
}

func (p pruner) Prune(ctx context.Context, plan api.PrunePlan) (api.PrunePlan, error) {
	for _, i := range plan.Images {
		if err := p.Remove(ctx, i.References[0]); err != nil {
			return plan, err
		}
	}
	return plan, nil
}

// imageCase breaks one image operation on a machine that has app:v1 and a registry with app:v2.
func imageCase(kind string, request any) optest.Case {
	return optest.Case{New: func(t *testing.T) *optest.World {
		images, clock := memruntime.NewImages(), optest.NewClock()
		images.Serve("app:v1", "one", runtime.ImageConfig{})
		images.Serve("app:v2", "two", runtime.ImageConfig{})
		if _, err := images.Ensure(t.Context(), "app:v1", runtime.Pull{}); err != nil {
			t.Fatal(err)
		}
		s := memstore.New(memstore.Config{Clock: clock.Now})
		kinds := daemon.ImageKinds(daemon.ImageKit{Facts: s.Facts(), Images: images, Pruner: pruner{images}, Machine: "m1"})
		return &optest.World{
			Store: s, Clock: clock,
			// An image that was fetched before a pull broke is not taken back: it is a copy, and the
			// next prune takes it. So for a pull only what it promises in the end is compared.
			Snapshot: func() string {
				if kind == api.KindImagePull {
					return ""
				}
				return strings.Join(images.World(), "\n")
			},
			Operation: func() operation.Operation {
				text, err := json.Marshal(request)
				if err != nil {
					t.Fatal(err)
				}
				op, _, err := kinds[kind](text)
				if err != nil {
					t.Fatal(err)
				}
				return op
			},
		}
	}}
}

func TestBreakImageOperations(t *testing.T) {
	for kind, request := range map[string]any{
		api.KindImagePull:   api.ImagePullRequest{Reference: "app:v2"},
		api.KindImageRemove: api.ImageRemoveRequest{Reference: "app:v1"},
		api.KindImagePrune:  api.ImagePruneRequest{},
	} {
		t.Run(kind, func(t *testing.T) { optest.Exhaust(t, imageCase(kind, request)) })
	}
}
