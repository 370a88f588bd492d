package ocitest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// GoProgram compiles one Go source text (package main, standard library only) into a static
// binary for this machine and returns its bytes, ready to be a file of an image.
func GoProgram(t testing.TB, source string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	return goBuild(t, dir, file)
}

// GoPackage compiles a main package of this module, named as the go command names it
// ("./testdata/app" from the test's folder), into a static binary and returns its bytes.
func GoPackage(t testing.TB, pkg string) string {
	t.Helper()
	return goBuild(t, "", pkg)
}

func goBuild(t testing.TB, dir, what string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, what)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GO111MODULE=auto")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", what, err, text)
	}
	body, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
