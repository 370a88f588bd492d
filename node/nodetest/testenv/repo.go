package testenv

import (
	"os"
	"path/filepath"
)

// Repo returns the root of this checkout: the nearest folder above the working directory
// that holds go.mod. It returns "" outside a checkout.
func Repo() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

func repoFile(name string) string {
	root := Repo()
	if root == "" {
		return ""
	}
	return filepath.Join(root, name)
}
