package compose

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// Verdict is what becomes of a key.
type Verdict string

// The verdicts.
const (
	// Supported keys do what the Compose specification says, but for what Note says.
	Supported Verdict = "supported"
	// Harmless keys change nothing here, and nothing is lost: each one seen gives a Note.
	Harmless Verdict = "no effect"
	// Refused keys end the deploy before it begins.
	Refused Verdict = "refused"
)

// Key is one key of a Compose file. In Path, "*" is a name of the operator's own and "[]" an item
// of a list. A key below one that is refused or harmless shares its verdict.
type Key struct {
	Path    string  `json:"path"`
	Verdict Verdict `json:"verdict"`
	// Note is how a supported key is understood, or why the key is not.
	Note string `json:"note,omitempty"`
	// Instead is what to write or do in the place of a refused key.
	Instead string `json:"instead,omitempty"`
}

// Keys is the table of every key, in the order in which it is printed.
func Keys() []Key {
	return slices.Concat(topKeys(), serviceKeys(), deployKeys(), refusedServiceKeys(), ployzKeys())
}

// Table is the table as text, for `ployzctl deploy --help` and the README.
func Table() string {
	var b strings.Builder
	width := 0
	for _, k := range Keys() {
		width = max(width, len(k.Path))
	}
	for _, v := range []Verdict{Supported, Harmless, Refused} {
		fmt.Fprintf(&b, "%s:\n", strings.ToUpper(string(v)))
		for _, k := range Keys() {
			if k.Verdict == v {
				fmt.Fprintf(&b, "  %s\n", strings.TrimRight(fmt.Sprintf("%-*s  %s", width, k.Path, k.text()), " "))
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString("Keys that begin with x- are for other tools and are passed over, except x-ployz.\n")
	return b.String()
}

func (k Key) text() string {
	if k.Instead == "" {
		return k.Note
	}
	return k.Note + "; instead: " + k.Instead
}

// refusal is the error for a refused key with a value.
func (k Key) refusal(value string) *api.Error {
	e := api.Errorf(api.CodeComposeUnsupported, "is not supported (value seen: %s): %s", value, k.Note)
	if k.Instead != "" {
		return e.WithHint("%s", k.Instead)
	}
	return e.WithHint("take the key away; all keys: ployzctl deploy --help")
}

// pattern is the table as a tree, to be walked beside a file.
type pattern struct {
	Key
	names     map[string]*pattern
	any, item *pattern
	// service marks services.*, below which `extends` may bring another service in.
	service bool
}

func newPattern() *pattern {
	return &pattern{Key: Key{Verdict: Supported}, names: map[string]*pattern{}}
}

func tree(keys []Key) *pattern {
	root := newPattern()
	for _, k := range keys {
		at := root
		for _, segment := range strings.Split(strings.ReplaceAll(k.Path, "[]", ".[]"), ".") {
			at = at.down(segment)
		}
		at.Key = k
		at.service = k.Path == "services.*"
	}
	return root
}

func (p *pattern) down(segment string) *pattern {
	next := &p.any
	switch segment {
	case "*":
	case "[]":
		next = &p.item
	default:
		if p.names[segment] == nil {
			p.names[segment] = newPattern()
		}
		return p.names[segment]
	}
	if *next == nil {
		*next = newPattern()
	}
	return *next
}

func (p *pattern) child(name string) *pattern {
	if c := p.names[name]; c != nil {
		return c
	}
	return p.any
}

func (p *pattern) leaf() bool      { return len(p.names) == 0 && p.any == nil }
func (p *pattern) known() []string { return slices.Sorted(maps.Keys(p.names)) }

// nearest is the known name that a misspelt one most likely means, or "".
func nearest(name string, known []string) string {
	best, at := "", max(2, len(name)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(name), k); d < at {
			best, at = k, d
		}
	}
	return best
}

// distance is how many letters must be put in, taken out or changed to turn one name into another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
