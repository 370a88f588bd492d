package compose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// place is where a key stands: file as the operator named it, and its line, from 1.
type place struct {
	file  string
	order int // of the file, for sorting
	line  int
}

// finding is one problem or one note, at a path of the merged file.
type finding struct {
	path  string
	place place
	err   *api.Error // nil for a note
	note  string
	// mild problems do not keep compose-go from understanding the rest.
	mild bool
}

func (f finding) subject() string { return subject(f.place, f.path) }

func subject(p place, path string) string {
	switch {
	case p.line == 0 && path == "":
		return p.file
	case p.line == 0:
		return p.file + ": " + path
	case path == "":
		return fmt.Sprintf("%s:%d", p.file, p.line)
	}
	return fmt.Sprintf("%s:%d: %s", p.file, p.line, path)
}

// add keeps a problem at a place that the caller knows.
func (l *loader) add(at place, path string, err *api.Error) {
	f := finding{path: path, place: at, err: err, mild: err.Code == api.CodeComposeUnsupported}
	err.About(f.subject())
	l.found = append(l.found, f)
}

// problem keeps a problem at a path, unless a key above it was refused already: one mistake, one
// message.
func (l *loader) problem(path string, err *api.Error) {
	for _, f := range l.found {
		if f.err != nil && (within(path, f.path) || within(f.path, path) && f.err.Code == api.CodeComposeUnsupported) {
			return
		}
	}
	l.add(l.find(path), path, err)
}

func (l *loader) note(path, format string, args ...any) {
	l.found = append(l.found, finding{path: path, place: l.find(path), note: fmt.Sprintf(format, args...)})
}

// within reports whether a path is another or below it.
func within(path, above string) bool {
	rest, ok := strings.CutPrefix(path, above)
	return ok && above != "" && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// find returns the place of a path, or of the nearest thing above it that has one.
func (l *loader) find(path string) place {
	for path != "" {
		if p, ok := l.places[path]; ok {
			return p
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return place{file: l.sources[0].shown}
}

// forget drops what was found at a path and below: a later file replaces it.
func (l *loader) forget(path string) {
	l.found = slices.DeleteFunc(l.found, func(f finding) bool { return within(f.path, path) })
}

// err is everything that is wrong, in the order of the files.
func (l *loader) err() error {
	l.sort()
	var all []*api.Error
	for _, f := range l.found {
		if f.err != nil {
			all = append(all, f.err)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	e := api.Errorf(api.CodeComposeInvalid, "%d things in it cannot be deployed", len(all)).About(l.sources[0].shown)
	e.Details = all
	return e
}

func (l *loader) sort() {
	slices.SortStableFunc(l.found, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.place.order, b.place.order), cmp.Compare(a.place.line, b.place.line), cmp.Compare(a.path, b.path))
	})
}

func (l *loader) sortedNotes() (notes []Note) {
	l.sort()
	for _, f := range l.found {
		if f.err == nil {
			notes = append(notes, Note{Place: f.subject(), Text: f.note})
		}
	}
	return notes
}
