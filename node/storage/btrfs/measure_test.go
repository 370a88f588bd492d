package btrfs

import (
	"bytes"
	"testing"

	"github.com/ployz/ployz/node/api"
)

// FuzzMeasure: what btrfs prints is measured or refused, and never believed about its lengths.
func FuzzMeasure(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("btrfs-stream\x00\x01\x00\x00\x00"))
	f.Add([]byte("btrfs-stream\x00\x01\x00\x00\x00\x0c\x00\x00\x00\x16\x00\x00\x00\x00\x00\x04\x00\x08\x00\x00\x00\x10\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		if _, err := measure(bytes.NewReader(stream)); err != nil && api.CodeOf(err) != api.CodeVolumePoolFailed {
			t.Fatal(err)
		}
	})
}
