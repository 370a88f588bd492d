package deploy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// backReason says where the data comes from that a volume is given back, and what becomes of the present one.
func (c *change) backReason(d dataset) string {
	p := d.back
	reason := "as " + p.of.Namespace + "/" + p.of.Name + " (" + p.of.ID + ") is now"
	if !p.fresh {
		reason = fmt.Sprintf("as commit %d left it: a clone of %s of %s (%s, guid %s)",
			p.commit, p.snapshot.Name, p.of.ID, p.snapshot.Created.UTC().Format(time.RFC3339), p.snapshot.GUID)
	}
	if d.out == nil {
		return reason
	}
	return reason + fmt.Sprintf("; the present one, %s, which holds %s, is kept, and comes back with: ployzctl rollback %s --to %d --with-data",
		d.out.ID, storage.SizeText(d.outSeen.UsedBytes), c.ns, c.now.head.Commit)
}

// pastProblems are why the data of an earlier commit cannot be given back.
func (c *change) pastProblems() []*api.Error {
	var errs []*api.Error
	for _, name := range slices.Sorted(maps.Keys(c.back)) {
		if err := c.back[name].err; err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// backContent is what the plan's digest covers of the data that comes back.
func (d dataset) backContent() string {
	if d.back == nil {
		return ""
	}
	text := " as " + d.back.of.ID + " is now"
	if !d.back.fresh {
		text = " as " + d.back.of.ID + "@" + d.back.snapshot.Name + " " + d.back.snapshot.GUID
	}
	if d.out != nil {
		text += " for " + d.out.ID
	}
	return text
}

// findWritten notes, for a rollback that leaves the data, which volumes were written since the commit was left.
func (r *Rollback) findWritten(ctx context.Context, commit api.Commit) error {
	r.written = map[string]string{}
	unwritten := maps.Clone(commit.Volumes)
	for n := commit.Number + 1; n <= r.now.head.Commit && len(unwritten) > 0; n++ {
		since, err := ReadCommit(ctx, r.kit.Facts, r.ns, n)
		if err != nil {
			return err
		}
		for name, had := range unwritten {
			r.written[name] = "; nobody wrote it since commit " + strconv.Itoa(commit.Number) + " was left"
			if is, there := since.Volumes[name]; there && (is.ID != had.ID || mayWrite(since.Spec, name)) {
				r.written[name] = "; commit " + strconv.Itoa(commit.Number) + " left it otherwise, and it is given back so with --with-data"
				delete(unwritten, name)
			}
		}
	}
	return nil
}

// mayWrite reports whether any service of a spec mounts a data set to write it.
func mayWrite(spec api.Spec, dataset string) bool {
	for _, s := range spec.Services {
		for _, m := range s.Mounts {
			if m.Volume == volumeOf(dataset) && !m.ReadOnly {
				return true
			}
		}
	}
	return false
}
