package runc

import (
	"context"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
)

// noFreezer is a service supervisor that does not answer.
type noFreezer struct{}

func (noFreezer) Freeze(context.Context, string, time.Duration) error { return down() }

func (noFreezer) Thaw(context.Context, string) error { return down() }

func down() error { return api.Errorf(api.CodeSupervisorDown, "systemd does not answer") }

func TestThawFails(t *testing.T) {
	r := &Runtime{Freezer: noFreezer{}}
	err := api.AsError(r.Thaw(t.Context(), "shop-db-0-abc"))
	if err == nil || err.Code != api.CodeFreezeFailed || err.Subject != "instance shop-db-0-abc" || err.Hint == "" {
		t.Errorf("%+v", err)
	}
}
