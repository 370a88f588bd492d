package natsstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestFoundAndStart(t *testing.T) {
	start := time.Now()
	m := natslab.Start(t)
	t.Logf("from nothing to a fresh mirror: %s", time.Since(start))
	if err := m.Open().CheckSettings(within(t, natslab.Patience)); err != nil {
		t.Fatal(err)
	}
}
