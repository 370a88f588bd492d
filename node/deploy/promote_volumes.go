package deploy

import (
	"context"

	"github.com/ployz/ployz/node/api"
)

// inspectOrigins looks at the branch's data sets: with data each becomes what the target's begins as, else the plan says
// what is left in the branch.
func (p *Promote) inspectOrigins(ctx context.Context) error {
	p.written = map[string]string{}
	if p.request.WithData {
		if err := p.beginAs(ctx, *p.branch.commit); err != nil {
			return err
		}
		p.besidePresent()
		return nil
	}
	for name := range p.branch.commit.Volumes {
		p.written[name] = "; what " + p.request.Branch + " has of it comes with --with-data"
	}
	return nil
}

// besidePresent refuses what comes where it could not change places with the target's present data, and says what
// becomes of that.
func (p *Promote) besidePresent() {
	for _, v := range p.volumes {
		if v.State != api.VolumeLive {
			continue
		}
		comes, there := p.back[v.Name]
		if !there {
			p.written[v.Name] = "; " + p.request.Branch + " has none of that name"
			continue
		}
		p.written[v.Name] = "; what was written to that one since the branch began is not in what comes"
		if comes.err == nil {
			comes.err = p.besideProblem(v, comes.of)
			p.back[v.Name] = comes
		}
	}
}

// besideProblem is why the data set of a name that the target has cannot give way to the branch's, or nil.
func (p *Promote) besideProblem(now, comes volumeFact) *api.Error {
	var err api.Error
	silent := p.unreachable(now.Machine)
	switch {
	case now.Machine != comes.Machine:
		err = *api.Errorf(api.CodeVolumeLineage, "that of %s is on %s, and the present one on %s: a clone is made where its origin is", p.request.Branch, comes.Machine, now.Machine).
			WithHint("bring them together: ployzctl migrate %s --from %s --to %s; or promote without --with-data", p.request.Branch, comes.Machine, now.Machine)
	case silent != nil:
		err = *silent
	case p.inPool(now.Machine, now.ID) == nil:
		err = *api.Errorf(api.CodeVolumeLineage, "the present one, %s, is not in the pool of %s and so could not be kept", now.ID, now.Machine).
			WithHint("look for it (ployzctl volume show %s), or promote without --with-data", now.ID)
	default:
		return nil
	}
	return err.About("volumes." + now.Name)
}
