package deploy_test

import (
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/storage"
)

// TestMigrateUnclaimed: a volume that no release asks for, made in advance or cloned, moves with its namespace, as it is.
// It is no part of the commit: the next deploy leaves its name alone.
func TestMigrateUnclaimed(t *testing.T) {
	l := newLab(t)
	onTwoWithSpare(t, l)
	was := l.volume(t, "spare")
	must(t, l.pool.Write(was.ID, "rows"))
	r := migrated(t, l.run(deploy.NewMigrate(l.kit, toM2(""))))
	if r.Volumes["spare"].To != "m2" || r.Volumes["data"].To != "m2" {
		t.Fatalf("it moved %+v", r.Volumes)
	}
	now := l.volume(t, "spare")
	if now.ID != was.ID || now.Machine != "m2" || now.SizeBytes != was.SizeBytes || now.Mode != was.Mode || now.Owner == nil || *now.Owner != *was.Owner {
		t.Errorf("it was %+v and is %+v", was, now)
	}
	if len(now.Copies) != 1 || now.Copies[0].Machine != "m1" || now.Copies[0].Reason != api.CopyMoved {
		t.Errorf("its copies are %+v", now.Copies)
	}
	expectStates(t, l, was.ID, storage.StateKept, storage.StateLive)
	if got := holds(t, l.far, was.ID, ""); got != "rows" {
		t.Errorf("it holds %q", got)
	}
	if _, is := l.current(t, "shop").Volumes["spare"]; is {
		t.Error("the commit has it")
	}
	l.mustRun(t, deploy.NewDeploy(l.kit, stateful("v2"), nil))
	if now := l.volume(t, "spare"); now.ID != was.ID || now.Machine != "m2" {
		t.Errorf("after a deploy it is %+v", now)
	}
	expectStates(t, l, was.ID, storage.StateKept, storage.StateLive)
}

// TestMigrateOnlyVolumes: where there is nothing but a volume, no commit could say where that is.
func TestMigrateOnlyVolumes(t *testing.T) {
	l := newLab(t)
	statefulRuns(t, l)
	l.pair(t)
	l.mustRun(t, deploy.NewCreateVolume(l.kit, api.VolumeCreateRequest{Namespace: "alone", Name: "x"}))
	l.refused(t, deploy.NewMigrate(l.kit, api.MigrateRequest{Namespace: "alone", To: "m2"}), api.CodeNamespaceAbsent,
		"nothing is deployed under that name that could move with the volume x", "ployzctl volume rm alone/x")
}
