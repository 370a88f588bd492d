package deploy

import "github.com/ployz/ployz/node/api"

// VolumeID is the id of what an operation makes, for tests that make what one left.
var VolumeID = volumeID

// NewHeldDeploy is a deploy for which the gateways hold requests to some services.
func NewHeldDeploy(kit Kit, spec api.Spec, services ...string) *Deploy {
	d := NewDeploy(kit, spec, nil)
	d.hold = services
	return d
}
