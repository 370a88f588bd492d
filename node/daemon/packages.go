package daemon

import (
	"context"
	"io"
	"net/http"
	"os"

	"github.com/ployz/ployz/node/api"
)

// PackageShelf holds the appliance's own packages on this machine's disk.
type PackageShelf interface {
	// Take reads a package whole and keeps it. Errors: package.invalid.
	Take(ctx context.Context, from io.Reader) (api.Package, error)
	// Open returns the file of a package that is kept. Errors: package.not-found.
	Open(digest string) (*os.File, error)
}

// takePackage answers POST /v1/packages.
func (a *API) takePackage(r *http.Request, _ *Member) (any, error) {
	if a.Packages == nil {
		return nil, api.Errorf(api.CodeNotFound, "this daemon keeps no packages")
	}
	return a.Packages.Take(r.Context(), r.Body)
}

// sendPackage answers GET /v1/packages/{digest} for peers.
func (p *PeerSurface) sendPackage(w http.ResponseWriter, r *http.Request) {
	f, err := p.Packages.Open(r.PathValue("digest"))
	sendFile(w, r, f, err)
}
