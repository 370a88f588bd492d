package daemon

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/ployz/ployz/node/api"
)

// The requests by which a machine that forms the store anew reaches the others: not over the store's bus, since there
// is none then. What they carry is in the request line, which the pass covers.
const (
	copyPath  = "/v1/store/copy"
	fencePath = "/v1/store/fence"
	movePath  = "/v1/store/generation"
)

// PeerStore is what a machine does for another one that forms the store anew.
type PeerStore interface {
	// Copy sums up this machine's copy of the facts.
	Copy(ctx context.Context) (any, error)
	// Fence leaves machines out of the mesh whatever the facts say, or lets them in again.
	Fence(ctx context.Context, gone []string, fenced bool) error
	// Move follows another generation, with the overlay address of its only voter; safe to repeat. Errors: participant.refused for one that is not newer.
	Move(ctx context.Context, generation uint64, voter netip.Addr) error
}

func moveQuery(generation uint64, voter netip.Addr) url.Values {
	return url.Values{"generation": {strconv.FormatUint(generation, 10)}, "voter": {voter.String()}}
}

func fenceQuery(gone []string, fenced bool) url.Values {
	return url.Values{"gone": gone, "fenced": {strconv.FormatBool(fenced)}}
}

func (p *PeerSurface) copy(w http.ResponseWriter, r *http.Request) {
	sum, err := p.Store.Copy(r.Context())
	writeJSON(w, sum, err)
}

func (p *PeerSurface) fence(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	fenced, err := strconv.ParseBool(q.Get("fenced"))
	if err != nil {
		err = api.Errorf(api.CodeBadRequest, "fenced: %w", err)
	} else {
		p.Log.Warn("machines are fenced off", "by", caller(r), "machines", q["gone"], "fenced", fenced)
		err = p.Store.Fence(r.Context(), q["gone"], fenced)
	}
	writeJSON(w, struct{}{}, err)
}

func (p *PeerSurface) move(w http.ResponseWriter, r *http.Request) {
	generation, voter, err := readMove(r.URL.Query())
	if err == nil {
		p.Log.Warn("moving to another generation of the store", "by", caller(r), "generation", generation, "voter", voter)
		err = p.Store.Move(context.WithoutCancel(r.Context()), generation, voter)
	}
	writeJSON(w, struct{}{}, err)
}

func readMove(q url.Values) (generation uint64, voter netip.Addr, err error) {
	if generation, err = strconv.ParseUint(q.Get("generation"), 10, 64); err == nil {
		voter, err = netip.ParseAddr(q.Get("voter"))
	}
	if err != nil {
		err = api.Errorf(api.CodeBadRequest, "the generation to move to: %w", err)
	}
	return generation, voter, err
}
