package coordination

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Fences remembers the highest fence a participant has seen per scope, on disk, so that a
// coordinator that lost its lease cannot act through it, not even after a restart.
type Fences struct {
	path string

	mu   sync.Mutex // guards high
	high map[string]store.Revision
}

// OpenFences reads the file, or starts empty when there is none. One that cannot be read is an error: starting
// empty would let in whom it had shut out. Errors: internal.error.
func OpenFences(path string) (*Fences, error) {
	f := &Fences{path: path, high: map[string]store.Revision{}}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "reading the fences: %w", err)
	}
	if err := json.Unmarshal(text, &f.high); err != nil {
		return nil, damaged(path, err.Error())
	}
	if f.high == nil { // the text was "null"
		return nil, damaged(path, "it holds no fences")
	}
	return f, nil
}

func damaged(path, why string) error {
	return api.Errorf(api.CodeInternal, "the fences are damaged: %s", why).About(path).
		WithHint("when no operation runs (ployzctl operation ls), remove %s and start ployzd again", path)
}

// Admit lets a command through whose fence is at least the highest seen, and remembers it
// before it returns. Errors: operation.lease-lost.
func (f *Fences) Admit(scope string, fence store.Revision) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.high[scope]
	if fence < seen {
		return api.Errorf(api.CodeLeaseLost, "fence %d is older than %d: another coordinator took over", fence, seen).About(scope)
	}
	if fence == seen {
		return nil
	}
	f.high[scope] = fence
	if err := f.save(); err != nil {
		f.high[scope] = seen
		return err
	}
	return nil
}

func (f *Fences) save() error {
	text, err := json.MarshalIndent(f.high, "", "  ")
	if err != nil {
		return api.Errorf(api.CodeInternal, "encoding the fences: %w", err)
	}
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return api.Errorf(api.CodeInternal, "writing the fences: %w", err)
	}
	if err := durable.WriteFile(f.path, text, 0o600); err != nil {
		return api.Errorf(api.CodeInternal, "writing the fences: %w", err)
	}
	return nil
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
