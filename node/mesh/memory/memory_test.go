package memory_test

import (
	"testing"

	"github.com/ployz/ployz/node/mesh/memory"
	"github.com/ployz/ployz/node/mesh/meshtest"
)

func TestConformance(t *testing.T) {
	meshtest.Run(t, func(*testing.T) meshtest.World {
		d := &memory.Device{}
		return meshtest.World{Device: d, Port: 51820, Vanish: d.Vanish}
	})
}
