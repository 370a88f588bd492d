package oci_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/runtime/oci"
	. "github.com/ployz/ployz/node/runtime/oci/ocitest"
)

// realLayer packs this machine's Go sources: thousands of files of ordinary size.
func realLayer(b *testing.B) (Layer, int64) {
	b.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	must(b, err)
	src := filepath.Join(string(bytes.TrimSpace(root)), "src")
	var l Layer
	var size int64
	must(b, filepath.WalkDir(src, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(filepath.Dir(src), name)
		must(b, err)
		switch {
		case e.IsDir():
			l.Entries = append(l.Entries, Dir(rel, 0o755))
		case e.Type().IsRegular():
			body, err := os.ReadFile(name)
			must(b, err)
			size += int64(len(body))
			l.Entries = append(l.Entries, Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: rel, Mode: 0o644, ModTime: Epoch}, Body: body})
		}
		return nil
	}))
	return l, size
}

// BenchmarkUnpack sets a layer's way from the store's blob to a durable folder against `tar -x` of the
// same blob followed by a sync of the same file system; "x-tar" is our time over tar's.
func BenchmarkUnpack(b *testing.B) {
	testenv.Require(b, testenv.Root)
	for _, how := range []Compression{Gzip, Plain} {
		b.Run(string(how), func(b *testing.B) {
			l, size := realLayer(b)
			l.Compression = how
			built := (&Image{Layers: []Layer{l}}).MustBuild()
			blob := filepath.Join(b.TempDir(), "layer.tar")
			must(b, os.WriteFile(blob, built.Blobs[built.Manifest.Layers[0].Digest], 0o644))
			b.SetBytes(size)
			var ours, tars time.Duration
			for b.Loop() {
				ours += unpackTime(b, built)
				tars += tarTime(b, blob)
			}
			b.ReportMetric(ours.Seconds()/tars.Seconds(), "x-tar")
			b.ReportMetric(float64(len(l.Entries)), "entries")
			b.ReportMetric(float64(ours.Milliseconds())/float64(b.N), "ms-ours")
			b.ReportMetric(float64(tars.Milliseconds())/float64(b.N), "ms-tar")
		})
	}
}

// unpackTime unpacks the image's layer in a fresh store whose blobs are there already.
func unpackTime(b *testing.B, built *Built) time.Duration {
	root := filepath.Join(b.TempDir(), fmt.Sprint(time.Now().UnixNano()))
	s, err := oci.Open(oci.Options{Root: root})
	must(b, err)
	defer s.Close()
	for d, blob := range built.Blobs {
		must(b, os.WriteFile(filepath.Join(root, "blobs/sha256", d.Encoded()), blob, 0o444))
	}
	unix.Sync()
	var stream bytes.Buffer
	empty := &Built{Digest: built.Digest, MediaType: built.MediaType, Platform: built.Platform, Blobs: built.Blobs}
	files := LayoutFiles(empty)
	l := Layer{Entries: []Entry{File("oci-layout", 0o644, string(files["oci-layout"])), File("index.json", 0o644, string(files["index.json"]))}}
	head, err := l.Tar()
	must(b, err)
	stream.Write(head)
	start := time.Now()
	_, err = s.Import(ctx, "bench:1", &stream, nil)
	must(b, err)
	took := time.Since(start)
	must(b, os.RemoveAll(root+"/layers"))
	return took
}

func tarTime(b *testing.B, blob string) time.Duration {
	dir, err := os.MkdirTemp(b.TempDir(), "tar")
	must(b, err)
	unix.Sync()
	start := time.Now()
	text, err := exec.Command("sh", "-c", "tar -xf "+blob+" -C "+dir+" && sync -f "+dir).CombinedOutput()
	took := time.Since(start)
	if err != nil {
		b.Fatalf("tar: %v\n%s", err, text)
	}
	must(b, os.RemoveAll(dir))
	return took
}
