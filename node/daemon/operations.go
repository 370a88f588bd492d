package daemon

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// asked is a request for an operation, understood.
type asked struct {
	runner Runner
	op     operation.Operation
	body   json.RawMessage
	plan   string
}

// understand finds the runner and makes the operation. Errors: request.*, machine.not-initialised.
func (a *API) understand(r *http.Request) (asked, error) {
	var req api.OperationRequest
	if err := readJSON(r.Body, &req); err != nil {
		return asked{}, err
	}
	runner, kinds := a.Founder, a.Founding
	if _, founding := a.Founding[req.Kind]; !founding {
		m, err := a.needMember()
		if err != nil {
			return asked{}, err
		}
		runner, kinds = m.Runner, m.Kinds
	}
	kind, err := kinds.find(req.Kind)
	if err != nil {
		return asked{}, err
	}
	op, body, err := kind(req.Request)
	return asked{runner, op, body, req.Plan}, err
}

func (a *API) postPlan(w http.ResponseWriter, r *http.Request) {
	want, err := a.understand(r)
	if err != nil {
		writeError(w, err)
		return
	}
	plan, err := want.runner.Preview(r.Context(), want.op, caller(r))
	writeJSON(w, plan, err)
}

// postOperation starts the operation and follows it. The operation's life is not the request's.
func (a *API) postOperation(w http.ResponseWriter, r *http.Request) {
	want, err := a.understand(r)
	if err == nil {
		err = a.running.begin()
	}
	if err != nil {
		writeError(w, err)
		return
	}
	s := a.start(context.WithoutCancel(r.Context()), want, caller(r))
	out := &lines{w: w}
	s.follow(r.Context(), func(e api.Event) error { return out.write(e) }) // a client that went away may watch again
}

func (a *API) start(ctx context.Context, want asked, by string) *stream {
	ctx, cancel := context.WithCancelCause(ctx)
	s := newStream(cancel)
	go func() {
		defer cancel(nil)
		id := ""
		out := want.runner.Run(ctx, operation.Request{
			Operation: want.op, Caller: by, Body: want.body, PlanDigest: want.plan, Audience: s.add,
			Opened: func(operation string) { id = operation; a.running.opened(id, s) },
		})
		a.Log.Info("operation ended", "operation", out.Operation, "kind", out.Kind, "scope", out.Scope,
			"caller", by, "outcome", out.Outcome, "took", out.Took, "error", errorText(out.Error))
		s.end(out)
		a.running.ended(id, out)
	}()
	return s
}

func errorText(e *api.Error) string {
	if e == nil {
		return ""
	}
	return e.Error()
}

func (a *API) cancelOperation(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	s := a.running.find(id)
	if s == nil {
		writeError(w, api.Errorf(api.CodeNotRunningOp, "operation %s is not running here", id).
			WithHint("see what became of it: ployzctl operation show %s", id))
		return
	}
	s.cancel(api.Errorf(api.CodeCancelled, "it was cancelled by %s", caller(r)))
	writeJSON(w, map[string]string{"cancelling": id}, nil)
}

// listOperations answers GET /v1/operations?limit=N, newest first.
func listOperations(a *API) answer {
	return func(r *http.Request, m *Member) (any, error) {
		limit, err := intParam(r, "limit", 20)
		if err != nil {
			return nil, err
		}
		last, err := m.Ledger.Last(r.Context(), limit)
		if err != nil {
			return nil, err
		}
		held, err := holders(r.Context(), m)
		if err != nil {
			return nil, err
		}
		list := make([]api.OperationSummary, 0, len(last))
		for _, record := range last {
			events, err := operation.History(r.Context(), m.Ledger, record.Operation)
			if err != nil {
				return nil, err
			}
			list = append(list, operation.Summarise(events, held[record.Operation] || a.running.find(record.Operation) != nil))
		}
		return map[string][]api.OperationSummary{"operations": list}, nil
	}
}

// holders are the operations that hold a lease now, and whose coordinator is not known to be dead:
// those that run, on any machine.
func holders(ctx context.Context, m *Member) (map[string]bool, error) {
	leases, err := newReads(m).List(ctx, store.Leases())
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for _, fact := range leases {
		var h coordination.Holder
		if json.Unmarshal(fact.Value, &h) == nil && (m.Dead == nil || !m.Dead(h)) { // one that cannot be read holds nothing we know
			held[h.Operation] = true
		}
	}
	return held, nil
}

// showOperation answers GET /v1/operations/{id} with its summary and entries.
func showOperation(r *http.Request, m *Member) (any, error) {
	events, err := operation.History(r.Context(), m.Ledger, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	held, err := holders(r.Context(), m)
	if err != nil {
		return nil, err
	}
	return api.OperationDetail{
		OperationSummary: operation.Summarise(events, held[r.PathValue("id")]), Entries: events,
	}, nil
}

// watchOperation follows an operation to its outcome: from memory when it runs here, else from the
// ledger.
func (a *API) watchOperation(r *http.Request, m *Member, out *lines) error {
	id := r.PathValue("id")
	emit := func(e api.Event) error { return out.write(e) }
	if s := a.running.find(id); s != nil {
		return s.follow(r.Context(), emit)
	}
	w := watch{m: m, id: id, emit: emit}
	return w.run(r.Context())
}

// A watcher of another machine's operation looks now and then whether it still runs: soon after the
// entries that are there, and then every watchLook.
const (
	watchFirst = 100 * time.Millisecond
	watchLook  = 2 * time.Second
)

// watch follows one operation through the ledger.
type watch struct {
	m    *Member
	id   string
	emit func(api.Event) error
	last store.Revision
	over bool
}

func (w *watch) run(ctx context.Context) error {
	records, err := w.m.Ledger.History(ctx, w.id)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		_, err := operation.History(ctx, w.m.Ledger, w.id)
		return err
	}
	for _, record := range records {
		if err := w.show(record); err != nil {
			return err
		}
	}
	if w.over {
		return nil
	}
	feed, err := w.m.Ledger.Follow(ctx, w.last)
	if err != nil {
		return err
	}
	defer feed.Close()
	for silence := watchFirst; !w.over && ctx.Err() == nil; silence = watchLook {
		if err := w.next(ctx, feed, silence); err != nil {
			return err
		}
	}
	return nil
}

// next shows one more entry, or, after a silence, an operation that nobody runs any more.
func (w *watch) next(ctx context.Context, feed store.LogFeed, silence time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	record, err := feed.Next(bounded)
	if err == nil {
		return w.show(record)
	}
	if ctx.Err() != nil {
		return nil
	}
	if bounded.Err() == nil {
		return err
	}
	held, err := holders(ctx, w.m)
	if err != nil || held[w.id] {
		return err
	}
	return w.abandoned(ctx)
}

// abandoned ends the watching of an operation that nobody closed, with what its entries amount to.
func (w *watch) abandoned(ctx context.Context) error {
	events, err := operation.History(ctx, w.m.Ledger, w.id)
	if err != nil {
		return err
	}
	sum := operation.Summarise(events, false)
	out := api.Outcome{Outcome: api.Result(sum.State), Operation: w.id, Kind: sum.Kind, Scope: sum.Scope, Error: sum.Error}
	if out.Error == nil && out.Outcome == api.Interrupted {
		out.Error = api.Errorf(api.CodeInterrupted, "its coordinator died before it came to an end").About(sum.Scope).
			WithHint("clear what it left: ployzctl operation resolve %s", w.id)
	}
	w.over = true
	return w.emit(outcomeEvent(out))
}

func (w *watch) show(record store.Record) error {
	w.last = max(w.last, record.Revision)
	if record.Operation != w.id {
		return nil
	}
	entries, err := operation.Entries(record)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.tell(e); err != nil {
			return err
		}
	}
	return nil
}

func (w *watch) tell(e api.Event) error {
	if e.Type == api.EventOutcome && e.Outcome != nil {
		// The entry is written before the runner knows these of its run; they are the event's own.
		e.Outcome.Kind, e.Outcome.Scope, e.Outcome.Took = e.Kind, e.Scope, e.Elapsed
		w.over = true
	}
	return w.emit(e)
}

func intParam(r *http.Request, name string, fallback int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, api.Errorf(api.CodeBadRequest, "%q is not a number", text).About(name)
	}
	return n, nil
}
