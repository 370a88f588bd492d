package daemon

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// listImages answers GET /v1/images?machine=; without a machine it is this one.
func listImages(r *http.Request, m *Member) (any, error) {
	if name := r.URL.Query().Get("machine"); name != "" && name != m.Machine {
		if m.Elsewhere == nil {
			return nil, api.Errorf(api.CodeNotFound, "the cluster has no machine of that name").About(name).WithHint("list them: ployzctl machine ls")
		}
		return askJSON[json.RawMessage](r.Context(), m, name, Ask{Method: http.MethodGet, Path: "/v1/images", Caller: caller(r)})
	}
	list, err := m.Images.List(r.Context())
	if err != nil {
		return nil, err
	}
	out := make([]api.ImageEntry, len(list))
	for i, e := range list {
		out[i] = api.ImageEntry(e)
	}
	return map[string][]api.ImageEntry{"images": out}, nil
}

// missingBlobs answers which of a client's blobs need to travel.
func missingBlobs(r *http.Request, m *Member) (any, error) {
	var have api.MissingBlobs
	if err := readJSON(r.Body, &have); err != nil {
		return nil, err
	}
	missing, err := m.Missing(have.Digests)
	return api.MissingBlobs{Digests: missing}, err
}

// importImage reads an archive from the request's body while it answers with progress.
func importImage(r *http.Request, m *Member, out *lines) error {
	out.last = func(e *api.Error) any { return api.ImportEvent{Error: e} }
	if err := http.NewResponseController(out.w).EnableFullDuplex(); err != nil {
		return api.Errorf(api.CodeInternal, "reading and answering at once: %w", err)
	}
	p := progress{out: out}
	image, err := m.Images.Import(r.Context(), r.URL.Query().Get("reference"), r.Body, p.show)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return out.write(api.ImportEvent{Image: &api.ImageEntry{
		References: []string{image.Reference}, Digest: image.Digest, Bytes: image.Bytes, Added: time.Now().UTC(),
	}})
}

// progress thins out and writes an import's progress.
type progress struct {
	out  *lines
	mu   sync.Mutex // guards out and last
	last time.Time
}

func (p *progress) show(part string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done != total && time.Since(p.last) < progressPause {
		return
	}
	p.last = time.Now()
	p.out.write(api.ImportEvent{Part: part, Done: done, Total: total}) // a client that is gone ends the body too
}

var _ Images = runtime.Images(nil)
