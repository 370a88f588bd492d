package volumes_test

import (
	"os"
	"testing"

	"github.com/ployz/ployz/node/nodetest/onemachine"
)

func TestMain(m *testing.M) {
	status := m.Run()
	onemachine.RemoveTools()
	os.Exit(status)
}
