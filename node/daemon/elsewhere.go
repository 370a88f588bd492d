package daemon

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/runtime"
)

// Elsewhere reaches the surfaces that the cluster's other machines show their peers. Neighbours does.
type Elsewhere interface {
	// Machines are the names of the other members.
	Machines(ctx context.Context) ([]string, error)
	// Do asks one of them, and returns an answer that is not an error; the body is the
	// caller's to close. Errors: deploy.machine-silent, and the machine's own.
	Do(ctx context.Context, machine string, ask Ask) (*http.Response, error)
}

// Ask is a request to another machine.
type Ask struct {
	Method, Path string
	Query        url.Values
	Body         io.Reader
	// Header are further headers.
	Header http.Header
	// Caller is who asks here.
	Caller string
}

// others are the machines to ask besides this one; none in a cluster of one.
func (m *Member) others(ctx context.Context) ([]string, error) {
	if m.Elsewhere == nil {
		return nil, nil
	}
	return m.Elsewhere.Machines(ctx)
}

// everywhere asks machines at once. Each machine has a value or an error.
func everywhere[M, T any](ctx context.Context, machines []M, ask func(ctx context.Context, machine M) (T, error)) ([]T, []error) {
	values, errs := make([]T, len(machines)), make([]error, len(machines))
	var all sync.WaitGroup
	for i, m := range machines {
		all.Go(func() { values[i], errs[i] = ask(ctx, m) })
	}
	all.Wait()
	return values, errs
}

// askJSON asks a machine for a value.
func askJSON[T any](ctx context.Context, m *Member, machine string, ask Ask) (value T, err error) {
	resp, err := m.Elsewhere.Do(ctx, machine, ask)
	if err != nil {
		return value, err
	}
	return readAnswer[T](resp, machine)
}

// readAnswer reads the value that a machine answered with.
func readAnswer[T any](resp *http.Response, machine string) (T, error) {
	defer resp.Body.Close()
	var value, none T
	if err := json.NewDecoder(resp.Body).Decode(&value); err != nil {
		return none, api.Errorf(api.CodeMachineSilent, "its answer broke off or cannot be read: %w", err).About(machine).Again()
	}
	return value, nil
}

// missing says in a sentence which machines' part an answer lacks, or "".
func missing(machines []string, errs []error) string {
	var parts []string
	for i, err := range errs {
		if err != nil {
			parts = append(parts, machines[i]+" ("+api.AsError(err).Message+")")
		}
	}
	if parts == nil {
		return ""
	}
	return "without an answer from " + strings.Join(parts, ", ")
}

// observations is what a machine says of its instances to a peer.
type observations struct {
	Instances []runtime.Observation `json:"instances"`
}

// instancesHere answers GET /v1/instances for peers. Contents of files and sealed secrets stay at home.
func instancesHere(r *http.Request, m *Member) (any, error) {
	list, err := m.Instances.List(r.Context())
	if err != nil {
		return nil, err
	}
	list = slices.Clone(list)
	for i := range list {
		list[i].Spec.Files, list[i].Spec.SecretEnv, list[i].Spec.Process.Env = nil, nil, nil
	}
	return observations{list}, nil
}

func instancesAt(ctx context.Context, m *Member, machine string) ([]runtime.Observation, error) {
	seen, err := askJSON[observations](ctx, m, machine, Ask{Method: http.MethodGet, Path: "/v1/instances"})
	return seen.Instances, err
}

// locate finds the machine of an instance that is not here; "" is this one, which knows how to say no. What was
// committed is asked first, and then, as for what a run started, the machines themselves.
func locate(ctx context.Context, m *Member, id string) (string, error) {
	machines, err := m.others(ctx)
	if err != nil || len(machines) == 0 {
		return "", err
	}
	here, err := m.Instances.List(ctx)
	if err != nil || slices.ContainsFunc(here, isInstance(id)) {
		return "", err
	}
	commits, err := deploy.Namespaces(ctx, newReads(m))
	if err == nil {
		for _, commit := range commits {
			for _, slot := range commit.Slots {
				if slot.Instance == id {
					return otherThan(m.Machine, slot.Machine), nil
				}
			}
		}
	}
	lists, errs := everywhere(ctx, machines, func(ctx context.Context, machine string) ([]runtime.Observation, error) {
		return instancesAt(ctx, m, machine)
	})
	for i, list := range lists {
		if slices.ContainsFunc(list, isInstance(id)) {
			return machines[i], nil
		}
	}
	if why := missing(machines, errs); why != "" {
		return "", api.Errorf(api.CodeMachineSilent, "no machine that answers has it; that is %s", why).About(id).Again()
	}
	return "", nil
}

func isInstance(id string) func(runtime.Observation) bool {
	return func(o runtime.Observation) bool { return o.ID == id }
}

func otherThan(self, machine string) string {
	if machine == self {
		return ""
	}
	return machine
}
