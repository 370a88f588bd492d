package oci_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/oci"
	. "github.com/ployz/ployz/node/runtime/oci/ocitest"
)

// wrap returns middleware that sees each request for a blob or manifest before the registry does; when it
// returns true it has answered.
func wrap(before func(w http.ResponseWriter, r *http.Request, next http.Handler) bool) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") || !before(w, r, next) {
				next.ServeHTTP(w, r)
			}
		})
	}
}

func TestPullByTagAndDigest(t *testing.T) {
	for _, docker := range []bool{false, true} {
		t.Run(fmt.Sprintf("docker=%v", docker), func(t *testing.T) {
			host := serve(t, nil)
			i := New("", map[string]string{"a": "1"}, "/a")
			i.Docker = docker
			i.Layers = append(i.Layers, Files(map[string]string{"b": "2"}))
			b := i.MustBuild()
			push(t, http.DefaultClient, "http://"+host, "team/web", "1", b)
			s, root := open(t)
			var mu sync.Mutex
			done := map[string]int64{}
			img, err := s.Ensure(ctx, host+"/team/web:1", runtime.Pull{Progress: func(part string, n, total int64) {
				mu.Lock()
				defer mu.Unlock()
				if done[part] = n; n > total {
					t.Errorf("%s: %d of %d", part, n, total)
				}
			}})
			must(t, err)
			clean(t, root, 4, 2)
			if img.Digest != string(b.Digest) || readIn(t, img, 0, "b") != "2" || readIn(t, img, 1, "a") != "1" {
				t.Errorf("got %+v", img)
			}
			for _, l := range b.Manifest.Layers {
				if done[string(l.Digest)] != l.Size {
					t.Errorf("progress of %s ended at %d of %d", l.Digest, done[string(l.Digest)], l.Size)
				}
			}
			again, err := s.Ensure(ctx, host+"/team/web@"+img.Digest, runtime.Pull{Always: true})
			if err != nil || again.Digest != img.Digest {
				t.Errorf("by digest: %+v %v", again, err)
			}
			got, err := s.Resolve(ctx, host+"/team/web:1", nil)
			if err != nil || got != img.Digest {
				t.Errorf("resolved %s, %v", got, err)
			}
		})
	}
}

func TestPullPicksThePlatform(t *testing.T) {
	host := serve(t, nil)
	var built []*Built
	for _, arch := range []string{"amd64", "arm64"} {
		i := New("", map[string]string{"arch": arch})
		i.Architecture = arch
		b := i.MustBuild()
		push(t, http.DefaultClient, "http://"+host, "multi", arch, b)
		built = append(built, b)
	}
	index, mediaType := Index(built...)
	request(t, http.DefaultClient, http.MethodPut, "http://"+host+"/v2/multi/manifests/1", mediaType, index)
	for i, arch := range []string{"amd64", "arm64"} {
		s, _ := open(t, func(o *oci.Options) { o.Architecture = arch })
		img, err := s.Ensure(ctx, host+"/multi:1", runtime.Pull{})
		if err != nil || img.Digest != string(built[i].Digest) || readIn(t, img, 0, "arch") != arch {
			t.Errorf("%s: %+v %v", arch, img, err)
		}
		byIndex, err := s.Resolve(ctx, host+"/multi:1", nil)
		must(t, err)
		found, err := s.Lookup(ctx, host+"/multi@"+byIndex)
		if err != nil || found.Digest != img.Digest {
			t.Errorf("by the index's digest: %+v %v", found, err)
		}
	}
	s, _ := open(t, func(o *oci.Options) { o.Architecture = "riscv64" })
	_, err := s.Ensure(ctx, host+"/multi:1", runtime.Pull{})
	expectCode(t, err, api.CodeImageNoPlatform)
	if !strings.Contains(err.Error(), "linux/amd64, linux/arm64") {
		t.Errorf("it does not say what there is: %v", err)
	}
}

// guarded is a registry over TLS that wants a user and password.
func guarded(t *testing.T) (*httptest.Server, *x509.CertPool) {
	t.Helper()
	inner := registry.New(registry.Logger(quiet))
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	srv.Config.ErrorLog = quiet
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return srv, roots
}

type withAuth struct{ inner http.RoundTripper }

func (a withAuth) RoundTrip(r *http.Request) (*http.Response, error) {
	r.SetBasicAuth("ann", "secret")
	return a.inner.RoundTrip(r)
}

func TestPullOverTLSWithPassword(t *testing.T) {
	srv, roots := guarded(t)
	push(t, &http.Client{Transport: withAuth{srv.Client().Transport}}, srv.URL, "web", "1", web().MustBuild())
	ref := strings.TrimPrefix(srv.URL, "https://") + "/web:1"
	s, root := open(t, func(o *oci.Options) { o.RootCAs = roots })
	_, err := s.Ensure(ctx, ref, runtime.Pull{Auth: &runtime.RegistryAuth{Username: "ann", Password: "secret"}})
	must(t, err)
	for _, auth := range []*runtime.RegistryAuth{nil, {Username: "ann", Password: "wrong"}} {
		_, err = s.Ensure(ctx, ref, runtime.Pull{Auth: auth, Always: true})
		expectCode(t, err, api.CodeImageUnauthorized)
		if strings.Contains(err.Error(), "wrong") {
			t.Errorf("the password is in the error: %v", err)
		}
	}
	must(t, filepath.WalkDir(root, func(name string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if body, _ := os.ReadFile(name); strings.Contains(string(body), "secret") {
				t.Errorf("the password is in %s", name)
			}
		}
		return nil
	}))
	stranger, _ := open(t)
	_, err = stranger.Ensure(ctx, ref, runtime.Pull{})
	expectCode(t, err, api.CodeRegistryDown)
}

func TestRegistryAnswers(t *testing.T) {
	host := serve(t, nil)
	s, root := open(t)
	_, err := s.Ensure(ctx, host+"/gone:1", runtime.Pull{})
	expectCode(t, err, api.CodeImageNotFound)
	_, err = s.Resolve(ctx, host+"/gone:1", nil)
	expectCode(t, err, api.CodeImageNotFound)
	request(t, http.DefaultClient, http.MethodPut, "http://"+host+"/v2/old/manifests/1", "application/vnd.docker.distribution.manifest.v1+json", []byte(`{"fsLayers":[]}`))
	_, err = s.Ensure(ctx, host+"/old:1", runtime.Pull{})
	expectCode(t, err, api.CodeImageMedia)
	clean(t, root, 0, 0)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }))
	down := strings.TrimPrefix(srv.URL, "http://")
	_, err = s.Ensure(ctx, down+"/web:1", runtime.Pull{})
	expectCode(t, err, api.CodeRegistryDown)
	srv.Close()
	_, err = s.Ensure(ctx, down+"/web:1", runtime.Pull{})
	expectCode(t, err, api.CodeRegistryDown)
	if !api.AsError(err).Retryable {
		t.Error("a registry that is down may come back")
	}
}

// answers serves one image whose blobs come from a function.
func answers(t *testing.T, b *Built, blob func(w http.ResponseWriter, r *http.Request, next http.Handler) bool) string {
	t.Helper()
	host := serve(t, wrap(blob))
	push(t, http.DefaultClient, "http://"+host, "web", "1", b)
	return host + "/web:1"
}

func isLayer(b *Built, r *http.Request) bool {
	return strings.HasSuffix(r.URL.Path, string(b.Manifest.Layers[1].Digest))
}

func TestWrongBytesAreRefused(t *testing.T) {
	b := web().MustBuild()
	right := b.Blobs[b.Manifest.Layers[1].Digest]
	flipped := append([]byte{right[0] ^ 1}, right[1:]...)
	cases := map[string][]byte{"other bytes": flipped, "too many": append(flipped, 1, 2, 3)}
	for name, body := range cases {
		t.Run(name, func(t *testing.T) {
			ref := answers(t, b, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
				if !isLayer(b, r) {
					return false
				}
				w.Write(body)
				return true
			})
			s, root := open(t)
			_, err := s.Ensure(ctx, ref, runtime.Pull{})
			expectCode(t, err, api.CodeDigestMismatch)
			if _, err := os.Stat(filepath.Join(root, "blobs/sha256", b.Manifest.Layers[1].Digest.Encoded())); err == nil {
				t.Error("the wrong blob was kept")
			}
			_, err = s.Lookup(ctx, ref)
			expectCode(t, err, api.CodeImageNotFound)
		})
	}
}

func TestWrongManifestIsRefused(t *testing.T) {
	b := web().MustBuild()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			fmt.Fprint(w, "{}")
		}
	}))
	t.Cleanup(srv.Close)
	s, root := open(t)
	_, err := s.Ensure(ctx, strings.TrimPrefix(srv.URL, "http://")+"/web@"+string(b.Digest), runtime.Pull{})
	expectCode(t, err, api.CodeDigestMismatch)
	clean(t, root, 0, 0)
}

// breakOff sends part of what was asked for and cuts the line.
func breakOff(w http.ResponseWriter, body []byte, from, n int) {
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(body)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	w.Write(body[from:min(from+n, len(body))])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestBrokenDownloadIsContinued(t *testing.T) {
	b := web().MustBuild()
	body := b.Blobs[b.Manifest.Layers[1].Digest]
	piece := len(body)/7 + 1
	ranges := map[string]func(asked int, w http.ResponseWriter){
		"continues":     func(asked int, w http.ResponseWriter) { breakOff(w, body, asked, piece) },
		"starts over":   nil,
		"refuses range": func(asked int, w http.ResponseWriter) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) },
		"wrong range": func(asked int, w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 1-2/3")
			w.WriteHeader(http.StatusPartialContent)
		},
	}
	for name, answer := range ranges {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			ref := answers(t, b, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
				if !isLayer(b, r) {
					return false
				}
				var from int
				if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 && answer != nil {
					answer(from, w)
					return true
				}
				r.Header.Del("Range")
				if asked.Add(1) == 1 {
					breakOff(w, body, 0, piece)
				}
				return false
			})
			s, _ := open(t)
			img, err := s.Ensure(ctx, ref, runtime.Pull{})
			must(t, err)
			if readIn(t, img, 1, "etc/motd") != "two" {
				t.Error("wrong content")
			}
			if whole := asked.Load(); name == "continues" && whole != 1 {
				t.Errorf("asked for the whole blob %d times", whole)
			}
		})
	}
}

func TestTruncatedAndStalledBlobsEnd(t *testing.T) {
	b := web().MustBuild()
	body := b.Blobs[b.Manifest.Layers[1].Digest]
	cases := map[string]func(w http.ResponseWriter, r *http.Request){
		"short": func(w http.ResponseWriter, r *http.Request) { w.Write(body[:10]) },
		"stalled": func(w http.ResponseWriter, r *http.Request) {
			w.Write(body[:10])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"failing": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) },
	}
	for name, serveBlob := range cases {
		t.Run(name, func(t *testing.T) {
			ref := answers(t, b, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
				if isLayer(b, r) {
					serveBlob(w, r)
				}
				return isLayer(b, r)
			})
			s, root := open(t, func(o *oci.Options) { o.StallTimeout = 300 * time.Millisecond })
			_, err := s.Ensure(ctx, ref, runtime.Pull{})
			expectCode(t, err, api.CodeRegistryDown)
			left, err := filepath.Glob(filepath.Join(root, "tmp/*/[^l]*"))
			if must(t, err); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

func TestConcurrentPullsDoTheWorkOnce(t *testing.T) {
	b := web().MustBuild()
	var fetched sync.Map
	ref := answers(t, b, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		n, _ := fetched.LoadOrStore(r.URL.Path, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		return false
	})
	s, root := open(t)
	other, err := oci.Open(oci.Options{Root: root})
	must(t, err)
	t.Cleanup(func() { must(t, other.Close()) })
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			store := []*oci.Store{s, other}[i%2]
			if _, err := store.Ensure(ctx, ref, runtime.Pull{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	clean(t, root, 5, 3)
	fetched.Range(func(path, n any) bool {
		if n.(*atomic.Int32).Load() != 1 {
			t.Errorf("%s was fetched %d times", path, n.(*atomic.Int32).Load())
		}
		return true
	})
}

func TestCancelledPullLeavesNoTemp(t *testing.T) {
	b := web().MustBuild()
	started := make(chan struct{}, 10)
	ref := answers(t, b, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !isLayer(b, r) {
			return false
		}
		w.Write([]byte("x"))
		w.(http.Flusher).Flush()
		started <- struct{}{}
		<-r.Context().Done()
		return true
	})
	s, root := open(t)
	cancelled, cancel := context.WithCancel(ctx)
	go func() { <-started; cancel() }()
	_, err := s.Ensure(cancelled, ref, runtime.Pull{})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	left, err := filepath.Glob(filepath.Join(root, "tmp/*/[^l]*"))
	if must(t, err); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestPruneWaitsForPullsAndSaysSo(t *testing.T) {
	b := web().MustBuild()
	started, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	ref := answers(t, b, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if isLayer(b, r) {
			once.Do(func() { close(started) })
			<-release
		}
		return false
	})
	s, _ := open(t, func(o *oci.Options) { o.StallTimeout = time.Minute })
	done := make(chan error, 1)
	go func() {
		_, err := s.Ensure(ctx, ref, runtime.Pull{})
		done <- err
	}()
	<-started
	_, err := s.Prune(ctx, api.PrunePlan{}, nil)
	expectCode(t, err, api.CodeImageStoreBusy)
	close(release)
	must(t, <-done)
}

func TestPlainHTTPOnlyWhereAllowed(t *testing.T) {
	s, _ := open(t)
	_, err := s.Resolve(ctx, "10.255.255.1.invalid:5000/web:1", nil)
	expectCode(t, err, api.CodeRegistryDown)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://registry.invalid/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(srv.Close)
	_, err = s.Resolve(ctx, strings.TrimPrefix(srv.URL, "http://")+"/web:1", nil)
	if err == nil || !strings.Contains(err.Error(), "plain HTTP") {
		t.Errorf("a token service elsewhere over plain HTTP: %v", err)
	}
}

func TestDockerAuth(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	config := `{"auths":{"registry.test":{"auth":"YW5uOnNlY3JldA=="},"token.test":{"auth":"YW5uOng=","identitytoken":"tok"}}}`
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600))
	got, err := oci.DockerAuth("registry.test/web:1")
	if err != nil || got == nil || got.Username != "ann" || got.Password != "secret" {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err = oci.DockerAuth("token.test/web"); err != nil || got == nil || got.Password != "tok" {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err = oci.DockerAuth("other.test/web"); err != nil || got != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}
