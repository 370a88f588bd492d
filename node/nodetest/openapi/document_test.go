package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/daemon"
	"github.com/ployz/ployz/node/nodetest/memworld"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/sdk"
)

// TestUpToDate fails when routes or types have changed and the description has not.
func TestUpToDate(t *testing.T) {
	t.Chdir(testenv.Repo())
	want, err := describe()
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) || !bytes.Equal(api.OpenAPI(), want) {
		t.Errorf("%s is not what the routes and types say: make generate", file)
	}
}

// TestEveryKind wants each kind of operation in node/api to have a request's type here.
func TestEveryKind(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(testenv.Repo(), "node", "api", "request.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Kind") {
			return true
		}
		kind, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if found++; requests[kind] == nil {
			t.Errorf("%s (%q) has no request here", spec.Names[0].Name, kind)
		}
		return true
	})
	if found != len(requests) {
		t.Errorf("there are %d kinds and %d requests", found, len(requests))
	}
}

// TestEveryRouteIsExplained: names and sentences that generated clients and readers need.
func TestEveryRouteIsExplained(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range new(daemon.API).Routes() {
		id := operationID(r)
		if seen[id] || !strings.HasSuffix(r.Summary, ".") || r.Answer == nil && !r.Switches {
			t.Errorf("%s %s: %s is there twice, or has no summary or answer", r.Method, r.Path, id)
		}
		seen[id] = true
		for _, q := range r.Query {
			if !slices.Contains([]string{"string", "integer", "boolean"}, q.Type) || !strings.HasSuffix(q.Help, ".") {
				t.Errorf("%s %s: the parameter %+v", r.Method, r.Path, q)
			}
		}
	}
}

// compiled reads the description's schemas as a validator does.
func compiled(t *testing.T) *jsonschema.Compiler {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(api.OpenAPI()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("doc.json", doc); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSchemasAreSchemas(t *testing.T) {
	c := compiled(t)
	var doc struct {
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(api.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Components.Schemas) < 70 {
		t.Errorf("only %d types", len(doc.Components.Schemas))
	}
	for name := range doc.Components.Schemas {
		if _, err := c.Compile("doc.json" + place + name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRequestsBelongToKinds(t *testing.T) {
	schema, err := compiled(t).Compile("doc.json" + place + "OperationRequest")
	if err != nil {
		t.Fatal(err)
	}
	for text, good := range map[string]bool{
		`{"kind":"scale","request":{"namespace":"shop","service":"web","replicas":2}}`:     true,
		`{"kind":"scale","request":{"namespace":"shop","service":"web","replicas":"two"}}`: false,
		`{"kind":"scale","request":{"namespace":"shop"}}`:                                  false,
		`{"kind":"rm","request":{"namespace":"shop"},"plan":"sha256:1"}`:                   true,
		`{"kind":"scaled","request":{}}`:                                                   false,
	} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestAnswersAreAsDescribed asks a daemon on its socket for everything that can be read, after a deploy.
func TestAnswersAreAsDescribed(t *testing.T) {
	client, c := founded(t), compiled(t)
	asked := 0
	for _, r := range new(daemon.API).Routes() {
		if r.Method != http.MethodGet || strings.HasSuffix(r.Path, "/watch") {
			continue
		}
		asked++
		path := strings.NewReplacer("{ns}", "shop", "{n}", "1", "{id}", "none", "/diff", "/diff?from=1&to=1").Replace(r.Path)
		status, lines := get(t, client, path)
		answer := "200"
		media := mediaJSON
		switch {
		case status != http.StatusOK:
			answer = "default"
		case r.Lines:
			media = mediaLines
		}
		where := "doc.json#/paths/" + escape(r.Path) + "/get/responses/" + answer + "/content/" + escape(media) + "/schema"
		schema, err := c.Compile(where)
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) == 0 {
			t.Errorf("%s answers nothing", path)
		}
		for _, line := range lines {
			if err := schema.Validate(line); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if asked < 15 {
		t.Errorf("only %d routes can be read", asked)
	}
}

// escape is a path's place in a JSON pointer.
func escape(path string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(path)
}

// founded starts a daemon with a service that was deployed, and returns a client of its socket.
func founded(t *testing.T) *http.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "ployz") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "d.sock")
	w, stop, err := memworld.Start(dir, socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); os.RemoveAll(dir) })
	if err := w.Found(); err != nil {
		t.Fatal(err)
	}
	c, err := sdk.Open("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := api.DeployRequest{Spec: api.Spec{Namespace: "shop", Services: map[string]api.Service{"app": {Image: "app:v2"}}}}
	if out, err := c.Run(t.Context(), api.KindDeploy, request, "", nil); err != nil || out.Outcome != api.Committed {
		t.Fatalf("the deploy ended %s: %v %v", out.Outcome, out.Error, err)
	}
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		Dial:              func(string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
}

// get returns the answer's values: one, or one a line.
func get(t *testing.T, c *http.Client, path string) (int, []any) {
	t.Helper()
	resp, err := c.Get("http://ployzd" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var all []any
	for in := json.NewDecoder(resp.Body); ; {
		in.UseNumber()
		var value any
		err := in.Decode(&value)
		if err == io.EOF {
			return resp.StatusCode, all
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, value)
	}
}
