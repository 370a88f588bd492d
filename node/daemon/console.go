package daemon

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/store"
)

// logs answers GET /v1/logs?namespace=&service=&instance=&lines=&since=&follow=.
func logs(r *http.Request, m *Member, out *lines) error {
	out.last = func(e *api.Error) any { return api.LogLine{Error: e} }
	query, err := logQuery(r)
	if err != nil {
		return err
	}
	unknown := knownPlace(r.Context(), m, query)
	if unknown != nil && (query.Follow || !absent(unknown)) {
		return unknown
	}
	if query.Follow {
		if err := out.start(); err != nil {
			return err
		}
	}
	sources, err := logSources(r, m, query)
	if err != nil {
		return err
	}
	seen := false
	emit, flush := lastLines(query.Lines, func(line api.LogLine) error { seen = true; return out.write(line) })
	if query.Follow || len(sources) == 1 {
		emit = func(line api.LogLine) error { seen = true; return out.write(line) }
	}
	merged := merge{sources: sources, follow: query.Follow && len(sources) > 1}
	if err := errors.Join(merged.run(r.Context(), emit), flush()); err != nil {
		return err
	}
	if !seen && unknown != nil {
		return unknown
	}
	return out.start()
}

// absent tells a name that no commit has from what else can go wrong. The journal may know it still:
// the instances of a first deploy that was rolled back are in no commit, and their lines say why.
func absent(err error) bool {
	code := api.CodeOf(err)
	return code == api.CodeNamespaceAbsent || code == api.CodeNoSuchService
}

func logQuery(r *http.Request) (runtime.LogQuery, error) {
	q := r.URL.Query()
	query := runtime.LogQuery{
		Namespace: q.Get("namespace"), Service: q.Get("service"), Instance: q.Get("instance"), Follow: q.Get("follow") == "true",
	}
	var err error
	if query.Lines, err = intParam(r, "lines", -1); err != nil {
		return query, err
	}
	if since := q.Get("since"); since != "" {
		if query.Since, err = time.Parse(time.RFC3339Nano, since); err != nil {
			return query, api.Errorf(api.CodeBadRequest, "%q is not a time such as 2026-01-02T15:04:05Z", since).About("since")
		}
	}
	return query, nil
}

// knownPlace refuses names that never were, which would otherwise answer with silence. What was
// removed still has its logs.
func knownPlace(ctx context.Context, m *Member, q runtime.LogQuery) error {
	if q.Namespace == "" {
		return nil
	}
	if err := deploy.CheckNamespace(q.Namespace); err != nil {
		return err
	}
	reads := newReads(m)
	_, err := reads.Get(ctx, store.Head(q.Namespace))
	if store.IsUnavailable(err) {
		return nil // the journal is the machine's own
	}
	commit, err := deploy.Current(ctx, reads, q.Namespace)
	if api.CodeOf(err) == api.CodeNamespaceAbsent {
		_, err = deploy.History(ctx, reads, q.Namespace)
		return err
	}
	if err != nil {
		return err
	}
	if _, ok := commit.Spec.Services[q.Service]; !ok && q.Service != "" {
		return api.Errorf(api.CodeNoSuchService, "the namespace has no service %q", q.Service).About(q.Namespace).
			WithHint("list them: ployzctl service ls %s", q.Namespace)
	}
	return nil
}

// stats answers GET /v1/stats?namespace=&service= with the cluster's running instances.
func stats(r *http.Request, m *Member) (any, error) {
	all, err := statsHere(r, m)
	if err != nil {
		return nil, err
	}
	machines, err := m.others(r.Context())
	if err != nil {
		return nil, err
	}
	answers, errs := everywhere(r.Context(), machines, func(ctx context.Context, machine string) (api.StatsList, error) {
		return askJSON[api.StatsList](ctx, m, machine, Ask{Method: http.MethodGet, Path: "/v1/stats", Query: r.URL.Query(), Caller: caller(r)})
	})
	for _, a := range answers {
		all = append(all, a.Instances...)
	}
	return api.StatsList{Instances: all, Uncertain: missing(machines, errs)}, nil
}

// statsHere are the counters of this machine's running instances.
func statsHere(r *http.Request, m *Member) ([]api.InstanceStats, error) {
	list, err := m.Instances.List(r.Context())
	if err != nil {
		return nil, err
	}
	ns, service := r.URL.Query().Get("namespace"), r.URL.Query().Get("service")
	all := []api.InstanceStats{}
	for _, o := range list {
		if o.State != runtime.StateRunning || ns != "" && o.Spec.Namespace != ns || service != "" && o.Spec.Service != service {
			continue
		}
		s, err := m.Console.Stats(r.Context(), o.ID)
		if code := api.CodeOf(err); code == api.CodeNotRunning || code == api.CodeRuntimeNotFound {
			continue // it ended between the two looks
		}
		if err != nil {
			return nil, err
		}
		all = append(all, api.InstanceStats{
			Namespace: o.Spec.Namespace, Service: o.Spec.Service, Instance: o.ID, CPUNanos: int64(s.CPU), MemoryBytes: s.MemoryBytes,
			PIDs: s.PIDs, ReadBytes: s.ReadBytes, WriteBytes: s.WriteBytes, RxBytes: s.RxBytes, TxBytes: s.TxBytes,
		})
	}
	return all, nil
}
