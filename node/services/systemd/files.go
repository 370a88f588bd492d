package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/units"
)

// files is the folder of unit files. Everything written is on disk when a call returns.
type files struct{ dir string }

// file is a unit file as found.
type file struct {
	exists, masked bool
	text           string
}

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

func (f files) read(name string) (file, error) {
	if target, err := os.Readlink(f.path(name)); err == nil && target == os.DevNull {
		return file{exists: true, masked: true}, nil
	}
	text, err := os.ReadFile(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return file{}, nil
	}
	if err != nil {
		return file{}, fmt.Errorf("systemd: %w", err)
	}
	return file{exists: true, text: string(text)}, nil
}

// ours refuses a file that exists and does not carry our identity.
func (f files) ours(name string) (file, error) {
	have, err := f.read(name)
	if err != nil || !have.exists {
		return have, err
	}
	if identity, _ := units.Check(have.text); identity == "" {
		why := "ployz did not write it"
		if have.masked {
			why = "it is masked"
		}
		return have, api.Errorf(api.CodeServiceForeign, "the unit file %s is left alone: %s", f.path(name), why).
			About(name).WithHint("systemctl cat %s", name)
	}
	return have, nil
}

// write returns whether the file had to change. Errors: service.not-ours.
func (f files) write(u units.Unit) (changed bool, err error) {
	have, err := f.ours(u.Name)
	if err != nil || have.text == u.Text {
		return false, err
	}
	// ployzd's umask hides what it writes; unit files are for everybody, and systemd warns of others.
	if err := renameio.WriteFile(f.path(u.Name), []byte(u.Text), 0o644, renameio.WithStaticPermissions(0o644)); err != nil {
		return false, fmt.Errorf("systemd: %w", err)
	}
	return true, durable.SyncFolder(f.dir)
}

// remove deletes the file and its links, and says whether there was a file.
func (f files) remove(name string) (removed bool, err error) {
	have, err := f.ours(name)
	if err != nil || !have.exists {
		return false, err
	}
	if _, err := f.link(name, have.text, false); err != nil {
		return false, err
	}
	if err := os.Remove(f.path(name)); err != nil {
		return false, fmt.Errorf("systemd: %w", err)
	}
	return true, durable.SyncFolder(f.dir)
}

// links returns the symbolic links that the [Install] section asks for.
func (f files) links(name, text string) (links []string) {
	for line := range strings.Lines(text) {
		for key, suffix := range map[string]string{"WantedBy=": ".wants", "RequiredBy=": ".requires"} {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok {
				for _, target := range strings.Fields(v) {
					links = append(links, filepath.Join(f.dir, target+suffix, name))
				}
			}
		}
	}
	return links
}

// enabled says whether every link is there. A unit without any cannot be enabled.
func (f files) enabled(name, text string) bool {
	links := f.links(name, text)
	return len(links) > 0 && !slices.ContainsFunc(links, func(link string) bool {
		_, err := os.Lstat(link)
		return err != nil
	})
}

// link makes or removes the unit's links; it returns the units that pull it in by a link that changed. Targets are not
// among them: what they pull in matters at a boot, and then everything is read anyway.
func (f files) link(name, text string, boot bool) (by []string, err error) {
	for _, link := range f.links(name, text) {
		changed, err := setLink(f.path(name), link, boot)
		if err != nil {
			return by, err
		}
		folder := filepath.Base(filepath.Dir(link))
		if wants := strings.TrimSuffix(folder, filepath.Ext(folder)); changed && filepath.Ext(wants) != ".target" {
			by = append(by, wants)
		}
	}
	return by, nil
}

func setLink(target, link string, present bool) (changed bool, err error) {
	have, err := os.Readlink(link)
	if (err == nil && have == target) == present {
		return false, nil
	}
	dir := filepath.Dir(link)
	if !present {
		err = os.Remove(link)
	} else if err = os.MkdirAll(dir, 0o755); err == nil {
		err = renameio.Symlink(target, link)
	}
	if err != nil {
		return false, fmt.Errorf("systemd: %w", err)
	}
	return true, durable.SyncFolder(dir)
}
