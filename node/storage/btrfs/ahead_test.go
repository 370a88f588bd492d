package btrfs_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/storagetest"
)

// TestWritesAhead: what changed is committed while its stream still arrives.
func TestWritesAhead(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Btrfs)
	root := mounted(t)
	near, far, ctx := create(t, mounted(t)), create(t, root), t.Context()
	v, err := near.Ensure(ctx, storagetest.Spec("data"))
	storagetest.Must(t, err)
	streamed := func(base, name string) []byte {
		storagetest.Must(t, os.WriteFile(filepath.Join(v.Path, name), make([]byte, 4<<20), 0o600))
		_, err := near.Snapshot(ctx, name, v.ID)
		storagetest.Must(t, err)
		var stream bytes.Buffer
		storagetest.Must(t, near.Send(ctx, storage.From{Volume: v.ID, Snapshot: name, Base: base}, &stream))
		return stream.Bytes()
	}
	_, err = far.Receive(ctx, v.Spec, bytes.NewReader(streamed("", "s1")))
	storagetest.Must(t, err)
	r, w := io.Pipe()
	received := make(chan error, 1)
	go func() {
		_, err := far.Receive(ctx, v.Spec, r)
		received <- err
	}()
	stream, pieces := streamed("s1", "s2"), 4
	for i := range pieces {
		before := commits(t, root)
		_, err = w.Write(stream[i*len(stream)/pieces : (i+1)*len(stream)/pieces])
		storagetest.Must(t, err)
		// By itself the kernel commits every 30 s.
		for deadline := time.Now().Add(10 * time.Second); i < pieces-1 && commits(t, root) == before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no commit after piece %d", i+1)
			}
		}
	}
	w.Close()
	storagetest.Must(t, <-received)
	for _, p := range []storage.Pool{near, far} {
		storagetest.Destroy(t, p, v.ID)
	}
}

// commits is how often a file system has committed, which its kernel counts.
func commits(t *testing.T, root string) int {
	t.Helper()
	said, err := exec.Command("btrfs", "filesystem", "show", root).Output()
	storagetest.Must(t, err)
	id := regexp.MustCompile(`uuid: (\S+)`).FindSubmatch(said)
	if id == nil {
		t.Fatalf("no id in %s", said)
	}
	stats, err := os.ReadFile(filepath.Join("/sys/fs/btrfs", string(id[1]), "commit_stats"))
	storagetest.Must(t, err)
	n, err := strconv.Atoi(string(regexp.MustCompile(`commits (\d+)`).FindSubmatch(stats)[1]))
	storagetest.Must(t, err)
	return n
}
