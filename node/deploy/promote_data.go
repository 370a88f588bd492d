package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
)

// inspectData looks at the branch's data sets: what comes with them, or what is left in the branch.
func (p *Promote) inspectData(ctx context.Context) error {
	all, err := readVolumes(ctx, p.kit.Facts, p.request.Branch)
	if err != nil {
		return err
	}
	p.written = map[string]string{}
	for _, v := range all {
		if v.State == api.VolumeLive {
			p.written[v.Name] = "; what " + p.request.Branch + " has of it comes with --with-data"
		}
	}
	return nil
}
