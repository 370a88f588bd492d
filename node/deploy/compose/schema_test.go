package compose

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
)

// TestTableCoversSchema walks the schema that compose-go carries. A newer compose-go with a key
// that the table lacks turns it red; so does a key in the table that Compose does not have.
func TestTableCoversSchema(t *testing.T) {
	w := schemaWalk{t: t, table: tree(Keys()), met: map[string]bool{}}
	if err := json.Unmarshal([]byte(schema.Schema), &w.root); err != nil {
		t.Fatal(err)
	}
	w.walk(w.root, "", w.table)
	if len(w.met) < 200 {
		t.Errorf("the walk met only %d keys: it does not understand the schema", len(w.met))
	}
	for _, k := range Keys() {
		path := strings.ReplaceAll(k.Path, "networks.default", "networks.*")
		if strings.Contains(path, "x-ployz") || strings.HasSuffix(path, "*.*") && strings.Contains(path, "networks") {
			continue
		}
		if !w.met[path] {
			t.Errorf("%s is in the table, but Compose does not have it", k.Path)
		}
	}
}

// TestSchemaWalkNotices shows that the walk above can fail: it meets keys that are not in a table.
func TestSchemaWalkNotices(t *testing.T) {
	quiet := &testing.T{}
	w := schemaWalk{t: quiet, table: tree([]Key{yes("services", ""), yes("services.*", "")}), met: map[string]bool{}}
	if err := json.Unmarshal([]byte(schema.Schema), &w.root); err != nil {
		t.Fatal(err)
	}
	w.walk(w.root, "", w.table)
	if !quiet.Failed() {
		t.Error("a table without `image` passes")
	}
}

type schemaWalk struct {
	t     *testing.T
	root  map[string]any
	table *pattern
	met   map[string]bool
}

func (w schemaWalk) walk(s map[string]any, path string, pat *pattern) {
	if ref, ok := s["$ref"].(string); ok {
		defs := w.root["$defs"].(map[string]any)
		w.walk(defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any), path, pat)
	}
	for _, key := range []string{"allOf", "oneOf", "anyOf"} {
		branches, _ := s[key].([]any)
		for _, branch := range branches {
			w.walk(branch.(map[string]any), path, pat)
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		w.property(properties[name].(map[string]any), join(path, name), pat.child(name))
	}
	names, _ := s["patternProperties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if name != "^x-" {
			w.met[path+".*"] = true
			if below := or(pat.any); below.Verdict == Supported {
				w.walk(names[name].(map[string]any), path+".*", below)
			}
		}
	}
	if items, ok := s["items"].(map[string]any); ok {
		w.met[path+"[]"] = true
		w.walk(items, path+"[]", or(pat.item))
	}
}

// or stands in for a level that the table does not name, such as the names of labels.
func or(p *pattern) *pattern {
	if p == nil {
		return newPattern()
	}
	return p
}

func (w schemaWalk) property(s map[string]any, path string, pat *pattern) {
	w.met[path] = true
	if pat == nil || pat.Path == "" {
		w.t.Errorf("%s is in Compose's schema, but not in the table: decide what becomes of it", path)
		return
	}
	if pat.Verdict == Supported {
		w.walk(s, path, pat)
	}
}

// TestTable: every key is printed once, a refusal says why, and what to do instead if anything.
func TestTable(t *testing.T) {
	text := Table()
	seen := map[string]bool{}
	for _, k := range Keys() {
		if seen[k.Path] {
			t.Errorf("%s is in the table twice", k.Path)
		}
		seen[k.Path] = true
		if k.Verdict != Supported && k.Note == "" {
			t.Errorf("%s is %s without a reason", k.Path, k.Verdict)
		}
		if !strings.Contains(text, "  "+k.Path+" ") && !strings.Contains(text, "  "+k.Path+"\n") {
			t.Errorf("%s is not printed", k.Path)
		}
	}
}

func TestNearest(t *testing.T) {
	for _, c := range []struct{ wrong, right string }{
		{"enviroment", "environment"}, {"Image", "image"}, {"port", "ports"}, {"helthcheck", "healthcheck"}, {"frobnicate", ""},
	} {
		if got := nearest(c.wrong, tree(Keys()).child("services").any.known()); got != c.right {
			t.Errorf("for %q %q is suggested, not %q", c.wrong, got, c.right)
		}
	}
}

func TestUnset(t *testing.T) {
	env := map[string]string{"SET": "x", "EMPTY": ""}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	for text, want := range map[string]string{
		"plain":                      "",
		"$SET ${SET} ${EMPTY}":       "",
		"$GONE":                      "GONE",
		"${A:-x}/app:${B}":           "B",
		"${A}-${B}":                  "A B",
		"$$GONE $$${GONE}":           "GONE",
		"${A:-${B}}":                 "B",
		"${A:-${B:-c}}":              "",
		"${EMPTY:-${B}}":             "B",
		"${EMPTY-${B}}":              "",
		"${SET:+${B}}":               "B",
		"${GONE:+${B}}":              "",
		"${GONE:?say so}":            "", // compose-go's own error
		"${":                         "",
		"$":                          "",
		"${SET":                      "",
		"100$":                       "",
		strings.Repeat("${A:-", 100): "",
	} {
		if got := strings.Join(unset(text, lookup, 0), " "); got != want {
			t.Errorf("%s lacks %q, not %q", text, got, want)
		}
	}
}
