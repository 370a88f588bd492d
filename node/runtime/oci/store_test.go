package oci_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/oci"
	. "github.com/ployz/ployz/node/runtime/oci/ocitest"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func expectCode(t testing.TB, err error, want api.Code) {
	t.Helper()
	if got := api.CodeOf(err); got != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

// open returns a store in a folder of the test's own.
func open(t testing.TB, change ...func(*oci.Options)) (*oci.Store, string) {
	t.Helper()
	testenv.Require(t, testenv.Root)
	opts := oci.Options{Root: filepath.Join(t.TempDir(), "images"), RetryDelay: time.Millisecond, StallTimeout: 5 * time.Second}
	for _, c := range change {
		c(&opts)
	}
	s, err := oci.Open(opts)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s, opts.Root
}

// serve runs a real registry on loopback behind wrap (nil: bare) and returns its host:port.
func serve(t testing.TB, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	var h http.Handler = registry.New(registry.Logger(quiet))
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// push puts an image into a registry by the plain protocol.
func push(t testing.TB, client *http.Client, base, repo, tag string, b *Built) {
	t.Helper()
	for d, blob := range b.Blobs {
		request(t, client, http.MethodPost, base+"/v2/"+repo+"/blobs/uploads/?digest="+string(d), "application/octet-stream", blob)
	}
	request(t, client, http.MethodPut, base+"/v2/"+repo+"/manifests/"+tag, b.MediaType, b.Blobs[b.Digest])
}

func request(t testing.TB, client *http.Client, method, url, mediaType string, body []byte) {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	must(t, err)
	req.Header.Set("Content-Type", mediaType)
	resp, err := client.Do(req)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, url, resp.Status)
	}
}

// web is an image with three layers, one per compression.
func web() *Image {
	img := New("demo/web:1", map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\n",
		"etc/group":  "root:x:0:\napp:x:1001:\nlog:x:30:app,other\ndisk:x:6:app\n",
		"etc/motd":   "one",
	}, "/bin/web")
	img.Layers = append(img.Layers,
		Layer{Compression: Zstd, Entries: []Entry{File("etc/motd", 0o644, "two"), File("bin/web", 0o755, strings.Repeat("program ", 50_000))}},
		Layer{Compression: Plain, Entries: []Entry{Whiteout("etc/motd"), File("last", 0o644, "three")}})
	img.Config.User, img.Config.StopSignal, img.Config.WorkingDir = "app", "SIGQUIT", "/srv"
	img.Config.Cmd, img.Config.Env = []string{"--listen"}, []string{"A=1"}
	img.Config.ExposedPorts = map[string]struct{}{"80/tcp": {}}
	img.Config.Volumes = map[string]struct{}{"/data": {}}
	img.Config.Labels = map[string]string{"l": "v"}
	return img
}

// importTar imports an OCI layout of the images.
func importTar(t testing.TB, s *oci.Store, reference string, images ...*Built) (runtime.Image, error) {
	t.Helper()
	var stream bytes.Buffer
	must(t, WriteLayoutTar(&stream, images...))
	return s.Import(ctx, reference, &stream, nil)
}

// clean fails the test if the store holds any work in progress, or more blobs and layers than said.
func clean(t testing.TB, root string, blobs, layers int) {
	t.Helper()
	sessions, err := filepath.Glob(filepath.Join(root, "tmp/*/*"))
	must(t, err)
	sessions = slices.DeleteFunc(sessions, func(n string) bool { return filepath.Base(n) == "lock" })
	b, err := os.ReadDir(filepath.Join(root, "blobs/sha256"))
	must(t, err)
	l, err := os.ReadDir(filepath.Join(root, "layers"))
	must(t, err)
	if len(sessions) > 0 || len(b) != blobs || len(l) != layers {
		t.Errorf("left over %v; %d blobs, want %d; %d layers, want %d", sessions, len(b), blobs, len(l), layers)
	}
}

func readIn(t testing.TB, img runtime.Image, layerFromTop int, name string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(img.Layers[len(img.Layers)-1-layerFromTop], name))
	must(t, err)
	return string(body)
}

func TestImportLayout(t *testing.T) {
	s, root := open(t)
	b := web().MustBuild()
	img, err := importTar(t, s, "", b)
	must(t, err)
	if img.Digest != string(b.Digest) || len(img.Layers) != 3 || readIn(t, img, 0, "last") != "three" || readIn(t, img, 1, "etc/motd") != "two" {
		t.Errorf("got %+v", img)
	}
	clean(t, root, 5, 3)
	found, err := s.Lookup(ctx, "demo/web:1")
	must(t, err)
	if found.Digest != img.Digest || found.Config.User != "app" || found.Config.StopSignal != "SIGQUIT" || found.Config.ExposedPorts[0] != "80/tcp" ||
		found.Config.Volumes[0] != "/data" || found.Config.WorkDir != "/srv" || found.Config.Labels["l"] != "v" {
		t.Errorf("got %+v", found)
	}
	if _, err := s.Lookup(ctx, img.Digest); err != nil {
		t.Error(err)
	}
	d, err := s.Inspect(ctx, "demo/web:1")
	must(t, err)
	if len(d.Stack) != 3 || d.Stack[1].Bytes != 400_003 || d.Origin != "archive" || d.References[0] != "demo/web:1" {
		t.Errorf("got %+v", d)
	}
}

func TestImportDockerArchive(t *testing.T) {
	s, _ := open(t)
	b := web().MustBuild()
	var stream bytes.Buffer
	must(t, WriteDockerArchive(&stream, b))
	img, err := s.Import(ctx, "", bytes.NewReader(stream.Bytes()), nil)
	must(t, err)
	if readIn(t, img, 0, "last") != "three" || img.Config.User != "app" {
		t.Errorf("got %+v", img)
	}
	again, err := s.Import(ctx, "other:2", &stream, nil)
	must(t, err)
	list, err := s.List(ctx)
	must(t, err)
	if again.Digest != img.Digest || len(list) != 1 || !slices.Equal(list[0].References, []string{"demo/web:1", "other:2"}) {
		t.Errorf("got %+v", list)
	}
}

func TestImportOnlyMissingBlobs(t *testing.T) {
	s, _ := open(t)
	first := web()
	_, err := importTar(t, s, "", first.MustBuild())
	must(t, err)
	second := web()
	second.Layers = append(second.Layers, Layer{Entries: []Entry{File("more", 0o644, "4")}})
	dir := t.TempDir()
	must(t, WriteLayout(dir, second.MustBuild()))
	all, err := oci.LayoutBlobs(dir)
	must(t, err)
	missing, err := s.Missing(all)
	must(t, err)
	if len(all) != 6 || len(missing) != 3 {
		t.Fatalf("%d of %d blobs missing, want 3 of 6", len(missing), len(all))
	}
	var stream bytes.Buffer
	must(t, oci.WriteLayout(ctx, dir, &stream, func(d string) bool { return !slices.Contains(missing, d) }))
	img, err := s.Import(ctx, "demo/web:2", bytes.NewReader(stream.Bytes()), nil)
	must(t, err)
	if len(img.Layers) != 4 || readIn(t, img, 0, "more") != "4" {
		t.Errorf("got %+v", img)
	}
	empty, root := open(t)
	_, err = empty.Import(ctx, "demo/web:2", &stream, nil)
	expectCode(t, err, api.CodeImageBadArchive)
	clean(t, root, 0, 0)
}

func TestExportTravels(t *testing.T) {
	from, _ := open(t)
	img, err := importTar(t, from, "", web().MustBuild())
	must(t, err)
	var stream bytes.Buffer
	must(t, from.Export(ctx, "demo/web:1", &stream, nil))
	to, _ := open(t)
	got, err := to.Import(ctx, "", &stream, nil)
	must(t, err)
	if got.Digest != img.Digest {
		t.Errorf("%s arrived as %s", img.Digest, got.Digest)
	}
	if _, err := to.Lookup(ctx, "demo/web:1"); err != nil {
		t.Errorf("the name was lost: %v", err)
	}
}

func TestBadArchivesLeaveNothing(t *testing.T) {
	good := web().MustBuild()
	layout := func(change func(files map[string][]byte)) []byte {
		files := LayoutFiles(good)
		change(files)
		var entries []Entry
		for name, body := range files {
			entries = append(entries, File(name, 0o644, string(body)))
		}
		stream, err := Layer{Entries: entries}.Tar()
		must(t, err)
		return stream
	}
	config := "blobs/sha256/" + good.Manifest.Config.Digest.Encoded()
	whole := layout(func(map[string][]byte) {})
	cases := map[string]struct {
		stream []byte
		code   api.Code
	}{
		"empty":          {nil, api.CodeImageBadArchive},
		"not a tar":      {bytes.Repeat([]byte("nonsense"), 500), api.CodeImageBadArchive},
		"cut short":      {whole[:len(whole)/2], api.CodeImageBadArchive},
		"no index":       {layout(func(f map[string][]byte) { delete(f, "index.json") }), api.CodeImageBadArchive},
		"index not JSON": {layout(func(f map[string][]byte) { f["index.json"] = []byte("{") }), api.CodeImageBadArchive},
		"empty index":    {layout(func(f map[string][]byte) { f["index.json"] = []byte("{}") }), api.CodeImageBadArchive},
		"blob missing":   {layout(func(f map[string][]byte) { delete(f, config) }), api.CodeImageBadArchive},
		"wrong blob":     {layout(func(f map[string][]byte) { f[config] = []byte("{}") }), api.CodeDigestMismatch},
		"bad digest":     {layout(func(f map[string][]byte) { f["blobs/sha256/../../../evil"] = nil; f["blobs/sha256/xyz"] = nil }), api.CodeImageBadArchive},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, root := open(t)
			_, err := s.Import(ctx, "demo/web:1", bytes.NewReader(c.stream), nil)
			expectCode(t, err, c.code)
			clean(t, root, 0, 0)
			_, err = s.Lookup(ctx, "demo/web:1")
			expectCode(t, err, api.CodeImageNotFound)
		})
	}
}

func TestBadImages(t *testing.T) {
	cases := map[string]struct {
		build func() *Built
		code  api.Code
	}{
		"escaping layer": {func() *Built {
			return (&Image{Layers: []Layer{{Entries: []Entry{File("../evil", 0o644, "")}}}}).MustBuild()
		}, api.CodeLayerEscape},
		"wrong diff id":  {func() *Built { return tamper(web().MustBuild(), "diff") }, api.CodeLayerCorrupt},
		"truncated gzip": {func() *Built { return tamper(web().MustBuild(), "gzip") }, api.CodeLayerCorrupt},
		"fewer diff ids": {func() *Built { return tamper(web().MustBuild(), "count") }, api.CodeImageMedia},
		"artifact":       {func() *Built { return tamper(web().MustBuild(), "artifact") }, api.CodeImageMedia},
		"encrypted":      {func() *Built { return tamper(web().MustBuild(), "encrypted") }, api.CodeImageMedia},
		"no layers":      {func() *Built { return (&Image{}).MustBuild() }, api.CodeImageMedia},
		"other platform": {func() *Built { i := web(); i.Architecture = "riscv64"; return i.MustBuild() }, api.CodeImageNoPlatform},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, root := open(t)
			_, err := importTar(t, s, "demo/bad:1", c.build())
			expectCode(t, err, c.code)
			_, err = s.Lookup(ctx, "demo/bad:1")
			expectCode(t, err, api.CodeImageNotFound)
			left, err := filepath.Glob(filepath.Join(root, "tmp/*/[^l]*"))
			if must(t, err); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

// tamper rebuilds the image with one thing wrong and every digest consistent with it.
func tamper(b *Built, what string) *Built {
	var config map[string]any
	if err := json.Unmarshal(b.Blobs[b.Manifest.Config.Digest], &config); err != nil {
		panic(err)
	}
	rootfs := config["rootfs"].(map[string]any)
	diffs := rootfs["diff_ids"].([]any)
	switch what {
	case "diff":
		diffs[1] = diffs[0]
	case "count":
		rootfs["diff_ids"] = diffs[:2]
	case "gzip":
		blob := b.Blobs[b.Manifest.Layers[0].Digest]
		b.Manifest.Layers[0] = b.Put(blob[:len(blob)-20], b.Manifest.Layers[0].MediaType)
	case "encrypted":
		b.Manifest.Layers[0].MediaType += "+encrypted"
	}
	body, err := json.Marshal(config)
	if err != nil {
		panic(err)
	}
	b.Manifest.Config = b.Put(body, b.Manifest.Config.MediaType)
	if what == "artifact" {
		b.Manifest.Config.MediaType = "application/vnd.example.chart"
	}
	if body, err = json.Marshal(b.Manifest); err != nil {
		panic(err)
	}
	b.Digest = b.Put(body, b.MediaType).Digest
	return b
}

func TestUser(t *testing.T) {
	s, _ := open(t)
	img, err := importTar(t, s, "", web().MustBuild())
	must(t, err)
	cases := map[string]struct {
		uid, gid uint32
		groups   []uint32
	}{
		"": {0, 0, nil}, "root": {0, 0, nil}, "app": {1000, 1001, []uint32{30, 6}}, "1000": {1000, 1001, []uint32{30, 6}},
		"4711": {4711, 0, nil}, "app:log": {1000, 30, nil}, "app:99": {1000, 99, nil}, "5:6": {5, 6, nil},
	}
	for user, want := range cases {
		uid, gid, groups, err := s.User(ctx, img, user)
		if err != nil || uid != want.uid || gid != want.gid || !slices.Equal(groups, want.groups) {
			t.Errorf("%q: %d:%d %v %v, want %+v", user, uid, gid, groups, err, want)
		}
	}
	for _, user := range []string{"nobody", "app:nobody", "-1", "4294967295", "99999999999"} {
		_, _, _, err := s.User(ctx, img, user)
		if api.CodeOf(err) != api.CodeImageNoUser {
			t.Errorf("%q: %v", user, err)
		}
	}
}

func TestTakingANameAway(t *testing.T) {
	s, _ := open(t)
	one, err := importTar(t, s, "web:1", web().MustBuild())
	must(t, err)
	two := web()
	two.Config.User = "root"
	img, err := importTar(t, s, "web:1", two.MustBuild())
	must(t, err)
	got, err := s.Lookup(ctx, "docker.io/library/web:1")
	if err != nil || got.Digest != img.Digest {
		t.Errorf("web:1 is %s (%v), want the second", got.Digest, err)
	}
	if _, err := s.Lookup(ctx, one.Digest); err != nil {
		t.Errorf("the first image is gone by its digest: %v", err)
	}
}

func TestDamagedIndexIsSaid(t *testing.T) {
	s, root := open(t)
	must(t, os.WriteFile(filepath.Join(root, "index.json"), []byte("{"), 0o644))
	_, err := s.Lookup(ctx, "web")
	expectCode(t, err, api.CodeImageDamaged)
	_, err = s.Lookup(ctx, "UPPER")
	expectCode(t, err, api.CodeImageDamaged)
}

func TestBadReferences(t *testing.T) {
	s, _ := open(t)
	for _, ref := range []string{"", "UPPER/case", "a b", "web@sha256:12", "web:", "sha256:xyz", "http://x/y"} {
		_, err := s.Ensure(ctx, ref, runtime.Pull{})
		if api.CodeOf(err) != api.CodeImageBadReference {
			t.Errorf("%q: %v", ref, err)
		}
	}
}
