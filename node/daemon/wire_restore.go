package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store/natsstore"
)

// takeBackup keeps an uploaded backup for the operation that restores it, once it was read through and found whole.
// The operation takes it away again, however it ends.
func (d *Daemon) takeBackup(from io.Reader, digest string) (api.BackupManifest, error) {
	folder := d.host.path("restore")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return api.BackupManifest{}, api.Errorf(api.CodeInternal, "a place for the backup: %w", err)
	}
	spool, err := os.CreateTemp(folder, "upload-")
	if err != nil {
		return api.BackupManifest{}, api.Errorf(api.CodeInternal, "a place for the backup: %w", err)
	}
	defer spool.Close()
	kept := false
	defer func() {
		if !kept {
			d.dropBackup(spool.Name())
		}
	}()
	if _, err := io.Copy(spool, from); err != nil {
		return api.BackupManifest{}, api.Errorf(api.CodeInternal, "taking the backup: %w", err)
	}
	b, err := natsstore.OpenBackup(spool, digest)
	if err != nil {
		return api.BackupManifest{}, err
	}
	if err := os.Rename(spool.Name(), d.backupFile(b.Manifest.Digest)); err != nil {
		return api.BackupManifest{}, api.Errorf(api.CodeInternal, "keeping the backup: %w", err)
	}
	kept = true
	return manifestOf(b.Manifest, b.Manifest.Machine), nil
}

func manifestOf(m natsstore.Manifest, name string) api.BackupManifest {
	return api.BackupManifest{
		Cluster: m.Cluster, Generation: m.Generation, Machine: name, Taken: m.Taken, Facts: m.Facts.Messages,
		Entries: m.Ledger.Messages, Revision: uint64(m.Facts.Last), Digest: m.Digest,
	}
}

// dropBackup removes a backup, and the folder once it is the last: nothing stays of what is not restored.
func (d *Daemon) dropBackup(file string) {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.Log.Warn("an uploaded backup stays", "error", err)
	}
	_ = os.Remove(d.host.path("restore")) // fails while there is another
}

var backupDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (d *Daemon) backupFile(digest string) string {
	return d.host.path("restore", strings.TrimPrefix(digest, "sha256:"))
}

// archive is an uploaded backup: machine.Archive.
type archive struct {
	daemon *Daemon
	digest string
	opened *natsstore.Backup
	file   *os.File
}

func (a *archive) backup() (*natsstore.Backup, error) {
	if a.opened != nil {
		return a.opened, nil
	}
	if !backupDigest.MatchString(a.digest) {
		return nil, api.Errorf(api.CodeBadRequest, "%q is not a backup's digest", a.digest).About("digest")
	}
	file, err := os.Open(a.daemon.backupFile(a.digest))
	if errors.Is(err, os.ErrNotExist) {
		return nil, api.Errorf(api.CodeStoreBackupForeign, "no backup of that digest was uploaded").About(a.digest).
			WithHint("'ployzctl store restore FILE' and 'store repair KEY --from FILE' upload it")
	}
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "opening the backup: %w", err)
	}
	if a.opened, err = natsstore.OpenBackup(file, a.digest); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	a.file = file
	return a.opened, nil
}

// Open implements machine.Archive.
func (a *archive) Open(context.Context) (machine.Source, error) {
	b, err := a.backup()
	if err != nil {
		return machine.Source{}, err
	}
	contents, err := b.Contents()
	return machine.Source{
		Facts: contents, Machine: b.Manifest.Machine, Generation: b.Manifest.Generation, Digest: b.Manifest.Digest, Last: b.Manifest.Facts.Last, Taken: b.Manifest.Taken,
	}, err
}

// Fill implements machine.Archive.
func (a *archive) Fill(ctx context.Context, self machine.Identity) error {
	b, err := a.backup()
	if err != nil {
		return err
	}
	return a.daemon.fill(ctx, self, b)
}

// Close takes the backup away: another try uploads it again.
func (a *archive) Close() error {
	if backupDigest.MatchString(a.digest) {
		a.daemon.dropBackup(a.daemon.backupFile(a.digest))
	}
	if a.file != nil {
		return a.file.Close()
	}
	return nil
}

// fill fills the core that was founded on this machine, and makes its mirrors of it.
func (d *Daemon) fill(ctx context.Context, self machine.Identity, b *natsstore.Backup) error {
	opened, err := natsstore.Open(d.storeConfig(self))
	if err != nil {
		return err
	}
	defer opened.Close()
	if err := opened.Restore(ctx, b, self.Cluster); err != nil {
		return err
	}
	if err := opened.EnsureMirrors(ctx); err != nil {
		return err
	}
	return opened.CheckSettings(ctx)
}

// restoring is a restore with the backup that it takes away at its end.
type restoring struct {
	operation.Operation
	archive *archive
}

// Close implements io.Closer.
func (r restoring) Close() error { return r.archive.Close() }

// Result implements operation.Resulter.
func (r restoring) Result() any { return r.Operation.(operation.Resulter).Result() }

// newRestore forms the store anew from a backup: on a member, or on a machine that is in no cluster.
func (d *Daemon) newRestore(r api.RestoreRequest) operation.Operation {
	from := &archive{daemon: d, digest: r.Digest}
	if d.peering.Load() != nil {
		return restoring{machine.NewRewind(foundingFacts{d.founded.Facts(), d}, &refounder{daemon: d, archive: from}, r, time.Now), from}
	}
	return restoring{machine.NewRestore(d.host, foundingFacts{d.founded.Facts(), d}, from, r, time.Now), from}
}
