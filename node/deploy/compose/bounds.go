package compose

import (
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ployz/ployz/node/api"
)

// compose-go takes minutes, or all memory, over files that nobody writes by hand: aliases of
// aliases, an alias inside its own anchor, nesting without end, lines of variables, ranges of
// all ports. Such a file is refused before compose-go sees it.
const (
	maxNesting          = 64
	maxVariablesPerLine = 32
	maxRangedPorts      = 1000
)

// bounds measures a tree as large as it is with every alias followed.
type bounds struct {
	shown string
	sizes map[*yaml.Node]int
	// open are the nodes that the present one is part of.
	open map[*yaml.Node]bool
}

func checkBounds(shown string, root *yaml.Node) error {
	b := bounds{shown: shown, sizes: map[*yaml.Node]int{}, open: map[*yaml.Node]bool{}}
	size, err := b.size(root, 0)
	if err != nil {
		return err
	}
	if size > maxNodes {
		return b.refuse(root, "it has more than %d values when its aliases are followed", maxNodes)
	}
	return nil
}

func (b bounds) size(n *yaml.Node, depth int) (int, error) {
	switch {
	case b.open[n]:
		return 0, b.refuse(n, "the anchor %q is used inside itself", n.Anchor)
	case depth > maxNesting:
		return 0, b.refuse(n, "it is nested deeper than %d levels", maxNesting)
	case b.sizes[n] > 0:
		return b.sizes[n], nil
	}
	b.open[n] = true
	defer delete(b.open, n)
	total, parts := 1, n.Content
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		parts = []*yaml.Node{n.Alias}
	}
	for _, part := range parts {
		size, err := b.size(part, depth+1)
		if err != nil {
			return 0, err
		}
		total = min(total+size, maxNodes+1)
	}
	b.sizes[n] = total
	return total, nil
}

func (b bounds) refuse(n *yaml.Node, format string, args ...any) error {
	return api.Errorf(api.CodeComposeSyntax, format, args...).
		About(subject(place{file: b.shown, line: n.Line}, "")).WithHint("write it out more simply")
}

// crowded reports a line with more variables than anyone would write.
func crowded(text string) bool {
	for line := range strings.Lines(text) {
		if strings.Count(line, "${") > maxVariablesPerLine {
			return true
		}
	}
	return false
}

var portRange = regexp.MustCompile(`(\d+)-(\d+)`)

// ranged counts the ports that an item of `ports` stands for, and refuses too many in one file.
func (l *loader) ranged(at place, path, text string) {
	if m := portRange.FindStringSubmatch(l.filled(text)); m != nil {
		from, err1 := strconv.ParseUint(m[1], 10, 16)
		to, err2 := strconv.ParseUint(m[2], 10, 16)
		if err1 == nil && err2 == nil && to > from {
			l.ports += int(to - from)
		}
	}
	if l.ports > maxRangedPorts {
		l.ports = 0
		l.add(at, path, api.Errorf(api.CodeComposeValue, "%q and the ranges before it are more than %d ports", text, maxRangedPorts).
			WithHint("publish those that are used; services of the namespace reach each other on every port"))
	}
}
