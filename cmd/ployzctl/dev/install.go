package dev

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ployz/ployz/node/api"
)

// digestAll reads the packages once, before anything is made, so that a wrong path changes nothing.
func digestAll(debs []string) ([]string, error) {
	digests := make([]string, len(debs))
	for i, path := range debs {
		f, err := os.Open(path)
		if err != nil {
			return nil, api.Errorf(api.CodeDevOptions, "the package to install: %w", err).About("--deb " + path).WithHint("make deb")
		}
		sum := sha256.New()
		_, err = io.Copy(sum, f)
		f.Close()
		if err != nil {
			return nil, api.Errorf(api.CodeDevOptions, "the package to install: %w", err).About("--deb " + path)
		}
		digests[i] = hex.EncodeToString(sum.Sum(nil))
	}
	return digests, nil
}

// install puts the packages into every machine that does not have exactly them yet.
func (l *lab) install(ctx context.Context, o Options, digests []string) error {
	if len(o.Debs) == 0 {
		return nil
	}
	var mu sync.Mutex
	err := l.eachMachine(func(machine string) error {
		mu.Lock()
		same := slices.Equal(l.plan.Installed[machine], digests)
		mu.Unlock()
		if same {
			return nil
		}
		for _, deb := range o.Debs {
			o.say("installing", filepath.Base(deb), "in", l.name+"/"+machine)
			if err := l.installOne(ctx, machine, deb); err != nil {
				return err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		l.plan.Installed[machine] = digests
		return nil
	})
	l.plan.Packages = l.plan.Packages[:0]
	for _, deb := range o.Debs {
		l.plan.Packages = append(l.plan.Packages, filepath.Base(deb))
	}
	if werr := l.write(); err == nil {
		err = werr
	}
	return err
}

// installScript installs the package on its standard input. apt would also fetch what it depends
// on, but a lab has no way out, so dpkg says the same sooner.
const installScript = `set -eu
deb=$(mktemp --suffix=.deb)
trap 'rm -f "$deb"' EXIT
cat >"$deb"
DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --install "$deb"`

func (l *lab) installOne(ctx context.Context, machine, deb string) error {
	f, err := os.Open(deb)
	if err != nil {
		return err
	}
	defer f.Close()
	var said strings.Builder
	status, err := Exec(ctx, l.name, machine, []string{"sh", "-c", installScript}, Streams{In: f, Out: &said, Err: &said})
	if err == nil && status == 0 {
		return nil
	}
	return api.Errorf(api.CodeDevInstall, "installing %s ended with status %d: %s", filepath.Base(deb), status, strings.TrimSpace(said.String())).
		About(l.name+"/"+machine).WithHint("ployzctl dev shell %s/%s", l.name, machine)
}
