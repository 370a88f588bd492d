package compose

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ployz/ployz/node/api"
)

// Limits of what is read: a Compose file beyond them is a mistake, or an attack.
const (
	maxFileBytes = 1 << 20
	maxNodes     = 100_000
	maxDepth     = 32
)

// source is one file, parsed twice: by compose-go for its meaning and here for its places.
type source struct {
	path    string // absolute
	shown   string // as the operator named it
	order   int
	content []byte
	root    *yaml.Node
	// checked is set once its variables have been looked at.
	checked bool
}

// fileNames and overrideNames are Compose's own, in its order of preference.
func fileNames() []string {
	return []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"}
}

func overrideNames() []string {
	return []string{"compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"}
}

// paths are the files to load: those named, or the usual ones of a folder.
func (l *loader) paths() ([]string, error) {
	path := l.Path
	if path == "" {
		path = "."
	}
	if l.Content != nil {
		return append([]string{path}, l.Overrides...), nil
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return append([]string{path}, l.Overrides...), nil
	}
	main := firstOf(path, fileNames())
	if main == "" {
		return nil, api.Errorf(api.CodeComposeUnreadable, "the folder has none of %s", strings.Join(fileNames(), ", ")).About(path).
			WithHint("name the file: ployzctl deploy -f FILE")
	}
	paths := []string{main}
	if over := firstOf(path, overrideNames()); over != "" {
		paths = append(paths, over)
	}
	return append(paths, l.Overrides...), nil
}

func firstOf(folder string, names []string) string {
	for _, name := range names {
		path := filepath.Join(folder, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// readSource reads and parses one file. Errors: compose.unreadable, compose.syntax.
func readSource(shown string, content []byte) (*source, error) {
	abs, err := filepath.Abs(shown)
	if err != nil {
		return nil, api.Errorf(api.CodeComposeUnreadable, "%w", err).About(shown)
	}
	if content == nil {
		if content, err = readRegular(shown); err != nil {
			return nil, api.Errorf(api.CodeComposeUnreadable, "%w", err).About(shown).WithHint("name the file: ployzctl deploy -f FILE")
		}
	}
	if len(content) > maxFileBytes {
		return nil, api.Errorf(api.CodeComposeUnreadable, "it is larger than %d bytes", maxFileBytes).About(shown)
	}
	root, err := parse(shown, content)
	if err != nil {
		return nil, err
	}
	return &source{path: abs, shown: shown, content: content, root: root}, nil
}

// readRegular reads a file, but neither a device nor a pipe, which may never end.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, plain(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if info.Size() > maxFileBytes {
		return nil, errors.New("it is larger than " + strconv.Itoa(maxFileBytes) + " bytes")
	}
	content, err := os.ReadFile(path)
	return content, plain(err)
}

// plain takes the path out of an error whose subject has it already.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

var lineInMessage = regexp.MustCompile(`line (\d+)`)

// parse returns the one mapping of a file.
func parse(shown string, content []byte) (root *yaml.Node, err error) {
	defer func() { // the parser is for input from outside; a defect of it is that file's error
		if r := recover(); r != nil {
			root, err = nil, api.Errorf(api.CodeComposeSyntax, "it cannot be parsed: %v", r).About(shown)
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var doc yaml.Node
	if err := decoder.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, syntax(shown, err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, api.Errorf(api.CodeComposeSyntax, "it is empty").About(shown)
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, syntax(shown, err)
		}
		return nil, api.Errorf(api.CodeComposeSyntax, "it holds more than one document").About(shown).
			WithHint("one file is one namespace: put each document into a file of its own")
	}
	root = doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, api.Errorf(api.CodeComposeSyntax, "it is no mapping: it should begin with keys such as `services:`").
			About(subject(place{file: shown, line: root.Line}, ""))
	}
	return root, checkBounds(shown, root)
}

func syntax(shown string, err error) *api.Error {
	at := place{file: shown}
	if m := lineInMessage.FindStringSubmatch(err.Error()); m != nil {
		at.line, _ = strconv.Atoi(m[1]) // digits by the pattern; too many of them mean no line
	}
	return api.Errorf(api.CodeComposeSyntax, "not YAML: %w", err).About(subject(at, "")).
		WithHint("look at the indentation there and in the line above")
}
