package daemon

import (
	"net/http"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// Route is one request of the surface: what answers it, and what its description says. The mux and the description
// (node/api/openapi.json) are both made from Routes, so neither knows one that the other does not.
type Route struct {
	Method, Path string
	// Summary is a sentence, Detail more of them or "".
	Summary, Detail string
	// Query are the parameters after the question mark.
	Query []Parameter
	// Body is a value of the request body's type, nil for none; or Raw, for one that is not JSON.
	Body any
	// Answer is a value of the answer's type. With Key the answer is an object with that one member. With Lines
	// there are many, one a line. With Switches the connection leaves HTTP.
	Answer          any
	Key             string
	Lines, Switches bool

	serve http.HandlerFunc
}

// Parameter is one of a route's query.
type Parameter struct {
	Name, Help string
	// Type is "string", "integer" or "boolean".
	Type     string
	Required bool
}

// Raw is the body of a request that is not JSON, of that media type.
type Raw string

var (
	byNamespace = Parameter{Name: "namespace", Type: "string", Help: "Only of this namespace."}
	byService   = Parameter{Name: "service", Type: "string", Help: "Only of this service of the namespace."}
	byInstance  = Parameter{Name: "instance", Type: "string", Help: "Only of this instance."}
	following   = Parameter{Name: "follow", Type: "boolean", Help: "Go on with what comes, until the client leaves."}
)

// Routes are the surface's requests.
func (a *API) Routes() []Route {
	list := a.machineRoutes()
	list = append(list, a.operationRoutes()...)
	list = append(list, a.clusterRoutes()...)
	list = append(list, a.instanceRoutes()...)
	list = append(list, a.volumeRoutes()...)
	return append(list, a.imageRoutes()...)
}

// machineRoutes answer also before the machine is part of a cluster.
func (a *API) machineRoutes() []Route {
	return []Route{
		{
			Method: "GET", Path: "/v1/version", Answer: api.Version{},
			Summary: "Which program answers.",
			serve:   a.always(func(*http.Request) (any, error) { return a.Version, nil }),
		}, {
			Method: "GET", Path: "/v1/openapi.json", Answer: map[string]any{},
			Summary: "This description.",
			serve:   describe,
		}, {
			Method: "GET", Path: "/v1/status", Answer: api.Status{},
			Summary: "What the machine says about itself, observed when asked.",
			serve:   a.always(func(r *http.Request) (any, error) { return a.Status(r.Context()) }),
		}, {
			Method: "GET", Path: "/v1/update", Answer: api.MachineVersion{},
			Summary: "What the machine runs, and how the last installation by an update went.",
			serve:   a.always(func(r *http.Request) (any, error) { return a.Update(r.Context()) }),
		}, {
			Method: "GET", Path: "/v1/doctor", Key: "checks", Answer: []api.Check{},
			Summary: "Everything that the machine needs, looked at.",
			serve: a.always(func(r *http.Request) (any, error) {
				return map[string][]api.Check{"checks": a.Doctor(r.Context())}, nil
			}),
		}, {
			Method: "POST", Path: "/v1/store/backup", Body: Raw("application/octet-stream"), Answer: api.BackupManifest{},
			Query:   []Parameter{{Name: "digest", Type: "string", Help: "Refuse a backup whose digest is another."}},
			Summary: "Take a backup for store.restore, which names it by its digest.",
			Detail:  "It is read through and refused unless it is whole. The operation, or its plan, takes it away again.",
			serve:   a.always(a.takeBackup),
		},
	}
}

func (a *API) operationRoutes() []Route {
	return []Route{
		{
			Method: "POST", Path: "/v1/plans", Body: api.OperationRequest{}, Answer: api.Plan{},
			Summary: "What an operation would do, without doing it.",
			serve:   a.postPlan,
		}, {
			Method: "POST", Path: "/v1/operations", Body: api.OperationRequest{}, Answer: api.Event{}, Lines: true,
			Summary: "Run an operation and follow it to its outcome, which is the last line.",
			Detail:  "The operation goes on when the client leaves; watch it again, or cancel it. The outcome, not the HTTP status, says how it ended.",
			serve:   a.postOperation,
		}, {
			Method: "POST", Path: "/v1/operations/{id}/cancel", Key: "cancelling", Answer: "",
			Summary: "Ask a running operation to stop and to undo what it did.",
			serve:   a.cancelOperation,
		}, {
			Method: "GET", Path: "/v1/operations", Key: "operations", Answer: []api.OperationSummary{},
			Query:   []Parameter{{Name: "limit", Type: "integer", Help: "How many; 20 where it is not said."}},
			Summary: "The last operations of the cluster, newest first.",
			serve:   a.member(listOperations(a)),
		}, {
			Method: "GET", Path: "/v1/operations/{id}", Answer: api.OperationDetail{},
			Summary: "One operation with all its ledger entries.",
			serve:   a.member(showOperation),
		}, {
			Method: "GET", Path: "/v1/operations/{id}/watch", Answer: api.Event{}, Lines: true,
			Summary: "Follow an operation of any machine from its beginning to its outcome.",
			serve:   a.stream(a.watchOperation),
		}, {
			Method: "GET", Path: "/v1/events", Answer: api.ClusterEvent{}, Lines: true, Query: []Parameter{following},
			Summary: "What happened last in the cluster: ledger entries and routing views.",
			serve:   a.stream(watchEvents),
		},
	}
}

func (a *API) clusterRoutes() []Route {
	return []Route{
		{
			Method: "GET", Path: "/v1/machines", Key: "machines", Answer: []api.MachineEntry{},
			Summary: "The cluster's machines, and what this one sees of them.",
			serve:   a.member(listMachines),
		}, {
			Method: "GET", Path: "/v1/machines/rtt", Answer: api.RoundTrips{},
			Query:   []Parameter{{Name: "from", Type: "string", Help: "Only what these measure, by name, with commas between; else all."}},
			Summary: "Have machines measure the round trips to all others, now, over the overlay.",
			serve:   a.member(roundTrips),
		}, {
			Method: "GET", Path: "/v1/tokens/seen", Answer: api.TokenSeen{},
			Query:   []Parameter{{Name: "key", Type: "string", Help: "The public key that the token was asked for with.", Required: true}},
			Summary: "What this machine received of the holder of a token that it gave.",
			serve:   a.member(tokenSeen),
		}, {
			Method: "POST", Path: "/v1/packages", Body: Raw("application/vnd.debian.binary-package"), Answer: api.Package{},
			Summary: "Keep a package of Ployz, for a machine.update.",
			serve:   a.member(a.takePackage),
		}, {
			Method: "GET", Path: "/v1/store", Answer: api.StoreReport{},
			Query:   []Parameter{{Name: "verify", Type: "boolean", Help: "Have every machine sum up its copy of the facts."}},
			Summary: "Who votes in the store, and what may be lost next.",
			serve:   a.member(storeReport),
		}, {
			Method: "GET", Path: "/v1/store/backup", Answer: Raw("application/octet-stream"),
			Summary: "All facts and the ledger, as this machine has them.",
			Detail:  "The header Ployz-Manifest holds what is in the file, as JSON (BackupManifest).",
			serve:   a.backupStore,
		}, {
			Method: "GET", Path: "/v1/services", Answer: api.ServiceList{}, Query: []Parameter{byNamespace, byService},
			Summary: "What was committed, and what runs of it.",
			serve:   a.member(listServices),
		}, {
			Method: "GET", Path: "/v1/namespaces/{ns}/history", Key: "commits", Answer: []api.CommitSummary{},
			Summary: "A namespace's commits.",
			serve:   a.member(history),
		}, {
			Method: "GET", Path: "/v1/namespaces/{ns}/commits/{n}", Answer: api.Commit{},
			Summary: "One commit.",
			serve:   a.member(showCommit),
		}, {
			Method: "GET", Path: "/v1/namespaces/{ns}/diff", Key: "differences", Answer: []api.Difference{},
			Query: []Parameter{
				{Name: "from", Type: "integer", Help: "A commit's number."},
				{Name: "to", Type: "integer", Help: "Another's."},
				{Name: "with", Type: "string", Help: "Without these two: the namespace to compare with; left out it is what the branch began as."},
			},
			Summary: "How two commits of a namespace differ, or a branch and what it began as.",
			serve:   a.member(diff),
		}, {
			Method: "GET", Path: "/v1/namespaces/{ns}/secrets", Key: "values", Answer: []api.ValueSummary{},
			Summary: "A namespace's secrets by name, without their values.",
			serve:   a.member(listValues(store.Secrets)),
		}, {
			Method: "GET", Path: "/v1/namespaces/{ns}/configs", Key: "values", Answer: []api.ValueSummary{},
			Summary: "A namespace's configs by name.",
			serve:   a.member(listValues(store.Configs)),
		},
	}
}

func (a *API) instanceRoutes() []Route {
	return []Route{
		{
			Method: "GET", Path: "/v1/logs", Answer: api.LogLine{}, Lines: true,
			Query: []Parameter{
				byNamespace, byService, byInstance, following,
				{Name: "lines", Type: "integer", Help: "Only the last so many; all where it is not said."},
				{Name: "since", Type: "string", Help: "Only from this time on, as 2026-01-02T15:04:05Z."},
			},
			Summary: "What instances wrote, from all machines.",
			serve:   a.stream(logs),
		}, {
			Method: "GET", Path: "/v1/stats", Answer: api.StatsList{}, Query: []Parameter{byNamespace, byService},
			Summary: "What running instances use.",
			serve:   a.member(stats),
		}, {
			Method: "POST", Path: "/v1/instances/{id}/exec", Body: api.ExecRequest{}, Switches: true,
			Summary: "Run a command inside an instance.",
			Detail:  "The connection then carries frames both ways (" + api.ExecProtocol + "): a byte of type, four bytes of length, the content.",
			serve:   a.exec,
		},
	}
}

func (a *API) volumeRoutes() []Route {
	byMachine := Parameter{Name: "machine", Type: "string", Help: "Only on this machine."}
	return []Route{
		{
			Method: "GET", Path: "/v1/volumes", Answer: api.VolumeList{}, Query: []Parameter{byNamespace, byMachine},
			Summary: "The volumes that machines have, and their pools.",
			serve:   a.member(listVolumes),
		}, {
			Method: "GET", Path: "/v1/volumes/{volume}", Answer: api.VolumeDetail{}, Query: []Parameter{byMachine},
			Summary: "One volume with its snapshots and its family, by its ID.",
			serve:   a.member(showVolume),
		}, {
			Method: "GET", Path: "/v1/namespaces/{ns}/volumes/{name}", Answer: api.VolumeDetail{}, Query: []Parameter{byMachine},
			Summary: "Likewise, by its name: of what has it now, or else had it.",
			serve:   a.member(showVolume),
		}, {
			Method: "GET", Path: "/v1/branches", Answer: api.BranchList{},
			Summary: "The namespaces that began as a branch of another, and what is so of them now.",
			serve:   a.member(listBranches),
		}, {
			Method: "GET", Path: "/v1/branches/{ns}", Answer: api.BranchEntry{},
			Summary: "One of them.",
			serve:   a.member(showBranch),
		},
	}
}

func (a *API) imageRoutes() []Route {
	return []Route{
		{
			Method: "GET", Path: "/v1/images", Key: "images", Answer: []api.ImageEntry{},
			Query:   []Parameter{{Name: "machine", Type: "string", Help: "Those of another machine."}},
			Summary: "The images in a machine's store.",
			serve:   a.member(listImages),
		}, {
			Method: "POST", Path: "/v1/images/missing", Body: api.MissingBlobs{}, Answer: api.MissingBlobs{},
			Summary: "Which blobs of an image this machine lacks.",
			serve:   a.member(missingBlobs),
		}, {
			Method: "POST", Path: "/v1/images/import", Body: Raw("application/x-tar"), Answer: api.ImportEvent{}, Lines: true,
			Query:   []Parameter{{Name: "reference", Type: "string", Help: "The image's name here.", Required: true}},
			Summary: "Take an image from an archive, an OCI layout or what docker save writes, in the request's body.",
			serve:   a.stream(importImage),
		},
	}
}

// describe answers with the description that was made when the program was.
func describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(api.OpenAPI()) // a client that is gone is no error of ours
}
