package daemon

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"

	"github.com/ployz/ployz/node/api"
)

// StoreSurface is what the surface shows of the store itself.
type StoreSurface interface {
	// Report observes the voters; verify has every machine sum up its copy too.
	Report(ctx context.Context, verify bool) (api.StoreReport, error)
	// Backup writes the machine's own copy to a file, and says what is in it.
	Backup(ctx context.Context, to io.Writer) (api.BackupManifest, error)
}

// storeReport answers GET /v1/store?verify=.
func storeReport(r *http.Request, m *Member) (any, error) {
	if m.Store == nil {
		return nil, noStore()
	}
	return m.Store.Report(r.Context(), r.URL.Query().Get("verify") == "true")
}

// noStore is the answer of a daemon whose facts are in no store of machines, as in tests.
func noStore() error { return api.Errorf(api.CodeNotFound, "this daemon has no store to show") }

// ManifestHeader carries a backup's manifest, as JSON, beside the file.
const ManifestHeader = "Ployz-Manifest"

// backupStore answers GET /v1/store/backup. The file is finished before a byte of it is sent, so that one that
// failed is never taken for a backup.
func (a *API) backupStore(w http.ResponseWriter, r *http.Request) {
	m, err := a.needMember()
	if err == nil && m.Store == nil {
		err = noStore()
	}
	if err == nil {
		err = sendBackup(w, r, m)
	}
	if err != nil {
		writeError(w, err)
	}
}

// takeBackup answers POST /v1/store/backup.
func (a *API) takeBackup(r *http.Request) (any, error) {
	if a.TakeBackup == nil {
		return nil, noStore()
	}
	return a.TakeBackup(r.Body, r.URL.Query().Get("digest"))
}

func sendBackup(w http.ResponseWriter, r *http.Request, m *Member) error {
	spool, err := os.CreateTemp("", "ployz-backup-")
	if err != nil {
		return api.Errorf(api.CodeInternal, "a place for the backup: %w", err)
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	manifest, err := m.Store.Backup(r.Context(), spool)
	if err != nil {
		return err
	}
	text, err := json.Marshal(manifest)
	if err == nil {
		_, err = spool.Seek(0, io.SeekStart)
	}
	if err != nil {
		return api.Errorf(api.CodeInternal, "the backup: %w", err)
	}
	w.Header().Set(ManifestHeader, string(text))
	w.Header().Set("Content-Type", "application/octet-stream")
	io.Copy(w, spool) //nolint:errcheck // to a client that may be gone; it compares the digest
	return nil
}
