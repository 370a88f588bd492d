package coordination

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
)

// Bounds of the table of replies: a coordinator repeats a command within minutes or never.
const (
	mostReplies   = 1024
	mostReplySize = 64 << 10
)

// Replies remembers, on disk, how acting commands were answered, so that a repeated one gets the
// first answer and nothing is done twice, also across a restart. Each reply is a file of its own, named by the
// hash of what was asked; the oldest go when there are too many.
type Replies struct {
	dir string

	mu    sync.Mutex
	order []string // guarded by mu; names of files, the oldest first
}

// reply is one answer.
type reply struct {
	Body  json.RawMessage `json:"body,omitempty"`
	Error *api.Error      `json:"error,omitempty"`
}

// OpenReplies makes the folder, or reads which replies it holds. Errors: internal.error.
func OpenReplies(dir string) (*Replies, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, api.Errorf(api.CodeInternal, "making the folder of replies: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "reading the folder of replies: %w", err)
	}
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(written(a), written(b)) })
	r := &Replies{dir: dir}
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".json" {
			r.order = append(r.order, e.Name())
		}
	}
	return r, nil
}

// written is when a file was written; one that vanished meanwhile counts as the oldest.
func written(e fs.DirEntry) int64 {
	st, err := e.Info()
	if err != nil {
		return 0
	}
	return st.ModTime().UnixNano()
}

// replyName is the file for a command: by operation, step, verb, scope and body.
func replyName(cmd Command) string {
	h := sha256.New()
	for _, part := range []string{cmd.Operation, cmd.Step, cmd.Verb, cmd.Scope, string(cmd.Body)} {
		h.Write([]byte(itoa(uint64(len(part))) + ":" + part))
	}
	return hex.EncodeToString(h.Sum(nil)) + ".json"
}

// get returns the first answer to a command. One that cannot be read is as one that was forgotten.
func (r *Replies) get(name string) (reply, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found reply
	text, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil || json.Unmarshal(text, &found) != nil {
		return reply{}, false
	}
	return found, true
}

// keep remembers an answer durably.
func (r *Replies) keep(name string, answer reply) error {
	text, err := json.Marshal(answer)
	if err != nil {
		return api.Errorf(api.CodeInternal, "encoding a reply: %w", err)
	}
	if len(text) > mostReplySize {
		return nil // acting verbs answer briefly; one that does not is safe to repeat anyway
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := durable.WriteFile(filepath.Join(r.dir, name), text, 0o600); err != nil {
		return api.Errorf(api.CodeInternal, "writing a reply: %w", err)
	}
	r.order = append(slices.DeleteFunc(r.order, func(old string) bool { return old == name }), name)
	return r.trimLocked()
}

func (r *Replies) trimLocked() error {
	for len(r.order) > mostReplies {
		err := os.Remove(filepath.Join(r.dir, r.order[0]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return api.Errorf(api.CodeInternal, "removing an old reply: %w", err)
		}
		r.order = r.order[1:]
	}
	return nil
}

// memorable tells the answers that stay true: successes and refusals that were decided. A time-out, a
// defect, or what may pass when tried again is not an answer to remember.
func memorable(err error) bool {
	if err == nil {
		return true
	}
	var typed *api.Error
	if !errors.As(err, &typed) || typed.Retryable {
		return false
	}
	switch typed.Code {
	case api.CodeInternal, api.CodeCancelled, api.CodeParticipantSilent, api.CodeLeaseLost:
		return false
	}
	return true
}
