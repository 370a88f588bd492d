package deploy_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/operation/optest"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// sending sends data of the shop to m2.
func (l *lab) sending(name string) operation.Operation {
	return deploy.NewSendVolume(l.kit, api.VolumeSendRequest{Namespace: "shop", Name: name, To: "m2"})
}

func sentOnce(t *testing.T, l *lab) {
	onTwo(t, l)
	must(t, l.pool.Write(l.volume(t, "data").ID, "one"))
	l.mustRun(t, l.sending("data"))
}

// sends are the breakages of a send: of a first one, and of one that brings the copy up to date.
func sends() map[string]optest.Case {
	return map[string]optest.Case{
		"volume.send":       on(onTwo, func(l *lab) operation.Operation { return l.sending("data") }),
		"volume.send/again": on(sentOnce, func(l *lab) operation.Operation { return l.sending("data") }),
	}
}

// TestBreakSends breaks sends everywhere.
func TestBreakSends(t *testing.T) {
	for name, c := range sends() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			optest.Exhaust(t, c)
		})
	}
}

// reads wants the copy on m2 to hold something, and to have just one snapshot.
func (l *lab) reads(t *testing.T, id, want string) {
	t.Helper()
	if got, err := l.far.Read(id, ""); err != nil || got != want {
		t.Errorf("the copy reads %q, %v, want %q", got, err, want)
	}
	if is, err := l.far.Inspect(t.Context(), id); err != nil || is.State != storage.StateKept {
		t.Errorf("the copy is %s, %v", is.State, err)
	}
	all, err := l.far.ListSnapshots(t.Context(), id)
	if c := l.volume(t, "data").Copies; err != nil || len(all) != 1 || len(c) != 1 || all[0].Name != c[0].Snapshot || all[0].GUID != c[0].GUID || len(all[0].Holds) != 0 {
		t.Errorf("it has %+v, %v, and the fact %+v", all, err, c)
	}
}

func TestSend(t *testing.T) {
	l := newLab(t)
	onTwo(t, l)
	id := l.volume(t, "data").ID
	must(t, l.pool.Write(id, "one"))
	l.pool.SetUsed(id, 5<<20)
	expectLines(t, lines(l.preview(t, l.sending("data"))), "create copy of data ("+id+"): as it is now on m1")
	out := l.mustRun(t, l.sending("data"))
	var result api.VolumeSendResult
	must(t, json.Unmarshal(out.Value, &result))
	if m := result.Move; result.ID != id || m.From != "m1" || m.To != "m2" || m.Bytes == 0 || len(m.Rounds) != 1 || result.Copy.GUID == "" || m.GUID != result.Copy.GUID {
		t.Errorf("the result is %+v", result)
	}
	l.reads(t, id, "one")
	if c := l.volume(t, "data").Copies[0]; c.Machine != "m2" || c.Reason != api.CopySent || c.Operation != out.Operation || !c.Since.Equal(l.clock.Now()) {
		t.Errorf("the fact has %+v", c)
	}
	// The next one brings it up to date, on top of the snapshot that both have, and both keep only the last.
	must(t, l.pool.Write(id, "two"))
	if text := strings.Join(lines(l.preview(t, l.sending("data"))), "\n"); !strings.HasPrefix(text, "update copy of data ("+id+"): with what changed since ") {
		t.Errorf("the plan is %s", text)
	}
	l.mustRun(t, l.sending("data"))
	l.reads(t, id, "two")
	own := slices.DeleteFunc(l.moments(t, id), func(name string) bool { return !strings.HasPrefix(name, "op-") })
	if len(own) != 1 || own[0] != l.volume(t, "data").Copies[0].Snapshot {
		t.Errorf("m1 has %v", own)
	}
	l.mustRun(t, l.prune())
	l.mustRun(t, l.sending("data")) // a prune leaves what the next one goes on top of
	l.reads(t, id, "two")
	l.mustRun(t, l.prune(at(id, "m2")))
	if left := l.far.World(); len(left) != 0 {
		t.Errorf("m2 has %v", left)
	}
}

// TestSendKept: also what lost its name is sent, and a rollback still finds what it left.
func TestSendKept(t *testing.T) {
	l := newLab(t)
	onTwo(t, l)
	id := l.volume(t, "data").ID
	l.mustRun(t, deploy.NewRemove(l.kit, "shop"))
	l.mustRun(t, l.sending(id))
	if v := l.anyVolume("data"); v.State != api.VolumeKept || len(v.Copies) != 1 {
		t.Errorf("the fact is %+v", v)
	}
	l.mustRun(t, deploy.NewRollbackWithVolumes(l.kit, "shop", 1))
	if got := l.volume(t, "data"); got.ID != id || len(got.Copies) != 1 {
		t.Errorf("back is %+v", got)
	}
}

func TestSendRefusals(t *testing.T) {
	l := newLab(t)
	onTwo(t, l)
	id := l.volume(t, "data").ID
	to := func(name string) operation.Operation {
		return deploy.NewSendVolume(l.kit, api.VolumeSendRequest{Namespace: "shop", Name: "data", To: name})
	}
	l.refused(t, to("m9"), api.CodeMachineAbsent, "no member", "ployzctl machine ls")
	l.refused(t, to("m1"), api.CodeVolumeThere, "the volume itself is on m1", "machine ls")
	l.refused(t, l.sending("nothing"), api.CodeVolumeNotFound, "no live volume nothing", "volume ls shop")
	l.refused(t, deploy.NewSendVolume(l.kit, api.VolumeSendRequest{Namespace: "shop", Name: "data", To: "m2", BytesPerSecond: -1}), api.CodeBadRequest, "-1 bytes", "")
	l.pool.SetUsed(id, 1<<50)
	l.refused(t, l.sending("data"), api.CodeVolumeNoSpace, "about 1024 TiB would arrive", "volume prune")
	l.pool.SetUsed(id, 0)
	two := l.two.Pool
	l.two.Pool = nil
	l.refused(t, l.sending("data"), api.CodeVolumePoolUnavailable, "no pool", "doctor")
	l.two.Pool = foreign{two}
	l.refused(t, l.sending("data"), api.CodeVolumeStreamForeign, "a stream of memory cannot be received into a pool of tape", "")
	l.two.Pool = two
	silent := l.kit.Participants.(both).silent
	*silent = true
	l.refused(t, l.sending("data"), api.CodeMachineSilent, "does not answer", "machine show m2")
	*silent = false
	if _, err := l.far.Ensure(t.Context(), storage.Spec{ID: id, Namespace: "shop", Name: "data"}); err != nil {
		t.Fatal(err)
	}
	l.refused(t, l.sending("data"), api.CodeVolumeNotKept, "is live", "")
}

// foreign is a pool of another kind of file system.
type foreign struct{ storage.Pool }

// Usage implements storage.Pool.
func (f foreign) Usage(ctx context.Context) (storage.Usage, error) {
	u, err := f.Pool.Usage(ctx)
	u.Backend = "tape"
	return u, err
}

// TestSendParted: a copy that went another way is not overwritten, and the way out is told.
func TestSendParted(t *testing.T) {
	l := newLab(t)
	sentOnce(t, l)
	id := l.volume(t, "data").ID
	_, err := l.far.Snapshot(t.Context(), "own", id)
	must(t, err)
	out := l.run(l.sending("data"))
	if out.Outcome != api.RolledBack || out.Error.Code != api.CodeVolumeBaseMissing || !strings.Contains(out.Error.Hint, "ployzctl volume prune shop --id "+id+" --machine m2") {
		t.Fatalf("%s %v, hint %q", out.Outcome, out.Error, hintOf(out.Error))
	}
	if got := l.moments(t, id); slices.ContainsFunc(got, func(name string) bool { return strings.Contains(name, out.Operation) }) {
		t.Errorf("it leaves %v", got)
	}
	l.mustRun(t, l.prune(at(id, "m2")))
	l.mustRun(t, l.sending("data"))
	l.reads(t, id, "one")
}

// TestSendGoesOn: what a try that broke off was sending is sent first by the next, and both keep only the last.
func TestSendGoesOn(t *testing.T) {
	l := newLab(t)
	sentOnce(t, l)
	id := l.volume(t, "data").ID
	must(t, l.pool.Write(id, "two"))
	_, err := l.pool.Snapshot(t.Context(), storage.OperationSnapshot("tried1", 0), id)
	must(t, err)
	must(t, l.pool.Write(id, "three"))
	out := l.mustRun(t, l.sending("data"))
	var result api.VolumeSendResult
	must(t, json.Unmarshal(out.Value, &result))
	if len(result.Move.Rounds) != 2 {
		t.Errorf("the result is %+v", result)
	}
	l.reads(t, id, "three")
	own := slices.DeleteFunc(l.moments(t, id), func(name string) bool { return !strings.HasPrefix(name, "op-") })
	if len(own) != 1 {
		t.Errorf("m1 has %v", own)
	}
}

// TestCloneHasNoCopies of its own.
func TestCloneHasNoCopies(t *testing.T) {
	l := newLab(t)
	sentOnce(t, l)
	l.mustRun(t, l.clone("data", "", "trial"))
	if c := l.volume(t, "trial").Copies; len(c) != 0 {
		t.Errorf("it has %v", c)
	}
	l.removeFact(t, store.Machine("m2"))
	l.mustRun(t, l.prune())
	if c := l.volume(t, "data").Copies; len(c) != 0 {
		t.Errorf("the machine left, and the fact has %v", c)
	}
}
