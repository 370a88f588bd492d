package compose

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	composego "github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/ployz/ployz/node/api"
)

// project lets compose-go merge the files. When it fails, what our own walk found is reported, as
// that says the same with more lines; only when that found nothing does compose-go's word count.
func (l *loader) project(ctx context.Context) (*types.Project, error) {
	if l.hopeless() {
		return nil, l.err()
	}
	project, err := l.merge(ctx)
	if err == nil {
		return project, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err := l.err(); err != nil {
		return nil, err
	}
	l.translate(err)
	return nil, l.err()
}

// hopeless reports findings on which compose-go must not be tried: it would fail as well, would
// log to standard error about variables, or read a file that never ends.
func (l *loader) hopeless() bool {
	return slices.ContainsFunc(l.found, func(f finding) bool {
		return f.err != nil && (!f.mild || strings.HasSuffix(f.path, ".external.name"))
	})
}

func (l *loader) merge(ctx context.Context) (project *types.Project, err error) {
	defer func() { // compose-go asserts types in places that odd input reaches
		if r := recover(); r != nil {
			project, err = nil, fmt.Errorf("it cannot be understood: %v", r)
		}
	}()
	details := types.ConfigDetails{WorkingDir: filepath.Dir(l.sources[0].path), Environment: maps.Clone(l.env)}
	for _, src := range l.sources {
		content := src.content
		if child, _ := child(src.root, "version"); child != nil {
			content = without(content, child.Line) // else compose-go logs about it; we have a note
		}
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: src.path, Content: content})
	}
	return composego.LoadWithContext(ctx, details, func(o *composego.Options) {
		o.SetProjectName(l.namespace, true)
		o.Profiles = l.profiles()
		// Ours say where: consistency is checked and files are read while mapping.
		o.SkipConsistencyCheck = true
		o.SkipResolveEnvironment = true
		o.SkipResolveLabels = true
	})
}

// without comments out the line of a top-level key, keeping all other lines where they are.
func without(content []byte, line int) []byte {
	lines := strings.SplitAfter(string(content), "\n")
	if line < 1 || line > len(lines) || !versionLine.MatchString(lines[line-1]) {
		return content
	}
	lines[line-1] = "#" + lines[line-1]
	return []byte(strings.Join(lines, ""))
}

var (
	versionLine   = regexp.MustCompile(`^["']?version["']?\s*:\s*["']?[0-9.]+["']?\s*(#.*)?\r?\n?$`)
	pathInMessage = regexp.MustCompile(`(services|secrets|configs|networks|volumes|name)((\.|\[)[A-Za-z0-9_.\-\[\]*]+)?`)
	indexSegment  = regexp.MustCompile(`\.(\d+)(\.|$)`)
)

// translate gives compose-go's error the place of the path in its message.
func (l *loader) translate(err error) {
	text := err.Error()
	for _, src := range l.sources {
		text = strings.ReplaceAll(text, "validating "+src.path+": ", "")
		text = strings.ReplaceAll(text, src.path, src.shown)
	}
	path := pathInMessage.FindString(text)
	if path == "" || !strings.Contains(path, ".") {
		l.add(place{file: l.sources[0].shown}, "", api.Errorf(api.CodeComposeValue, "%s", text))
		return
	}
	// compose-go writes the items of a list as .0, we as [0].
	rest := strings.TrimLeft(strings.Replace(text, path, "", 1), ": ")
	path = indexSegment.ReplaceAllString(strings.TrimSuffix(path, "."), "[$1]$2")
	l.add(l.find(path), path, api.Errorf(api.CodeComposeValue, "%s", rest).
		WithHint("what each key takes: https://github.com/compose-spec/compose-spec"))
}

// forgetDisabled drops what was found in services whose profiles are not active: they are not
// part of the deploy.
func (l *loader) forgetDisabled(project *types.Project) {
	for _, name := range slices.Sorted(maps.Keys(project.DisabledServices)) {
		path := "services." + name
		l.forget(path)
		l.note(path, "the service is left out: its profiles (%s) are not active", strings.Join(project.DisabledServices[name].Profiles, ", "))
	}
}

// short is a path as the operator would write it, where compose-go made it absolute.
func (l *loader) short(path string) string {
	if rest, ok := strings.CutPrefix(path, filepath.Dir(l.sources[0].path)+"/"); ok {
		return filepath.Join(filepath.Dir(l.sources[0].shown), rest)
	}
	return path
}
