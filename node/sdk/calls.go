package sdk

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
)

// Version asks which daemon answers.
func (c *Client) Version(ctx context.Context) (v api.Version, err error) {
	return v, c.call(ctx, http.MethodGet, "/v1/version", nil, nil, &v)
}

// Status asks the machine about itself. It works before the machine is part of a cluster.
func (c *Client) Status(ctx context.Context) (s api.Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, nil, &s)
}

// Doctor lets the machine look at everything it needs.
func (c *Client) Doctor(ctx context.Context) ([]api.Check, error) {
	var answer struct{ Checks []api.Check }
	err := c.call(ctx, http.MethodGet, "/v1/doctor", nil, nil, &answer)
	return answer.Checks, err
}

// Machines lists the cluster's machines, and what the one that answers sees of them.
func (c *Client) Machines(ctx context.Context) ([]api.MachineEntry, error) {
	var answer struct{ Machines []api.MachineEntry }
	err := c.call(ctx, http.MethodGet, "/v1/machines", nil, nil, &answer)
	return answer.Machines, err
}

// RoundTrips has the named machines, or all where none is named, measure the way to all others.
func (c *Client) RoundTrips(ctx context.Context, from []string) (r api.RoundTrips, err error) {
	query := url.Values{}
	if len(from) > 0 {
		query.Set("from", strings.Join(from, ","))
	}
	return r, c.call(ctx, http.MethodGet, "/v1/machines/rtt", query, nil, &r)
}

// TokenSeen tells what the machine received of the holder of a token's public key.
func (c *Client) TokenSeen(ctx context.Context, key string) (s api.TokenSeen, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/tokens/seen", url.Values{"key": {key}}, nil, &s)
}

// SendPackage has the machine keep a package of Ployz, for a machine.update.
func (c *Client) SendPackage(ctx context.Context, from io.Reader) (p api.Package, err error) {
	resp, err := c.send(ctx, http.MethodPost, "/v1/packages", nil, from)
	if err != nil {
		return p, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		return p, c.broken(err)
	}
	return p, nil
}

// Update tells what the machine runs, and how the last installation went.
func (c *Client) Update(ctx context.Context) (v api.MachineVersion, err error) {
	return v, c.call(ctx, http.MethodGet, "/v1/update", nil, nil, &v)
}

// Store reports who votes in the store and what may be lost next; verify has every machine sum up its copy.
func (c *Client) Store(ctx context.Context, verify bool) (r api.StoreReport, err error) {
	return r, c.call(ctx, http.MethodGet, "/v1/store", url.Values{"verify": {strconv.FormatBool(verify)}}, nil, &r)
}

// Backup writes the machine's copy of the store to a file, and says what is in it.
func (c *Client) Backup(ctx context.Context, to io.Writer) (m api.BackupManifest, err error) {
	resp, err := c.send(ctx, http.MethodGet, "/v1/store/backup", nil, nil)
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	if err := json.Unmarshal([]byte(resp.Header.Get("Ployz-Manifest")), &m); err != nil {
		return m, c.broken(err)
	}
	_, err = io.Copy(to, resp.Body)
	if err != nil {
		return m, c.broken(err)
	}
	return m, nil
}

// TakeBackup hands a backup over for store.restore, and returns what is in it. digest is what its own must be; "" takes any.
func (c *Client) TakeBackup(ctx context.Context, from io.Reader, digest string) (m api.BackupManifest, err error) {
	resp, err := c.send(ctx, http.MethodPost, "/v1/store/backup", url.Values{"digest": {digest}}, from)
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		return m, c.broken(err)
	}
	return m, nil
}

// Preview plans an operation without doing any of it. Unmet requirements are in the plan; an error is
// what could not even be planned.
func (c *Client) Preview(ctx context.Context, kind string, request any) (plan api.Plan, err error) {
	req, err := operationRequest(kind, request, "")
	if err != nil {
		return plan, err
	}
	return plan, c.call(ctx, http.MethodPost, "/v1/plans", nil, req, &plan)
}

func operationRequest(kind string, request any, plan string) (api.OperationRequest, error) {
	text, err := json.Marshal(request)
	if err != nil {
		return api.OperationRequest{}, api.Errorf(api.CodeInternal, "encoding the request: %w", err)
	}
	return api.OperationRequest{Kind: kind, Request: text, Plan: plan}, nil
}

// Run runs an operation to its outcome and shows each event, the outcome included. plan binds it to a
// preview's digest; "" does not. An error means that the outcome is not known here: the operation
// goes on without us, or ended with the daemon. When ctx ends, nothing is cancelled; see Cancel.
func (c *Client) Run(ctx context.Context, kind string, request any, plan string, each func(api.Event)) (api.Outcome, error) {
	req, err := operationRequest(kind, request, plan)
	if err != nil {
		return api.Outcome{}, err
	}
	return c.outcome(ctx, http.MethodPost, "/v1/operations", req, each)
}

// Watch follows an operation from its beginning to its outcome.
func (c *Client) Watch(ctx context.Context, id string, each func(api.Event)) (api.Outcome, error) {
	return c.outcome(ctx, http.MethodGet, "/v1/operations/"+url.PathEscape(id)+"/watch", nil, each)
}

func (c *Client) outcome(ctx context.Context, method, path string, in any, each func(api.Event)) (api.Outcome, error) {
	var (
		out api.Outcome
		id  string
	)
	err := follow(ctx, c, method, path, nil, in, func(e api.Event) error {
		if each != nil {
			each(e)
		}
		if e.Operation != "" {
			id = e.Operation
		}
		if e.Type == api.EventOutcome && e.Outcome != nil {
			out = *e.Outcome
		}
		return nil
	})
	if err == nil && out.Outcome == "" {
		err = c.broken(io.ErrUnexpectedEOF)
	}
	if err != nil && id != "" {
		e := *api.AsError(err)
		e.Operation = id
		return out, e.WithHint("it may go on in the daemon, or have ended with it: ployzctl operation show %s; what it left is cleared with: ployzctl operation resolve %s", id, id)
	}
	return out, err
}

// Cancel rolls a running operation back. Its outcome is where it is watched.
func (c *Client) Cancel(ctx context.Context, id string) error {
	var answer map[string]string
	return c.call(ctx, http.MethodPost, "/v1/operations/"+url.PathEscape(id)+"/cancel", nil, nil, &answer)
}

// Operations lists the newest operations; limit 0 is all of them.
func (c *Client) Operations(ctx context.Context, limit int) ([]api.OperationSummary, error) {
	var answer struct{ Operations []api.OperationSummary }
	err := c.call(ctx, http.MethodGet, "/v1/operations", url.Values{"limit": {strconv.Itoa(limit)}}, nil, &answer)
	return answer.Operations, err
}

// Operation reads one operation's ledger.
func (c *Client) Operation(ctx context.Context, id string) (d api.OperationDetail, err error) {
	return d, c.call(ctx, http.MethodGet, "/v1/operations/"+url.PathEscape(id), nil, nil, &d)
}

// Events shows what happened lately and, with follow, what happens until ctx ends.
func (c *Client) Events(ctx context.Context, following bool, each func(api.ClusterEvent) error) error {
	query := url.Values{"follow": {strconv.FormatBool(following)}}
	return follow(ctx, c, http.MethodGet, "/v1/events", query, nil, func(e api.ClusterEvent) error {
		if e.Error != nil {
			return e.Error
		}
		return each(e)
	})
}

// Services lists services with their instances; "" selects all.
func (c *Client) Services(ctx context.Context, namespace, service string) (l api.ServiceList, err error) {
	query := url.Values{"namespace": {namespace}, "service": {service}}
	return l, c.call(ctx, http.MethodGet, "/v1/services", query, nil, &l)
}

func nsPath(ns, rest string) string { return "/v1/namespaces/" + url.PathEscape(ns) + "/" + rest }

// History lists a namespace's commits, newest first.
func (c *Client) History(ctx context.Context, ns string) ([]api.CommitSummary, error) {
	var answer struct{ Commits []api.CommitSummary }
	err := c.call(ctx, http.MethodGet, nsPath(ns, "history"), nil, nil, &answer)
	return answer.Commits, err
}

// Commit reads one commit.
func (c *Client) Commit(ctx context.Context, ns string, number int) (commit api.Commit, err error) {
	return commit, c.call(ctx, http.MethodGet, nsPath(ns, "commits/"+strconv.Itoa(number)), nil, nil, &commit)
}

// Diff compares what two commits asked for.
func (c *Client) Diff(ctx context.Context, ns string, from, to int) ([]api.Difference, error) {
	var answer struct{ Differences []api.Difference }
	query := url.Values{"from": {strconv.Itoa(from)}, "to": {strconv.Itoa(to)}}
	err := c.call(ctx, http.MethodGet, nsPath(ns, "diff"), query, nil, &answer)
	return answer.Differences, err
}

// DiffBranch compares what a branch asks for with what a namespace does; with "" is what the branch began as.
func (c *Client) DiffBranch(ctx context.Context, branch, with string) ([]api.Difference, error) {
	var answer struct{ Differences []api.Difference }
	query := url.Values{}
	if with != "" {
		query.Set("with", with)
	}
	err := c.call(ctx, http.MethodGet, nsPath(branch, "diff"), query, nil, &answer)
	return answer.Differences, err
}

// Secrets lists a namespace's named secrets, without values.
func (c *Client) Secrets(ctx context.Context, ns string) ([]api.ValueSummary, error) {
	return c.values(ctx, ns, "secrets")
}

// Configs lists a namespace's named configs.
func (c *Client) Configs(ctx context.Context, ns string) ([]api.ValueSummary, error) {
	return c.values(ctx, ns, "configs")
}

func (c *Client) values(ctx context.Context, ns, kind string) ([]api.ValueSummary, error) {
	var answer struct{ Values []api.ValueSummary }
	err := c.call(ctx, http.MethodGet, nsPath(ns, kind), nil, nil, &answer)
	return answer.Values, err
}

// LogQuery selects log lines; empty fields select everything, Lines -1 is all of them.
type LogQuery struct {
	Namespace, Service, Instance string
	Lines                        int
	Since                        time.Time
	Follow                       bool
}

// Logs shows log lines in order, with Follow until ctx ends.
func (c *Client) Logs(ctx context.Context, q LogQuery, each func(api.LogLine) error) error {
	query := url.Values{
		"namespace": {q.Namespace}, "service": {q.Service}, "instance": {q.Instance},
		"lines": {strconv.Itoa(q.Lines)}, "follow": {strconv.FormatBool(q.Follow)},
	}
	if !q.Since.IsZero() {
		query.Set("since", q.Since.Format(time.RFC3339Nano))
	}
	return follow(ctx, c, http.MethodGet, "/v1/logs", query, nil, func(l api.LogLine) error {
		if l.Error != nil {
			return l.Error
		}
		return each(l)
	})
}

// Stats reads the counters of the cluster's running instances, as far as machines answer.
func (c *Client) Stats(ctx context.Context, namespace, service string) (api.StatsList, error) {
	var list api.StatsList
	err := c.call(ctx, http.MethodGet, "/v1/stats", url.Values{"namespace": {namespace}, "service": {service}}, nil, &list)
	return list, err
}

// Images lists the machine's images.
func (c *Client) Images(ctx context.Context) ([]api.ImageEntry, error) {
	var answer struct{ Images []api.ImageEntry }
	err := c.call(ctx, http.MethodGet, "/v1/images", nil, nil, &answer)
	return answer.Images, err
}

// ImagesOf lists another machine's images, by its name. Errors: deploy.machine-silent.
func (c *Client) ImagesOf(ctx context.Context, machine string) ([]api.ImageEntry, error) {
	var answer struct{ Images []api.ImageEntry }
	err := c.call(ctx, http.MethodGet, "/v1/images", url.Values{"machine": {machine}}, nil, &answer)
	return answer.Images, err
}

// MissingBlobs returns those of the digests that the machine lacks.
func (c *Client) MissingBlobs(ctx context.Context, digests []string) ([]string, error) {
	var answer api.MissingBlobs
	err := c.call(ctx, http.MethodPost, "/v1/images/missing", nil, api.MissingBlobs{Digests: digests}, &answer)
	return answer.Digests, err
}

// ImportImage sends an archive: an OCI layout as a tar, without the blobs that the machine has, or what
// docker save writes. "" takes the archive's own name.
func (c *Client) ImportImage(ctx context.Context, reference string, archive io.Reader, each func(api.ImportEvent)) (api.ImageEntry, error) {
	var image api.ImageEntry
	resp, err := c.send(ctx, http.MethodPost, "/v1/images/import", url.Values{"reference": {reference}}, archive)
	if err != nil {
		return image, err
	}
	defer resp.Body.Close()
	done := false
	err = readLines(c, resp.Body, func(e api.ImportEvent) error {
		switch {
		case e.Error != nil:
			return e.Error
		case e.Image != nil:
			image, done = *e.Image, true
		case each != nil:
			each(e)
		}
		return nil
	})
	if err == nil && !done {
		err = c.broken(io.ErrUnexpectedEOF)
	}
	return image, err
}

// Volumes lists the volumes of a namespace, or with "" of all, and the pools of every machine that answers; or of one
// machine. Errors: deploy.machine-silent.
func (c *Client) Volumes(ctx context.Context, namespace, machine string) (api.VolumeList, error) {
	var list api.VolumeList
	err := c.call(ctx, http.MethodGet, "/v1/volumes", url.Values{"namespace": {namespace}, "machine": {machine}}, nil, &list)
	return list, err
}

// Branches lists every branch of the cluster.
func (c *Client) Branches(ctx context.Context) (list api.BranchList, err error) {
	return list, c.call(ctx, http.MethodGet, "/v1/branches", nil, nil, &list)
}

// Branch shows one branch. Errors: branch.not-a-branch.
func (c *Client) Branch(ctx context.Context, ns string) (b api.BranchEntry, err error) {
	return b, c.call(ctx, http.MethodGet, "/v1/branches/"+url.PathEscape(ns), nil, nil, &b)
}

// Volume shows one volume with its snapshots and family, by its ID or, of a live one, as NAMESPACE/NAME; machine
// tells copies of one apart, or is "". Errors: volume.not-found, api.bad-request (several could be meant),
// deploy.machine-silent.
func (c *Client) Volume(ctx context.Context, volume, machine string) (api.VolumeDetail, error) {
	var detail api.VolumeDetail
	path := "/v1/volumes/" + url.PathEscape(volume)
	if ns, name, named := strings.Cut(volume, "/"); named {
		path = nsPath(ns, "volumes/"+url.PathEscape(name))
	}
	err := c.call(ctx, http.MethodGet, path, url.Values{"machine": {machine}}, nil, &detail)
	return detail, err
}
