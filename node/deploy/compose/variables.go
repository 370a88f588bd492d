package compose

import (
	"fmt"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"

	"github.com/ployz/ployz/node/api"
)

// variables refuses ${...} that cannot be filled in. Compose puts nothing in the place of a
// variable that is not set and goes on; an image without its tag, or an empty password, is not
// what anyone wants to deploy, so here it has to be written as ${NAME:-} when it is meant.
func (l *loader) variables(src *source, node *yaml.Node, path string) {
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			l.variables(src, node.Content[i+1], join(path, node.Content[i].Value))
		}
	case yaml.SequenceNode:
		for i, item := range node.Content {
			l.variables(src, item, fmt.Sprintf("%s[%d]", path, i))
		}
	case yaml.ScalarNode:
		l.scalar(src.at(node), path, node.Value)
	}
}

func (l *loader) scalar(at place, path, value string) {
	if !strings.Contains(value, "$") {
		return
	}
	if crowded(value) {
		l.add(at, path, api.Errorf(api.CodeComposeValue, "a line of it has more than %d variables", maxVariablesPerLine).
			WithHint("break it into several lines, or $$ for a plain dollar sign"))
		return
	}
	missing := unset(value, l.lookup, 0)
	for _, name := range missing {
		l.add(at, path, api.Errorf(api.CodeComposeVariable, "the variable %s is not set", name).
			WithHint("export %s=..., put it into .env, or write ${%s:-} for nothing; $$ is a plain dollar sign", name, name))
	}
	if len(missing) > 0 {
		return
	}
	_, err := template.SubstituteWithOptions(value, l.lookup, template.WithoutLogging)
	if err == nil {
		return
	}
	code := api.CodeComposeValue
	if strings.HasPrefix(err.Error(), "required variable") {
		code = api.CodeComposeVariable
	}
	l.add(at, path, api.Errorf(code, "%w", err).WithHint("a variable is written ${NAME}; $$ is a plain dollar sign"))
}

// unset lists the variables whose value a text needs and which have none.
func unset(text string, lookup func(string) (string, bool), depth int) (missing []string) {
	for depth < maxDepth {
		at := strings.IndexByte(text, '$')
		if at < 0 || at+1 == len(text) {
			return missing
		}
		text = text[at+1:]
		switch {
		case text[0] == '$':
			text = text[1:]
		case text[0] == '{':
			end := closing(text)
			if end == len(text) {
				return missing // malformed: compose-go's own message is better
			}
			missing = append(missing, unsetBraced(text[1:end], lookup, depth)...)
			text = text[end:]
		default:
			name := text[:nameLength(text)]
			if _, ok := lookup(name); name != "" && !ok {
				missing = append(missing, name)
			}
			text = text[len(name):]
		}
	}
	return missing
}

// unsetBraced looks into NAME, NAME:-default, NAME:+instead or NAME:?message.
func unsetBraced(inner string, lookup func(string) (string, bool), depth int) []string {
	name := inner[:nameLength(inner)]
	value, ok := lookup(name)
	operator := strings.TrimPrefix(inner[len(name):], ":")
	colon := len(operator) < len(inner)-len(name)
	set := ok && (!colon || value != "")
	switch {
	case name == "":
		return nil // malformed: compose-go's own message is better
	case operator == "":
		if !ok {
			return []string{name}
		}
	case operator[0] == '-' && !set, operator[0] == '+' && set:
		return unset(operator[1:], lookup, depth+1)
	}
	return nil
}

// nameLength is how many bytes at the front of a text are a variable's name.
func nameLength(text string) int {
	for i := range len(text) {
		c := text[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(text)
}

// closing is the index of the brace that closes the one at the front, or the end.
func closing(text string) int {
	open := 0
	for i := range len(text) {
		switch text[i] {
		case '{':
			open++
		case '}':
			if open--; open == 0 {
				return i
			}
		}
	}
	return len(text)
}
