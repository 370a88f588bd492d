package compose

import (
	"context"
	"maps"

	"github.com/ployz/ployz/node/api"
)

// Options say what to load.
type Options struct {
	// Path is the Compose file, or a folder with one under its usual name, beside which an
	// override file under its usual name is taken too; "" is the present folder.
	Path string
	// Overrides are further files, merged over the first in order, as Compose does.
	Overrides []string
	// Content, when set, is read instead of the file at Path, which then only names it: stdin.
	Content []byte
	// Env are the variables of the caller, for ${...}; a file .env beside Path adds to them
	// what they lack. Nothing else is taken from the environment.
	Env map[string]string
	// Profiles to activate; when empty, COMPOSE_PROFILES of Env or .env counts.
	Profiles []string
	// Name is the namespace and outranks the file's own `name`.
	Name string
}

// Note tells the operator about something in the file that has no effect, or that is understood
// in a way one may not expect. Nothing is wrong.
type Note struct {
	// Place is "compose.yaml:14: services.web.expose".
	Place string `json:"place"`
	Text  string `json:"text"`
}

// Load reads a Compose file, with all that it names, into a spec that can be sent to the daemon.
// The spec's names and values have been checked as far as the file alone tells; what is impossible
// only in sight of the cluster is for node/deploy to find.
//
// Errors: compose.unreadable, compose.syntax, compose.unknown-key, compose.unsupported-key,
// compose.bad-value, compose.bad-name, compose.variable-unset, compose.file-missing; two or more
// of them come as compose.invalid with Details, in the order of the file.
func Load(ctx context.Context, o Options) (api.Spec, []Note, error) {
	l, err := open(o)
	if err != nil {
		return api.Spec{}, nil, err
	}
	l.walkAll()
	project, err := l.project(ctx)
	if err != nil {
		return api.Spec{}, nil, err
	}
	m := mapper{loader: l, project: project, spec: api.Spec{
		Namespace: l.namespace,
		Services:  map[string]api.Service{},
		Secrets:   map[string]api.Secret{},
		Configs:   map[string]api.Config{},
		Volumes:   map[string]api.Volume{},
	}}
	l.forgetDisabled(project)
	m.all()
	if err := l.err(); err != nil {
		return api.Spec{}, nil, err
	}
	return m.spec, l.sortedNotes(), nil
}

// loader holds the files, and what was found in them.
type loader struct {
	Options
	sources   []*source
	opened    map[string]*source
	env       map[string]string
	namespace string
	places    map[string]place
	// lists remembers which node a list came from; a list merged from several has no places.
	lists map[string]listOrigin
	found []finding
	// budget bounds the walk, so that aliases of aliases cannot keep it busy for ever.
	budget int
	// ports counts what ranges of published ports stand for.
	ports int
}

// open reads the named files, the environment and the namespace.
func open(o Options) (*loader, error) {
	l := &loader{Options: o, opened: map[string]*source{}, env: map[string]string{},
		places: map[string]place{}, lists: map[string]listOrigin{}, budget: maxNodes}
	paths, err := l.paths()
	if err != nil {
		return nil, err
	}
	for i, path := range paths {
		content := o.Content
		if i > 0 {
			content = nil
		}
		src, err := readSource(path, content)
		if err != nil {
			return nil, err
		}
		l.sources = append(l.sources, src)
		l.opened[src.path] = src
	}
	if err := l.readEnv(); err != nil {
		return nil, err
	}
	maps.Copy(l.env, o.Env)
	l.name()
	return l, l.err()
}
