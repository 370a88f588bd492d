package compose

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"

	"github.com/ployz/ployz/node/api"
)

// listOrigin is the node a list was read from, and whether another was merged into it.
type listOrigin struct {
	node  *yaml.Node
	mixed bool
}

func (s *source) at(n *yaml.Node) place { return place{file: s.shown, order: s.order, line: n.Line} }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// walkAll goes through every file's own tree: keys against the table, and places.
func (l *loader) walkAll() {
	root := tree(Keys())
	for i, src := range l.sources {
		src.order = i
		l.check(src)
		l.mapping(src, src.root, "", root, 0)
	}
	if l.budget <= 0 {
		l.add(place{file: l.sources[0].shown}, "", api.Errorf(api.CodeComposeSyntax, "it grows beyond %d values when its aliases are followed", maxNodes))
	}
}

func (l *loader) check(src *source) {
	if !src.checked {
		src.checked = true
		l.variables(src, src.root, "")
	}
}

// pair is one key of a mapping, its own or merged in with <<.
type pair struct{ key, value *yaml.Node }

// pairs are a mapping's keys with those that << brings, which its own outrank.
func (l *loader) pairs(node *yaml.Node, depth int) (own []pair) {
	var merged []pair
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if l.budget--; l.budget < 0 || depth > maxDepth {
			break
		}
		if key.Tag == "!!merge" || key.Value == "<<" {
			merged = append(merged, l.merged(value, depth+1)...)
			continue
		}
		own = append(own, pair{key, value})
	}
	for _, m := range merged {
		if !slices.ContainsFunc(own, func(p pair) bool { return p.key.Value == m.key.Value }) {
			own = append(own, m)
		}
	}
	return own
}

func (l *loader) merged(value *yaml.Node, depth int) []pair {
	value = target(value)
	switch value.Kind {
	case yaml.MappingNode:
		return l.pairs(value, depth)
	case yaml.SequenceNode:
		var all []pair
		for _, item := range value.Content {
			if item = target(item); item.Kind == yaml.MappingNode {
				all = append(all, l.pairs(item, depth)...)
			}
		}
		return all
	}
	return nil
}

// target is what an alias stands for.
func target(n *yaml.Node) *yaml.Node {
	for i := 0; n.Kind == yaml.AliasNode && n.Alias != nil && i < maxDepth; i++ {
		n = n.Alias
	}
	return n
}

// mapping checks the keys of one mapping against the table.
func (l *loader) mapping(src *source, node *yaml.Node, path string, pat *pattern, depth int) {
	seen := map[string]bool{}
	for _, p := range l.pairs(node, depth) {
		key := join(path, p.key.Value)
		if seen[p.key.Value] {
			l.add(src.at(p.key), key, api.Errorf(api.CodeComposeSyntax, "the key is there twice").WithHint("take one of them away"))
			continue
		}
		seen[p.key.Value] = true
		l.entry(src, p, key, pat.child(p.key.Value), pat, depth)
	}
}

func (l *loader) entry(src *source, p pair, path string, pat, above *pattern, depth int) {
	if value := target(p.value); value.Tag == "!reset" || value.Tag == "!override" {
		l.forget(path)
		if value.Tag == "!reset" {
			return
		}
	}
	if pat != nil && pat.service {
		l.extended(src, p.value, path, pat, depth)
	}
	l.places[path] = src.at(p.key)
	if pat == nil {
		l.stranger(src.at(p.key), path, p.key.Value, above)
		return
	}
	switch pat.Verdict {
	case Refused:
		l.add(src.at(p.key), path, pat.refusal(seen(p.value)))
	case Harmless:
		if target(p.value).Tag != "!!null" {
			l.note(path, "%s", pat.Note)
		}
	default:
		l.value(src, p.value, path, pat, depth+1)
	}
}

// value goes on below a supported key. What the table does not go into is indexed, not checked:
// its keys are names of the operator's own.
func (l *loader) value(src *source, node *yaml.Node, path string, pat *pattern, depth int) {
	node = target(node)
	if l.budget--; l.budget < 0 || depth > maxDepth {
		return
	}
	switch node.Kind {
	case yaml.MappingNode:
		if pat.leaf() {
			for _, p := range l.pairs(node, depth) {
				l.places[join(path, p.key.Value)] = src.at(p.key)
			}
			return
		}
		l.mapping(src, node, path, pat, depth)
	case yaml.SequenceNode:
		l.list(src, node, path, pat, depth)
	case yaml.ScalarNode:
		l.decimalMode(src.at(node), node, path)
		if pat.Path == "services.*.ports[]" {
			l.ranged(src.at(node), path, node.Value)
		}
		if pat.Path == "services.*.volumes[]" {
			l.shortMount(src.at(node), path, node.Value)
		}
	}
}

// decimalMode refuses permissions such as 440, which YAML reads as a decimal number.
func (l *loader) decimalMode(at place, node *yaml.Node, path string) {
	if !strings.HasSuffix(path, ".mode") || node.Tag != "!!int" || strings.HasPrefix(node.Value, "0") {
		return
	}
	l.add(at, path, api.Errorf(api.CodeComposeValue, "%s is a decimal number, which is %s in octal", node.Value, octal(node.Value)).
		WithHint("permissions are octal: write 0%s, or %q", node.Value, node.Value))
	l.found[len(l.found)-1].mild = true
}

func octal(decimal string) string {
	n, err := strconv.ParseUint(decimal, 10, 32)
	if err != nil {
		return "no permissions"
	}
	return fmt.Sprintf("%#o", n)
}

func (l *loader) list(src *source, node *yaml.Node, path string, pat *pattern, depth int) {
	origin := l.lists[path]
	mixed := origin.mixed || origin.node != nil && origin.node != node
	l.lists[path] = listOrigin{node: node, mixed: mixed}
	for i, item := range node.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		// Once two lists were merged, an index no longer tells which of them an item came from.
		if mixed {
			delete(l.places, at)
		} else {
			l.places[at] = src.at(item)
		}
		if pat.item != nil {
			l.value(src, item, at, pat.item, depth+1)
		}
	}
}

// stranger is a key that the table does not have.
func (l *loader) stranger(at place, path, key string, above *pattern) {
	if strings.HasPrefix(key, "x-") && distance(key, "x-ployz") > 2 {
		return // other tools' keys, and places to keep anchors: Compose's own way of saying "not for you"
	}
	err := api.Errorf(api.CodeComposeUnknown, "there is no key %q", key)
	if near := nearest(key, above.known()); near != "" {
		err.WithHint("did you mean %q?", near)
	} else {
		err.WithHint("the keys are listed by: ployzctl help compose")
	}
	l.add(at, path, err)
}

// extended walks the service that another one extends, as a part of that one.
func (l *loader) extended(src *source, node *yaml.Node, path string, pat *pattern, depth int) {
	node = target(node)
	if node.Kind != yaml.MappingNode || depth > maxDepth {
		return
	}
	key, extends := child(node, "extends")
	if extends == nil {
		return
	}
	l.places[path+".extends"] = src.at(key)
	service, base := l.base(src, target(extends), path)
	if base == nil {
		return
	}
	if _, services := child(base.root, "services"); services != nil {
		if _, found := child(target(services), service); found != nil {
			// The base's own base first, then the base: the order in which they are merged.
			l.extended(base, found, path, pat, depth+1)
			if found = target(found); found.Kind == yaml.MappingNode && found != node {
				l.mapping(base, found, path, pat, depth+1)
			}
			return
		}
	}
	l.problem(path+".extends", api.Errorf(api.CodeComposeValue, "%s has no service %q", base.shown, service).
		WithHint("name a service of that file"))
}

// base returns the service and the file that `extends` names.
func (l *loader) base(src *source, extends *yaml.Node, path string) (string, *source) {
	if extends.Kind == yaml.ScalarNode {
		return l.filled(extends.Value), src
	}
	_, service := child(extends, "service")
	_, file := child(extends, "file")
	if service == nil {
		return "", nil // compose-go says so
	}
	if file == nil {
		return l.filled(service.Value), src
	}
	return l.filled(service.Value), l.other(src, l.filled(file.Value), path+".extends.file")
}

// other opens a file that one of the files names, once.
func (l *loader) other(from *source, name, path string) *source {
	shown := name
	if !filepath.IsAbs(name) {
		shown = filepath.Join(filepath.Dir(from.shown), name)
	}
	abs, err := filepath.Abs(shown)
	if err == nil && l.opened[abs] != nil {
		return l.opened[abs]
	}
	content, err := readRegular(shown)
	if err != nil {
		l.problem(path, missingFile(shown, err))
		return nil
	}
	src, err := readSource(shown, content)
	if err != nil {
		l.problem(path, api.AsError(err))
		return nil
	}
	src.order = len(l.opened)
	l.opened[src.path] = src
	l.check(src)
	return src
}

func missingFile(shown string, err error) *api.Error {
	return api.Errorf(api.CodeComposeFile, "the file %s cannot be read: %w", shown, err).
		WithHint("paths are relative to the Compose file; create it, or correct the path")
}

// filled puts variables into a text; what is wrong with them was said elsewhere.
func (l *loader) filled(text string) string {
	if crowded(text) {
		return text
	}
	out, _ := template.SubstituteWithOptions(text, l.lookup, template.WithoutLogging)
	return out
}

// child returns a mapping's key and value.
func child(node *yaml.Node, name string) (key, value *yaml.Node) {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i], target(node.Content[i+1])
		}
	}
	return nil, nil
}

// seen is a value in a few words, for a message.
func seen(n *yaml.Node) string {
	n = target(n)
	switch {
	case n.Kind == yaml.MappingNode:
		return fmt.Sprintf("a mapping of %d", len(n.Content)/2)
	case n.Kind == yaml.SequenceNode:
		return fmt.Sprintf("a list of %d", len(n.Content))
	case len(n.Value) > 60:
		return fmt.Sprintf("%q...", n.Value[:60])
	}
	return fmt.Sprintf("%q", n.Value)
}
