package ocitest_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/ployz/ployz/node/runtime/oci/ocitest"
)

func TestLayoutHoldsEveryBlobUnderItsDigest(t *testing.T) {
	b := ocitest.New("demo/web:1", map[string]string{"etc/motd": "hello\n", "bin/run": "#!/bin/sh\n"}, "/bin/run").MustBuild()
	dir := t.TempDir()
	if err := ocitest.WriteLayout(dir, b); err != nil {
		t.Fatal(err)
	}
	for d := range b.Blobs {
		body, err := os.ReadFile(filepath.Join(dir, "blobs/sha256", d.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		if digest.FromBytes(body) != d {
			t.Errorf("blob %s holds something else", d)
		}
	}
	var stream bytes.Buffer
	if err := ocitest.WriteLayoutTar(&stream, b); err != nil {
		t.Fatal(err)
	}
	files, err := ocitest.Untar(&stream)
	if err != nil {
		t.Fatal(err)
	}
	onDisk, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil || !bytes.Equal(onDisk, files["index.json"]) {
		t.Errorf("folder and tar differ in index.json (%v)", err)
	}
}

func TestBuildIsReproducible(t *testing.T) {
	img := ocitest.New("demo/web:1", map[string]string{"a": "1", "b/c": "2"})
	if a, b := img.MustBuild().Digest, img.MustBuild().Digest; a != b {
		t.Errorf("two builds differ: %s, %s", a, b)
	}
}

func TestGoProgramIsStatic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	body := ocitest.GoProgram(t, "package main\nfunc main() { print(\"up\") }\n")
	if err := os.WriteFile(path, []byte(body), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path).CombinedOutput()
	if err != nil || string(out) != "up" {
		t.Fatalf("got %q, %v", out, err)
	}
}
