package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// backupFormat changes when the file's layout does. Version 1 holds nats-server's own snapshots of
// both streams, as its 2.15 writes them.
const backupFormat = 1

// Manifest says what a backup holds.
type Manifest struct {
	Format int `json:"format"`
	// Cluster is the cluster's id, Generation the one of the streams that were copied.
	Cluster    string    `json:"cluster"`
	Generation uint64    `json:"generation"`
	Machine    string    `json:"machine"` // whose mirror it is
	Taken      time.Time `json:"taken"`
	Facts      Copy      `json:"facts"`
	Ledger     Copy      `json:"ledger"`
	// Digest is of the whole file. An operator who keeps it elsewhere can tell a file that was
	// changed on purpose; one that was cut short or damaged is found without.
	Digest string `json:"digest,omitempty"`
}

// Copy is one stream in a backup.
type Copy struct {
	Last     store.Revision `json:"last"`
	Messages uint64         `json:"messages"`
	Bytes    int64          `json:"bytes"` // of the snapshot
}

// snapshotSilence is how long the edge may say nothing amid a snapshot.
const snapshotSilence = 10 * time.Second

// Backup writes both streams as this machine's own mirror has them, also when no core answers. The
// cluster's id is the caller's to know. The file is good only if no error is returned; OpenBackup tells.
// Errors: store.unavailable (the edge), or w's own.
func (s *Store) Backup(ctx context.Context, w io.Writer, cluster string) (Manifest, error) {
	m := Manifest{Format: backupFormat, Cluster: cluster, Generation: s.cfg.Generation, Machine: s.cfg.Machine, Taken: time.Now().UTC()}
	file, err := newSealedWriter(w)
	if err != nil {
		return m, err
	}
	for _, part := range []struct {
		name, stream string
		copy         *Copy
	}{
		{partFacts, natsconf.FactsStream(m.Generation), &m.Facts}, {partLedger, natsconf.LedgerStream(m.Generation), &m.Ledger},
	} {
		*part.copy, err = s.edge.download(ctx, part.stream, func(chunk []byte) error { return file.entry(part.name, chunk) })
		if err != nil {
			return m, err
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return m, err
	}
	if err := file.entry(partManifest, text); err != nil {
		return m, err
	}
	m.Digest, err = file.seal()
	return m, err
}

// download has the server take a checked snapshot of a stream, and hands its bytes out as they come.
func (l *link) download(ctx context.Context, stream string, each func([]byte) error) (Copy, error) {
	var c Copy
	if l == nil {
		return c, unavailable("stream "+stream, errNotConfigured)
	}
	in, err := l.nc.SubscribeSync(l.nc.NewInbox())
	if err != nil {
		return c, unavailable("stream "+stream, err)
	}
	defer in.Unsubscribe() //nolint:errcheck // fails only with the connection
	if err := in.SetPendingLimits(-1, -1); err != nil {
		return c, err
	}
	var reply struct {
		State struct {
			Messages uint64 `json:"messages"`
			LastSeq  uint64 `json:"last_seq"`
		} `json:"state"`
	}
	body := map[string]any{"deliver_subject": in.Subject, "no_consumers": true, "jsck": true, "chunk_size": 128 << 10}
	if err := l.call(ctx, "$JS.API.STREAM.SNAPSHOT."+stream, body, &reply); err != nil {
		return c, unavailable("a snapshot of "+stream, err)
	}
	c.Last, c.Messages = store.Revision(reply.State.LastSeq), reply.State.Messages
	c.Bytes, err = chunks(ctx, in, each)
	return c, err
}

// chunks hands out a snapshot's parts and acknowledges them. The last message has none.
func chunks(ctx context.Context, in *nats.Subscription, each func([]byte) error) (int64, error) {
	var total int64
	for {
		waiting, cancel := context.WithTimeout(ctx, snapshotSilence)
		m, err := in.NextMsgWithContext(waiting)
		cancel()
		if err != nil {
			return total, unavailable("the snapshot", errors.Join(err, ctx.Err()))
		}
		if len(m.Data) == 0 {
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return total, unavailable("the snapshot", fmt.Errorf("%s %s", status, m.Header.Get("Description")))
			}
			return total, nil
		}
		if err := each(m.Data); err != nil {
			return total, err
		}
		total += int64(len(m.Data))
		if m.Reply != "" {
			if err := m.Respond(nil); err != nil {
				return total, unavailable("the snapshot", err)
			}
		}
	}
}

// Backup is a backup's file that was read through and found whole.
type Backup struct {
	Manifest Manifest
	file     io.ReadSeeker
}

// OpenBackup reads a backup through and checks it against its own digest, and against the one that
// the operator has, unless that is "". Nothing is done with it before. The file must stay as it is
// until it was restored: Restore reads it again, and checks again.
//
// Errors: store.backup-damaged, store.backup-foreign (no backup of this version).
func OpenBackup(file io.ReadSeeker, digest string) (*Backup, error) {
	b := &Backup{file: file}
	found := Manifest{}
	sum, err := b.read(func(part string, chunk []byte) error {
		switch part {
		case partFacts:
			found.Facts.Bytes += int64(len(chunk))
		case partLedger:
			found.Ledger.Bytes += int64(len(chunk))
		case partManifest:
			return json.Unmarshal(chunk, &b.Manifest)
		default:
			return fmt.Errorf("a part called %q", part)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case b.Manifest.Format != backupFormat:
		return nil, foreign("its format is %d, this version reads %d", b.Manifest.Format, backupFormat)
	case found.Facts.Bytes != b.Manifest.Facts.Bytes || found.Ledger.Bytes != b.Manifest.Ledger.Bytes:
		return nil, damaged(errors.New("its parts have other sizes than its manifest says"))
	case digest != "" && digest != sum:
		return nil, damaged(fmt.Errorf("its digest is %s, not %s", sum, digest))
	}
	b.Manifest.Digest = sum
	return b, nil
}

// read goes through the file from its beginning and returns its digest once that was checked.
func (b *Backup) read(each func(part string, chunk []byte) error) (string, error) {
	if _, err := b.file.Seek(0, io.SeekStart); err != nil {
		return "", damaged(err)
	}
	return readSealed(b.file, each)
}

// part gives one stream's snapshot as a reader. It fails at the end if the file is not what it was.
func (b *Backup) part(name string) io.ReadCloser {
	out, in := io.Pipe()
	go func() {
		sum, err := b.read(func(part string, chunk []byte) error {
			if part != name {
				return nil
			}
			_, err := in.Write(chunk)
			return err
		})
		if err == nil && sum != b.Manifest.Digest {
			err = damaged(errors.New("the file changed since it was opened"))
		}
		in.CloseWithError(err)
	}()
	return out
}

func damaged(cause error) error {
	var typed *api.Error
	if errors.As(cause, &typed) {
		return cause
	}
	e := api.Errorf(api.CodeStoreBackupDamaged, "the backup cannot be used: %w", cause)
	return e.WithHint("use another copy of the backup; nothing was changed")
}

func foreign(format string, args ...any) error {
	e := api.Errorf(api.CodeStoreBackupForeign, "not a backup for here: "+format, args...)
	return e.WithHint("use a backup of this cluster, made by this version")
}
