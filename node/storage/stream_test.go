package storage_test

import (
	"bytes"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

func TestHeaderIsReadAsWritten(t *testing.T) {
	want := storage.Header{Backend: "btrfs", Snapshot: "c-12", GUID: "abc", BaseGUID: "def", Resumed: true}
	var b bytes.Buffer
	if err := want.Write(&b); err != nil {
		t.Fatal(err)
	}
	b.WriteString("what follows")
	got, err := storage.ReadHeader(&b, "btrfs")
	if err != nil || got != want || b.String() != "what follows" {
		t.Fatalf("%+v, %v, then %q", got, err, b.String())
	}
}

// FuzzReadHeader: whatever a peer sends, it is a header or a typed refusal, and little of it is read.
func FuzzReadHeader(f *testing.F) {
	for _, s := range []string{"", "ployz volume 1\n", "ployz volume 1\n\x00\x00\x00\x02{}", "ployz volume 1\n\xff\xff\xff\xff{",
		"ployz volume 1\n\x00\x00\x00\x30{\"backend\":\"btrfs\",\"snapshot\":\"../x\",\"guid\":\"1\"}  "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		h, err := storage.ReadHeader(bytes.NewReader(stream), "btrfs")
		switch code := api.CodeOf(err); {
		case err == nil && (h.Backend != "btrfs" || h.GUID == "" || storage.CheckName("snapshot", h.Snapshot) != nil):
			t.Fatalf("taken: %+v", h)
		case err != nil && code != api.CodeVolumeStreamDamaged && code != api.CodeVolumeStreamForeign:
			t.Fatalf("%v", err)
		}
	})
}
