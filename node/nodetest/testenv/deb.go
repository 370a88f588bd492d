package testenv

import (
	"os"
	"path/filepath"
	"runtime"
)

// DebPath returns the package that tests install: $PLOYZ_DEB, or the one that `make deb` left in
// dist/ for this computer's architecture, or "".
func DebPath() string {
	if path := os.Getenv("PLOYZ_DEB"); path != "" {
		return path
	}
	// make removes the older ones, so there is one.
	found, err := filepath.Glob(repoFile(filepath.Join("dist", "ployz_*_"+runtime.GOARCH+".deb")))
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}

func missingDeb() string {
	if DebPath() == "" {
		return "no package in dist/: run `make deb`, or set PLOYZ_DEB"
	}
	return ""
}
