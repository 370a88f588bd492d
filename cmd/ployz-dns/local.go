package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/ployz/ployz/datapath/dns"
	"github.com/ployz/ployz/node/machine"
)

const (
	// settle is how long the folder must have been quiet before it is read: files come in bursts.
	settle = 2 * time.Millisecond
	// lookLocal is how often it is read all the same, lookBlind that where changes are not told.
	lookLocal = 10 * time.Second
	lookBlind = 250 * time.Millisecond
)

// local watches what this machine knows by itself: who it is, and the addresses of its instances,
// also of those that no commit names yet.
type local struct {
	state string
	log   *slog.Logger
	// show gets both whenever the folder changed.
	show func(self machine.Identity, known error, locals []dns.Local)
}

func (l *local) workloads() string { return filepath.Join(l.state, "workloads") }

// read looks at the disk now.
func (l *local) read() {
	self, err := machine.LoadIdentity(l.state)
	l.show(self, err, l.addresses())
}

// addresses reads every instance's link.json. One that is damaged, or was removed meanwhile, is
// left out: its instance is then known by its IPv6 address, or once it is committed.
func (l *local) addresses() []dns.Local {
	files, err := filepath.Glob(filepath.Join(l.workloads(), "*", "link.json"))
	if err != nil {
		return nil
	}
	var out []dns.Local
	seen := map[netip.Addr]bool{}
	for _, file := range files {
		var link struct{ V4, V6 netip.Addr }
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &link)
		}
		id := uint32(0)
		if link.V6.Is6() {
			id = namespaceIn(link.V6)
		}
		if err != nil || !link.V4.Is4() || id == 0 || seen[link.V4] {
			if !errors.Is(err, fs.ErrNotExist) {
				l.log.Warn("an instance's link names no address of a namespace", "file", file, "error", err)
			}
			continue
		}
		seen[link.V4] = true
		out = append(out, dns.Local{V4: link.V4, Namespace: id})
	}
	return out
}

// watch reads again whenever something changed, until ctx ends.
func (l *local) watch(ctx context.Context) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		l.log.Warn("changes of the state folder are not told; it is looked at often", "error", err)
		l.poll(ctx, lookBlind)
		return
	}
	defer watcher.Close()
	if !l.subscribe(watcher) {
		l.poll(ctx, lookBlind)
		return
	}
	l.read() // what came before the watches was told to nobody
	for {
		select {
		case <-ctx.Done():
			return
		case event, ok := <-watcher.Events:
			if !ok {
				return
			}
			if !l.matters(event) || !quiet(ctx, watcher) {
				continue
			}
		case err := <-watcher.Errors: // some changes were not told
			l.log.Warn("watching the state folder", "error", err)
		case <-time.After(lookLocal):
		}
		// First the watches, then the look: what comes in between is told.
		l.subscribe(watcher)
		l.read()
	}
}

func (l *local) poll(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.read()
		}
	}
}

// subscribe watches the state folder, that of the instances and each instance's own. It is safe to
// repeat: what is watched already stays so. It reports whether changes will be told.
func (l *local) subscribe(w *fsnotify.Watcher) bool {
	if err := w.Add(l.state); err != nil {
		l.log.Warn("the state folder cannot be watched; it is looked at often", "error", err)
		return false
	}
	folders, err := filepath.Glob(filepath.Join(l.workloads(), "*"))
	if err != nil {
		return false
	}
	for _, folder := range append(folders, l.workloads()) {
		if err := w.Add(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.log.Warn("a folder of instances cannot be watched", "folder", folder, "error", err)
		}
	}
	return true
}

// matters leaves out what others write in these folders.
func (l *local) matters(e fsnotify.Event) bool {
	base, dir := filepath.Base(e.Name), filepath.Dir(e.Name)
	switch dir {
	case l.state:
		return base == "machine.json" || base == "workloads"
	case l.workloads():
		return true
	}
	return base == "link.json" || e.Name == l.workloads()
}

// quiet waits for the end of a burst, and returns false when ctx ended.
func quiet(ctx context.Context, w *fsnotify.Watcher) bool {
	for end := time.After(50 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return false
		case <-w.Events:
		case <-time.After(settle):
			return true
		case <-end:
			return true
		}
	}
}
