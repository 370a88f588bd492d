package deploy

import (
	"fmt"
	"time"

	"github.com/ployz/ployz/node/api"
)

// kept is what a prune leaves of a namespace's past, each with whose word it is.
type kept struct {
	commits  int
	volumes  time.Duration
	commitBy string
	volumeBy string
}

// Who says what is kept.
const (
	byDefault = "the default"
	bySpec    = "the spec's retention"
	byRequest = "as asked for now"
)

// keptBy decides what counts: what is asked for this once, else what the last commit's spec says, else the defaults. Who
// names one data set means it whenever it was kept.
func keptBy(spec *api.Retention, asked api.VolumePruneRequest) kept {
	k := kept{api.DefaultKeepCommits, api.DefaultKeepVolumes.D(0), byDefault, byDefault}
	if spec != nil && spec.Commits > 0 {
		k.commits, k.commitBy = spec.Commits, bySpec
	}
	if spec != nil && spec.Volumes > 0 {
		k.volumes, k.volumeBy = spec.Volumes.D(0), bySpec
	}
	if asked.KeepCommits > 0 {
		k.commits, k.commitBy = asked.KeepCommits, byRequest
	}
	switch {
	case asked.OlderThan != nil:
		k.volumes, k.volumeBy = asked.OlderThan.D(0), byRequest
	case asked.ID != "":
		k.volumes, k.volumeBy = 0, byRequest
	}
	return k
}

// first is the oldest commit that keeps its data, where head is the present one.
func (k kept) first(head int) int { return max(head-k.commits+1, 1) }

func (k kept) String() string {
	if k.commits == 1 {
		return fmt.Sprintf("only the present commit keeps its data (%s)", k.commitBy)
	}
	return fmt.Sprintf("the last %d commits keep their data (%s)", k.commits, k.commitBy)
}

// pastMoment names a snapshot: the data set's ID and the snapshot's name.
type pastMoment struct{ volume, snapshot string }

// neededMoments are the snapshots that a rollback with data to one of the commits from first on begins with: what a
// commit left is what the one after it took a snapshot of.
func neededMoments(commits []api.Commit, first int) map[pastMoment]bool {
	needed := map[pastMoment]bool{}
	for _, c := range commits {
		for _, v := range c.Volumes {
			if c.Number > first && v.Snapshot != "" {
				needed[pastMoment{v.SnapshotOf(), v.Snapshot}] = true
			}
		}
	}
	return needed
}
