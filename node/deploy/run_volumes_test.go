package deploy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/memruntime"
)

func (l *lab) runs(service string, edit func(*api.RunRequest)) operation.Operation {
	r := api.RunRequest{Namespace: "shop", Service: service, Command: []string{"check"}}
	if edit != nil {
		edit(&r)
	}
	return deploy.NewRun(l.kit, r)
}

// TestRunMounts: a command that is run once sees its service's volumes where they are, and writes none that is written.
func TestRunMounts(t *testing.T) {
	l := newLab(t)
	two, silent := l.second(t)
	statefulRuns(t, l)
	var mounts []string
	program := func(s runtime.Spec) memruntime.Program {
		if strings.Contains(s.ID, "-run-") {
			mounts = nil
			for _, m := range s.Mounts {
				mounts = append(mounts, fmt.Sprint(m.Volume, " ", m.Target, " ", m.ReadOnly))
			}
			return memruntime.Program{Ends: true}
		}
		return memruntime.Program{Ends: s.Job}
	}
	l.runtime.Program, two.Program = program, program
	id := func(name string) string { return l.volume(t, name).ID }
	write := func(r *api.RunRequest) { r.WriteVolumes = true }
	slot := func(r *api.RunRequest) { r.Slot = "app-0" }

	l.mustRun(t, l.runs("db", nil))
	expectLines(t, mounts, id("data")+" /var/lib/db true")
	l.refused(t, l.runs("db", write), api.CodeVolumeInUse, "db-0 writes the volume data", "ployzctl service scale shop/db 0")
	l.refused(t, l.runs("app", nil), api.CodeVolumeSlot, "the volume cache is one for each slot", "--slot: app-0, app-1")
	l.refused(t, l.runs("app", func(r *api.RunRequest) { r.Slot = "db-0" }), api.CodeVolumeSlot, `no slot "db-0"`, "service show shop/app")
	l.mustRun(t, l.runs("web", write)) // which only reads
	expectLines(t, mounts, id("uploads")+" /srv/uploads true")
	if cache, uploads := l.volume(t, "cache.app-0"), l.volume(t, "uploads"); cache.Machine == uploads.Machine {
		l.mustRun(t, l.runs("app", slot))
		expectLines(t, mounts, uploads.ID+" /srv/uploads true", cache.ID+" /cache true")
	}
	l.mustRun(t, deploy.NewScale(l.kit, "shop", "db", 0))
	l.mustRun(t, l.runs("db", write))
	expectLines(t, mounts, id("data")+" /var/lib/db false")
	if l.volume(t, "data").Machine == "m2" {
		*silent = true
		l.refused(t, l.runs("db", nil), api.CodeNoMachine, "m2", "")
	}
}

// TestRunWithoutItsVolume: what is not there is not made by a run.
func TestRunWithoutItsVolume(t *testing.T) {
	l := newLab(t)
	s := stateful("v1")
	edit(&s, "db", func(s *api.Service) { s.Placement.Zero = true })
	l.mustRun(t, deploy.NewDeploy(l.kit, s, nil))
	l.refused(t, l.runs("db", nil), api.CodeVolumeNotFound, "no live volume data", "ployzctl volume ls shop")
}
