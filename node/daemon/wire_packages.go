package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// shelf keeps packages in a folder, each under its digest.
type shelf struct{ folder string }

var digestShape = regexp.MustCompile(`^[0-9a-f]{64}$`)

// path is where a package is, or would be. Errors: package.not-found.
func (s shelf) path(digest string) (string, error) {
	if !digestShape.MatchString(digest) {
		return "", api.Errorf(api.CodePackageAbsent, "%q is no package's digest", digest)
	}
	return filepath.Join(s.folder, digest+".deb"), nil
}

// Take implements PackageShelf. The file gets its name once all of it is on disk and dpkg has read it.
func (s shelf) Take(ctx context.Context, from io.Reader) (api.Package, error) {
	if err := os.MkdirAll(s.folder, 0o700); err != nil {
		return api.Package{}, api.Errorf(api.CodeInternal, "a place for packages: %w", err)
	}
	temp, err := os.CreateTemp(s.folder, ".taking-*")
	if err != nil {
		return api.Package{}, api.Errorf(api.CodeInternal, "a place for packages: %w", err)
	}
	defer os.Remove(temp.Name())
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(temp, sum), from)
	if err == nil {
		err = temp.Sync()
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		return api.Package{}, api.Errorf(api.CodeInternal, "taking a package: %w", err).Again()
	}
	p, err := readPackage(ctx, temp.Name())
	if err != nil {
		return p, err
	}
	p.Digest = hex.EncodeToString(sum.Sum(nil))
	path, err := s.path(p.Digest)
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return p, api.Errorf(api.CodeInternal, "keeping a package: %w", err).Again()
	}
	return p, nil
}

// Held reads a package that is kept. Errors: package.not-found, package.invalid.
func (s shelf) Held(ctx context.Context, digest string) (api.Package, error) {
	f, err := s.Open(digest)
	if err != nil {
		return api.Package{}, err
	}
	defer f.Close()
	p, err := readPackage(ctx, f.Name())
	p.Digest = digest
	return p, err
}

// Open implements PackageShelf.
func (s shelf) Open(digest string) (*os.File, error) {
	path, err := s.path(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.CodePackageAbsent, "the package is not here").About(digest).
			WithHint("send it: ployzctl machine update --package FILE.deb")
	}
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "opening a package: %w", err)
	}
	return f, nil
}

// digests are the packages that are kept.
func (s shelf) digests() []string {
	files, _ := filepath.Glob(filepath.Join(s.folder, "*.deb")) // the pattern is sound
	list := make([]string, len(files))
	for i, f := range files {
		list[i] = strings.TrimSuffix(filepath.Base(f), ".deb")
	}
	return list
}

// drop forgets a package; safe when it is not there.
func (s shelf) drop(digest string) error {
	path, err := s.path(digest)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// keepOnly forgets all packages but one, and what earlier installations left.
func (s shelf) keepOnly(digest string) error {
	files, err := os.ReadDir(s.folder)
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), digest) {
			err = errors.Join(err, os.Remove(filepath.Join(s.folder, f.Name())))
		}
	}
	return err
}

// readPackage asks dpkg what a file is. Errors: package.invalid, package.unfit.
func readPackage(ctx context.Context, path string) (api.Package, error) {
	status, err := os.Stat(path)
	if err != nil {
		return api.Package{}, api.Errorf(api.CodeInternal, "looking at a package: %w", err)
	}
	out, err := exec.CommandContext(ctx, "dpkg-deb", "--show", "--showformat", `${Package}\n${Version}\n${Architecture}\n`, path).Output()
	if errors.Is(err, exec.ErrNotFound) {
		return api.Package{}, api.Errorf(api.CodePackageUnfit, "this machine has no dpkg").WithHint("update it by its own means")
	}
	if err != nil {
		return api.Package{}, api.Errorf(api.CodePackageInvalid, "dpkg-deb cannot read it: %w", withOutput(err))
	}
	words := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(words) != 3 || words[0] != "ployz" {
		return api.Package{}, api.Errorf(api.CodePackageInvalid, "it is the package %q, not ployz", words[0])
	}
	return api.Package{Version: words[1], Architecture: words[2], Bytes: status.Size()}, nil
}

// withOutput adds what a program said to why it failed.
func withOutput(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}
