package compose

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"

	"github.com/ployz/ployz/node/api"
)

// nameShape is what node/deploy takes as the name of a namespace or a service.
var nameShape = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,22}[a-z0-9])?$`)

const nameRule = "lower-case letters, digits and dashes, a letter first, at most 24"

// readEnv reads the file .env beside the first Compose file, if there is one.
func (l *loader) readEnv() error {
	path := filepath.Join(filepath.Dir(l.sources[0].path), ".env")
	shown := filepath.Join(filepath.Dir(l.sources[0].shown), ".env")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	content, err := readRegular(path)
	if err != nil {
		return api.Errorf(api.CodeComposeUnreadable, "%w", err).About(shown)
	}
	read, err := dotenv.ParseWithLookup(bytes.NewReader(content), l.caller)
	if err != nil {
		return syntax(shown, err).WithHint("each line is NAME=value")
	}
	l.env = read
	return nil
}

func (l *loader) caller(name string) (string, bool) {
	v, ok := l.Env[name]
	return v, ok
}

func (l *loader) lookup(name string) (string, bool) {
	v, ok := l.env[name]
	return v, ok
}

// name decides the namespace: the option, the last file's `name`, or the folder.
func (l *loader) name() {
	at, path, hint := place{file: l.sources[0].shown}, "", "write `name: NAME` at the top of the file"
	l.namespace = l.Name
	if l.Name == "" {
		l.namespace = filepath.Base(filepath.Dir(l.sources[0].path))
		for i, src := range l.sources {
			if key, value := child(src.root, "name"); value != nil {
				// An error in it is found again, with its place, when variables are checked.
				l.namespace = l.filled(value.Value)
				at, path, hint = place{file: src.shown, order: i, line: key.Line}, "name", "take a name such as my-shop"
			}
		}
	}
	if !nameShape.MatchString(l.namespace) {
		l.add(at, path, api.Errorf(api.CodeComposeName, "%q cannot be a namespace: %s", l.namespace, nameRule).WithHint("%s", hint))
	}
	for _, name := range []string{"COMPOSE_PROJECT_NAME", "COMPOSE_FILE"} {
		if l.env[name] != "" {
			l.note("", "the variable %s=%s is not used: say it on the command line", name, l.env[name])
		}
	}
	// As in Compose, the file may use the name that was decided.
	l.env["COMPOSE_PROJECT_NAME"] = l.namespace
}

func (l *loader) profiles() []string {
	if len(l.Profiles) > 0 || l.env["COMPOSE_PROFILES"] == "" {
		return l.Profiles
	}
	var names []string
	for _, name := range strings.Split(l.env["COMPOSE_PROFILES"], ",") {
		names = append(names, strings.TrimSpace(name))
	}
	return names
}
