package deploy_test

import (
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
)

// TestMigrateSetsFree: where clones depend on their origin, what a rollback with data went back to stays as long as the
// volume that began as it. What arrives on another machine began as nothing: then all that the old one has can go.
func TestMigrateSetsFree(t *testing.T) {
	l := newLab(t)
	l.pool.ClonesDepend = true
	statefulTwice(t, l)
	l.pair(t)
	was := l.volume(t, "data").ID
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 0))
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v2"), nil)) // the next commit lets go what the one before it had
	now := l.volume(t, "data").ID
	lastOnly := func(r *api.VolumePruneRequest) { r.KeepCommits = 1 }
	l.refused(t, l.prune(only(was), lastOnly), api.CodeVolumeSnapshotNeeded, now+" began as it", "ployzctl volume show "+was)
	t.Log(l.pool.World())
	l.mustRun(t, deploy.NewMigrate(l.kit, toM2("db")))
	for range 2 { // what a copy depends on goes with the prune after the copy's
		l.mustRun(t, l.prune(lastOnly))
	}
	if left := about(l.pool.World(), "data"); len(left) != 0 {
		t.Errorf("m1 has %q", left)
	}
	if now := l.volume(t, "data"); now.Machine != "m2" || now.State != api.VolumeLive {
		t.Errorf("data is %+v", now)
	}
}
