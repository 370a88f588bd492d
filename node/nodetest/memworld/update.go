package memworld

import (
	"context"
	"io"
	"os"

	"github.com/ployz/ployz/node/api"
)

// packages takes what begins with the word "package" as one.
type packages struct{}

// Take implements daemon.PackageShelf.
func (packages) Take(_ context.Context, from io.Reader) (api.Package, error) {
	text, err := io.ReadAll(from)
	if err != nil {
		return api.Package{}, err
	}
	if len(text) < 7 || string(text[:7]) != "package" {
		return api.Package{}, api.Errorf(api.CodePackageInvalid, "dpkg-deb cannot read it")
	}
	return api.Package{Digest: "d1", Version: "1.3.0", Architecture: "amd64", Bytes: int64(len(text))}, nil
}

// Open implements daemon.PackageShelf.
func (packages) Open(digest string) (*os.File, error) {
	return nil, api.Errorf(api.CodePackageAbsent, "the package is not here").About(digest)
}

func version(context.Context) (api.MachineVersion, error) {
	return api.MachineVersion{Machine: "m1", Version: "1.2.3", Installed: "1.2.3", Architecture: "amd64", Adopted: true}, nil
}
