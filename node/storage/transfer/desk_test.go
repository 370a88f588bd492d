package transfer_test

import (
	"context"
	"io"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/storagetest"
	"github.com/ployz/ployz/node/storage/transfer"
)

// desks are those of two machines, m1 with the near pool and m2 with the far one, which dials it. answers get what m1
// says of each call.
func (p pools) desks(t *testing.T) (m1, m2 *transfer.Desk, answers chan error) {
	m1, answers = &transfer.Desk{Pool: p.near}, make(chan error, 10)
	m2 = &transfer.Desk{Pool: p.far, Dial: func(_ context.Context, machine, operation, volume string) (io.ReadWriteCloser, error) {
		if machine != "m1" {
			return nil, api.Errorf(api.CodeMachineAbsent, "no member has that id").About(machine)
		}
		if err := m1.Check("m2", operation, volume); err != nil {
			return nil, err
		}
		l := dial(t)
		go func() {
			_, err := m1.Answer(t.Context(), "m2", operation, volume, l.sender)
			answers <- err
		}()
		return l.receiver, nil
	}}
	return m1, m2, answers
}

func testDesk(t *testing.T, p pools) {
	v, ctx := p.volume(t), t.Context()
	m1, m2, answers := p.desks(t)
	offer := storage.Offer{Operation: "op1", Volume: v.ID, Snapshot: "s2", To: "m2", Every: true}
	fetch := storage.Fetch{Operation: "op1", From: "m1", As: v.Spec, Snapshot: "s2"}
	try := func(f storage.Fetch) error { _, err := m2.Fetch(ctx, f, nil); return err }

	wantCode(t, try(fetch), api.CodeVolumeNotOffered)
	storagetest.Must(t, m1.Offer(ctx, offer))
	for name, f := range map[string]storage.Fetch{
		"by another operation": {Operation: "op2", From: "m1", As: v.Spec, Snapshot: "s2"},
		"another volume":       {Operation: "op1", From: "m1", As: storagetest.Spec("other"), Snapshot: "s2"},
	} {
		if err := try(f); api.CodeOf(err) != api.CodeVolumeNotOffered {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantCode(t, m1.Check("m3", "op1", v.ID), api.CodeVolumeNotOffered)
	if err := try(storage.Fetch{Operation: "op1", From: "m9", As: v.Spec, Snapshot: "s2"}); api.CodeOf(err) != api.CodeMachineAbsent {
		t.Error(err)
	}
	if err := try(storage.Fetch{Operation: "op1", From: "m1", Snapshot: "s2"}); api.CodeOf(err) != api.CodeVolumeInvalid {
		t.Error(err)
	}

	storagetest.Must(t, m1.Offer(ctx, offer)) // repeated, it is the same
	var told storage.Progress
	got, err := m2.Fetch(ctx, fetch, func(s storage.Progress) { told = s })
	storagetest.Must(t, err)
	storagetest.Must(t, <-answers)
	if len(got.Streams) != 2 || got.Snapshot != "s2" || told.Bytes != got.Bytes {
		t.Errorf("%+v, told %+v", got, told)
	}
	p.sameFiles(t, v, "s1", "s2")
	storagetest.Must(t, m1.Withdraw(ctx, "op2", v.ID)) // another operation's it is not
	storagetest.Must(t, try(fetch))
	storagetest.Must(t, <-answers)
	storagetest.Must(t, m1.Withdraw(ctx, "op1", v.ID))
	storagetest.Must(t, m1.Withdraw(ctx, "op1", v.ID))
	wantCode(t, try(fetch), api.CodeVolumeNotOffered)

	for code, o := range map[api.Code]storage.Offer{
		api.CodeVolumeNotFound:         {Operation: "op1", Volume: "nobody", Snapshot: "s2", To: "m2"},
		api.CodeVolumeSnapshotNotFound: {Operation: "op1", Volume: v.ID, Snapshot: "s9", To: "m2"},
	} {
		wantCode(t, m1.Offer(ctx, o), code)
	}
	none := &transfer.Desk{}
	wantCode(t, none.Offer(ctx, offer), api.CodeVolumePoolUnavailable)
	_, err = none.Fetch(ctx, fetch, nil)
	wantCode(t, err, api.CodeVolumePoolUnavailable)
}

// testDeskIsTakenAway: what goes out by an offer ends with it: withdrawn, or given to another operation.
func testDeskIsTakenAway(t *testing.T, p pools) {
	v, ctx := p.volume(t), t.Context()
	m1, m2, answers := p.desks(t)
	slow := storage.Offer{Operation: "op1", Volume: v.ID, Snapshot: "s2", To: "m2", Every: true, BytesPerSecond: mib / 4}
	fetch := storage.Fetch{Operation: "op1", From: "m1", As: v.Spec, Snapshot: "s2"}
	for name, take := range map[string]func() error{
		"withdrawn":         func() error { return m1.Withdraw(ctx, "op1", v.ID) },
		"forgotten":         func() error { return m1.ForgetFor(ctx, "op1", v.ID, "") },
		"another's offered": func() error { o := slow; o.Operation = "op2"; return m1.Offer(ctx, o) },
	} {
		storagetest.Must(t, m1.Offer(ctx, slow))
		taken := false
		_, err := m2.Fetch(ctx, fetch, func(storage.Progress) {
			if !taken {
				taken = true
				storagetest.Must(t, take())
			}
		})
		if api.CodeOf(err) != api.CodeVolumeTransferCut {
			t.Errorf("%s: %v", name, err)
		}
		wantCode(t, <-answers, api.CodeVolumeNotOffered)
		_, err = m2.Fetch(ctx, fetch, nil)
		wantCode(t, err, api.CodeVolumeNotOffered)
		p.clear(t, v.ID)
	}
}
