package natsstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// TestNewerGenerationIsSeen looks at a fresh mirror more than once, so that what was read of the
// cluster fact is remembered; a newer fact must count all the same.
func TestNewerGenerationIsSeen(t *testing.T) {
	s := natslab.Start(t).Open()
	ready(t, s)
	for _, generation := range []string{"1", "1", "2"} {
		mustPut(t, s, store.Cluster(), `{"generation":`+generation+`}`)
		mustPut(t, s, "state.other", generation)
		for range 2 {
			why := "a newer generation"
			for end := time.Now().Add(natslab.Patience); ; time.Sleep(5 * time.Millisecond) {
				f, err := s.View().Freshness(within(t, natslab.Patience))
				older := err == nil && strings.Contains(f.Why, "the cluster is at generation 2, this mirror at 1")
				if generation == "2" && older || generation == "1" && err == nil && f.Fresh {
					break
				}
				if why = f.Why; time.Now().After(end) {
					t.Fatalf("with the cluster at generation %s: %q, %v", generation, why, err)
				}
			}
		}
	}
}
