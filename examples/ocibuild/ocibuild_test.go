package main

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// entry is one tar entry of a test: a folder if the name ends in "/", a hard link if link is set.
type entry struct {
	name, text, link string
	mode             int64
}

func writeTar(t *testing.T, name string, entries ...entry) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, e := range entries {
		h := &tar.Header{Name: "./" + e.name, Mode: e.mode, Size: int64(len(e.text)), Typeflag: tar.TypeReg, Uname: "me", ModTime: time.Unix(5, 0)}
		switch {
		case e.link != "":
			h.Typeflag, h.Linkname = tar.TypeLink, "./"+e.link
		case e.name == "" || strings.HasSuffix(e.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

func names(t *testing.T, file string) []string {
	t.Helper()
	var got []string
	err := walkTar(file, func(h *tar.Header, _ io.Reader) error {
		if h.Uname != "" {
			t.Errorf("%s names its owner %q", h.Name, h.Uname)
		}
		got = append(got, h.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDiffHoldsWhatChangedAndNothingElse(t *testing.T) {
	base := writeTar(t, "base.tar",
		entry{name: "etc/", mode: 0o755}, entry{name: "etc/same", text: "1"}, entry{name: "etc/text", text: "1"},
		entry{name: "etc/mode", mode: 0o644}, entry{name: "etc/gone"}, entry{name: "old/"}, entry{name: "old/inner"},
		entry{name: "usr/"}, entry{name: "usr/first", text: "x"})
	full := writeTar(t, "full.tar",
		entry{name: "etc/", mode: 0o755}, entry{name: "etc/same", text: "1"}, entry{name: "etc/text", text: "2"},
		entry{name: "etc/mode", mode: 0o600}, entry{name: "usr/"}, entry{name: "usr/first", text: "x"},
		entry{name: "usr/second", link: "usr/first"}, entry{name: "var/"}, entry{name: "var/new"})
	out := filepath.Join(t.TempDir(), "layer.tar")
	if err := diffTars(base, full, out); err != nil {
		t.Fatal(err)
	}
	want := []string{"etc/.wh.gone", ".wh.old", "./etc/", "./etc/text", "./etc/mode", "./usr/", "./usr/first", "./usr/second", "./var/", "./var/new"}
	if got := names(t, out); !slices.Equal(got, want) {
		t.Errorf("layer holds\n%q, want\n%q", got, want)
	}
}

func TestDiffHidesAVanishedFolderOnce(t *testing.T) {
	base := writeTar(t, "base.tar", entry{name: "", mode: 0o755}, entry{name: "old/"}, entry{name: "old/inner"}, entry{name: "old/deep/"})
	full := writeTar(t, "full.tar", entry{name: "", mode: 0o755})
	out := filepath.Join(t.TempDir(), "layer.tar")
	if err := diffTars(base, full, out); err != nil {
		t.Fatal(err)
	}
	if got := names(t, out); !slices.Equal(got, []string{".wh.old"}) {
		t.Errorf("layer holds %q", got)
	}
}

func TestImageIsValidAndTheSameTwice(t *testing.T) {
	layer := writeTar(t, "a.tar", entry{name: "etc/", mode: 0o755}, entry{name: "etc/file", text: "hello"})
	config := filepath.Join(t.TempDir(), "image.json")
	if err := os.WriteFile(config, []byte(`{"User": "7:7", "Entrypoint": ["/x"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	im := image{name: "x:v1", configFile: config, layerFiles: []string{layer}, created: time.Unix(9, 0).UTC()}
	out := filepath.Join(t.TempDir(), "x")
	var digests []v1.Hash
	// The second time the layout is replaced.
	for range 2 {
		if err := writeImage(im, out); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, checkLayout(t, out))
	}
	if digests[0] != digests[1] {
		t.Errorf("the same image twice: %v", digests)
	}
}

func checkLayout(t *testing.T, dir string) v1.Hash {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("index %+v, %v", manifest, err)
	}
	if name := manifest.Manifests[0].Annotations[refName]; name != "x:v1" {
		t.Errorf("the layout names its image %q", name)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	config, err := img.ConfigFile()
	if err != nil || config.Config.User != "7:7" || config.OS != "linux" || config.Created.Unix() != 9 {
		t.Errorf("configuration %+v, %v", config, err)
	}
	return manifest.Manifests[0].Digest
}

func TestConfigRefusesUnknownKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image.json")
	if err := os.WriteFile(file, []byte(`{"Usr": "7"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readConfig(file); err == nil || !strings.Contains(err.Error(), `"Usr"`) {
		t.Errorf("a misspelt key: %v", err)
	}
}
