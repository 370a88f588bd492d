package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/daemon"
)

// object is a JSON object; its members are written in the order of their names.
type object map[string]any

const (
	mediaJSON  = "application/json"
	mediaLines = "application/x-ndjson"
)

const introduction = `ployzd answers on a Unix socket, /run/ployz/ployzd.sock, which root and the group ployz may use.

Streams are newline-delimited JSON (` + mediaLines + `): one value a line, sent when it happens. A stream that fails at once is
an ordinary error answer; one that fails later says so in its last line, where its type has an error.

Errors have one shape, {"error": …}, and a code that never changes its meaning; x-ployz-codes lists them. The answer to an
operation's request is 200 also when the operation is refused or rolled back: its outcome is the stream's last line, and
ployzctl ends with the exit status that x-ployz-exit-statuses gives for it.

Requests with fields that the daemon does not know are refused. Answers may gain fields within a version.`

// describe makes the description's text.
func describe() ([]byte, error) {
	s, err := newSchemas()
	if err != nil {
		return nil, err
	}
	paths := map[string]object{}
	for _, r := range new(daemon.API).Routes() {
		if paths[r.Path] == nil {
			paths[r.Path] = object{}
		}
		paths[r.Path][strings.ToLower(r.Method)] = s.operation(r)
	}
	s.refine()
	doc := object{
		"openapi":    "3.1.0",
		"info":       object{"title": "Ployz", "version": "v1", "description": introduction},
		"servers":    []object{{"url": "http://ployzd", "description": "the socket; the host's name does not matter"}},
		"paths":      paths,
		"components": object{"schemas": s.components},

		"x-ployz-exit-statuses": exitStatuses(),
		"x-ployz-codes":         codes(),
	}
	if s.failed != nil {
		return nil, s.failed
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err = e.Encode(doc)
	return out.Bytes(), err
}

// results are all that an operation can end with.
var results = []api.Result{
	api.Committed, api.Refused, api.RolledBack, api.Stranded, api.Interrupted, api.Uncertain, api.CommittedLeftovers, api.Failed,
}

func exitStatuses() map[string]int {
	statuses := map[string]int{"usage": api.ExitUsage}
	for _, r := range results {
		statuses[string(r)] = r.Exit()
	}
	return statuses
}

func codes() map[string]string {
	all := map[string]string{}
	for _, c := range api.Codes() {
		all[string(c.Code)] = c.Meaning
	}
	return all
}

var inPath = regexp.MustCompile(`\{(\w+)\}`)

// operation describes one route.
func (s *schemas) operation(r daemon.Route) object {
	op := object{
		"operationId": operationID(r), "summary": r.Summary, "tags": []string{tag(r.Path)},
		"responses": object{status(r): s.answer(r), "default": object{
			"description": "It was refused or failed: see the code.",
			"content":     object{mediaJSON: object{"schema": s.answerWith("error", &api.Error{})}},
		}},
	}
	if r.Detail != "" {
		op["description"] = r.Detail
	}
	if p := parameters(r); len(p) > 0 {
		op["parameters"] = p
	}
	switch body := r.Body.(type) {
	case nil:
	case daemon.Raw:
		op["requestBody"] = object{"required": true, "content": object{string(body): object{}}}
	default:
		op["requestBody"] = object{"required": true, "content": object{mediaJSON: object{"schema": s.of(body)}}}
	}
	return op
}

func parameters(r daemon.Route) []object {
	var list []object
	for _, m := range inPath.FindAllStringSubmatch(r.Path, -1) {
		list = append(list, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, q := range r.Query {
		list = append(list, object{"name": q.Name, "in": "query", "required": q.Required, "description": q.Help, "schema": object{"type": q.Type}})
	}
	return list
}

func status(r daemon.Route) string {
	if r.Switches {
		return fmt.Sprint(http.StatusSwitchingProtocols)
	}
	return fmt.Sprint(http.StatusOK)
}

func (s *schemas) answer(r daemon.Route) object {
	switch {
	case r.Switches:
		return object{"description": "The connection carries frames from here on."}
	case r.Lines:
		return object{"description": "One such value a line.", "content": object{mediaLines: object{"schema": s.of(r.Answer)}}}
	case r.Key != "":
		return object{"description": "The answer.", "content": object{mediaJSON: object{"schema": s.answerWith(r.Key, r.Answer)}}}
	}
	if raw, is := r.Answer.(daemon.Raw); is {
		return object{"description": "The answer.", "content": object{string(raw): object{}}}
	}
	return object{"description": "The answer.", "content": object{mediaJSON: object{"schema": s.of(r.Answer)}}}
}

// answerWith is an object with one member.
func (s *schemas) answerWith(key string, value any) object {
	return object{"type": "object", "required": []string{key}, "properties": object{key: s.of(value)}}
}

// tag groups a path by its first word after the version.
func tag(path string) string { return strings.Split(path, "/")[2] }

// operationID is the method and the words of the path: getNamespacesHistory.
func operationID(r daemon.Route) string {
	words := slices.DeleteFunc(strings.FieldsFunc(r.Path, func(c rune) bool { return c == '/' || c == '.' }), func(w string) bool {
		return w == "v1" || strings.HasPrefix(w, "{")
	})
	id := strings.ToLower(r.Method)
	if inPath.MatchString(r.Path) && strings.HasSuffix(r.Path, "}") {
		id += "One"
	}
	for _, w := range words {
		id += strings.ToUpper(w[:1]) + w[1:]
	}
	return id
}
