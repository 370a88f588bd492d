package daemon

import (
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// TestUnreadable has facts that are not what their keys promise among others.
func TestUnreadable(t *testing.T) {
	good := []store.Fact{
		{Key: store.Cluster(), Value: []byte(`{"id":"c"}`)}, {Key: store.Machine("a"), Value: []byte(`{"id":"a","newer":1}`)},
		{Key: store.Config("x", "y"), Value: []byte(`{}`)},
	}
	bad := []store.Fact{
		{Key: store.Cluster(), Value: []byte(`{"voters":"m1"}`)}, {Key: store.Machine("b"), Value: []byte(`{"overlay":7}`)},
		{Key: store.Token("t"), Value: []byte(`[]`)}, {Key: store.Route("shop"), Value: []byte(`{"namespace":"other"}`)},
		{Key: store.Config("x", "z"), Value: []byte(`{`)},
		{Key: store.Config("x", "w"), Value: []byte(`7`)}, {Key: store.Head("shop"), Value: []byte(`{"commit":"1"}`)},
		{Key: store.Commit("shop", "1"), Value: []byte(`{"number":"1"}`)}, {Key: store.Volume("shop", "v"), Value: []byte(`[]`)},
		{Key: store.Branch("shop"), Value: []byte(`7`)}, {Key: store.LastPrune("shop"), Value: []byte(`7`)},
		{Key: store.Hostname("a.b"), Value: []byte(`7`)}, {Key: store.MachineName("m1"), Value: []byte(`7`)},
		{Key: store.SharedKey(), Value: []byte(`7`)}, {Key: store.Update(), Value: []byte(`7`)}, {Key: store.Open("cluster"), Value: []byte(`7`)},
	}
	list := unreadableOf(append(good, bad...))
	if len(list) != len(bad) {
		t.Fatalf("%v", list)
	}
	for i, e := range list {
		if e.Code != api.CodeStoreUnreadable || e.Subject != string(bad[i].Key) {
			t.Errorf("%v, want one about %s", e, bad[i].Key)
		}
	}
}

// TestRoomError tells which machine, how much it has and what to type.
func TestRoomError(t *testing.T) {
	for state, want := range map[string]string{
		api.RoomFull: "the disk of the store on m1 is full: /x has 3 MiB free and needs 32 MiB",
		api.RoomLow:  "the disk of the store on m1 is nearly full: /x has 3 MiB free, and below 32 MiB nothing is written there",
	} {
		e := roomError("m1", api.StoreRoom{Path: "/x", FreeBytes: 3 << 20, NeedsBytes: 32 << 20, State: state})
		if e.Code != api.CodeStoreDiskFull || e.Subject != "m1" || e.Message != want || e.Hint == "" {
			t.Errorf("%+v", e)
		}
	}
}
