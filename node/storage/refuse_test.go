package storage_test

import (
	"strings"
	"testing"

	"github.com/ployz/ployz/node/storage"
)

// TestSizesInWords: a refusal's two sizes are never told by the same words.
func TestSizesInWords(t *testing.T) {
	for used, want := range map[int64]string{
		3 << 29:     "holds 1.5 GiB and cannot be limited to 1 GiB",
		1<<30 + 1:   "holds 1073741825 bytes and cannot be limited to 1073741824",
		1025 << 20:  "holds 1074790400 bytes and cannot be limited to 1073741824",
		2000 << 30:  "holds 2 TiB and cannot be limited to 1 GiB",
		1<<30 - 100: "",
	} {
		err := storage.CheckShrink(storage.Spec{ID: "v", Namespace: "shop", Name: "data", SizeBytes: 1 << 30}, used)
		if got := text(err); want == "" && err != nil || !strings.Contains(got, want) {
			t.Errorf("%d: %q, want %q", used, got, want)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
