package oci

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// maxManifest is what registries themselves allow for a manifest.
const maxManifest = 4 << 20

// registry is a source: an authenticated way to one repository.
type registry struct {
	store  *Store
	ref    name.Reference
	client *http.Client
	close  func()
}

func (c *registry) origin() string { return "registry" }

func (c *registry) failed(err error) error { return registryError(c.ref, err) }

// connect finds out how the registry wants to be spoken to, and signs in.
func (s *Store) connect(ctx context.Context, ref name.Reference, auth *runtime.RegistryAuth) (*registry, error) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.TLSClientConfig = &tls.Config{RootCAs: s.opts.RootCAs, MinVersion: tls.VersionTLS12}
	base.ResponseHeaderTimeout = s.opts.StallTimeout
	scopes := []string{ref.Context().Scope(transport.PullScope)}
	rt, err := transport.NewWithContext(ctx, ref.Context().Registry, authenticator(auth), guard{s, base}, scopes)
	if err != nil {
		base.CloseIdleConnections()
		return nil, registryError(ref, err)
	}
	return &registry{store: s, ref: ref, client: &http.Client{Transport: rt}, close: base.CloseIdleConnections}, nil
}

// authenticator turns the request's credentials into the registry client's. The user name
// "<token>" is how credential stores mark a password that is an identity token.
func authenticator(auth *runtime.RegistryAuth) authn.Authenticator {
	switch {
	case auth == nil || *auth == runtime.RegistryAuth{}:
		return authn.Anonymous
	case auth.Token != "":
		return authn.FromConfig(authn.AuthConfig{RegistryToken: auth.Token})
	case auth.Username == tokenUser:
		return authn.FromConfig(authn.AuthConfig{IdentityToken: auth.Password})
	default:
		return authn.FromConfig(authn.AuthConfig{Username: auth.Username, Password: auth.Password})
	}
}

const tokenUser = "<token>"

// DockerAuth returns the credentials that this user's docker config (or its credential program)
// has for the reference's registry, or nil. It is for the operator's side: the machine has none.
func DockerAuth(reference string) (*runtime.RegistryAuth, error) {
	ref, err := parseReference(reference)
	if err != nil {
		return nil, err
	}
	found, err := authn.DefaultKeychain.Resolve(ref.Context())
	if err != nil {
		return nil, fmt.Errorf("reading docker's credentials for %s: %w", ref.Context().RegistryStr(), err)
	}
	config, err := found.Authorization()
	if err != nil {
		return nil, fmt.Errorf("reading docker's credentials for %s: %w", ref.Context().RegistryStr(), err)
	}
	switch {
	case *config == authn.AuthConfig{}:
		return nil, nil
	case config.IdentityToken != "":
		return &runtime.RegistryAuth{Username: tokenUser, Password: config.IdentityToken}, nil
	default:
		return &runtime.RegistryAuth{Username: config.Username, Password: config.Password, Token: config.RegistryToken}, nil
	}
}

// guard refuses plain HTTP where it was not allowed: the registry client would fall back to it
// for every private address, and a redirect or a token service could ask for it.
type guard struct {
	store *Store
	inner http.RoundTripper
}

var errPlainHTTP = errors.New("the registry speaks plain HTTP, which is allowed on loopback only")

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && !g.store.plainHTTP(r.URL.Host) {
		return nil, fmt.Errorf("%s: %w", r.URL.Host, errPlainHTTP)
	}
	return g.inner.RoundTrip(r)
}

// manifest implements source: it fetches by tag or digest, and checks a digest.
func (c *registry) manifest(ctx context.Context, id string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.store.opts.StallTimeout)
	defer cancel()
	resp, err := c.get(ctx, http.MethodGet, c.url("manifests", id), map[string]string{"Accept": accepted})
	if err != nil {
		return nil, registryError(c.ref, err)
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, registryError(c.ref, err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return nil, registryError(c.ref, err)
	}
	if len(body) > maxManifest {
		return nil, api.Errorf(api.CodeImageMedia, "the manifest is larger than %s", size(maxManifest)).About(c.ref.Name())
	}
	return body, checkManifest(body, id)
}

// checkManifest holds a manifest against the digest it was asked for by.
func checkManifest(body []byte, id string) error {
	if want, err := digest.Parse(id); err == nil && digest.FromBytes(body) != want {
		p := partial{want: v1.Descriptor{Digest: want}}
		return p.mismatch("the manifest's bytes hash to %s", digest.FromBytes(body))
	}
	return nil
}

// blob implements source.
func (c *registry) blob(ctx context.Context, p *partial) (io.ReadCloser, error) {
	headers := map[string]string{}
	if p.size > 0 {
		headers["Range"] = fmt.Sprintf("bytes=%d-", p.size)
	}
	resp, err := c.get(ctx, http.MethodGet, c.url("blobs", string(p.want.Digest)), headers)
	if err != nil {
		return nil, err
	}
	if err := accept(resp, p); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp.Body, nil
}

func (c *registry) url(kind, id string) string {
	repo := c.ref.Context()
	return "https://" + repo.RegistryStr() + "/v2/" + repo.RepositoryStr() + "/" + kind + "/" + id
}

func (c *registry) get(ctx context.Context, method, url string, headers map[string]string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	return c.client.Do(req)
}

// Resolve asks the registry which digest the reference has now; a digest answers for itself.
// Errors: image.bad-reference, image.not-found, image.unauthorized, image.registry-unreachable.
func (s *Store) Resolve(ctx context.Context, reference string, auth *runtime.RegistryAuth) (string, error) {
	ref, err := s.parse(reference)
	if err != nil {
		return "", err
	}
	if d, ok := ref.(name.Digest); ok {
		return d.DigestStr(), nil
	}
	c, err := s.connect(ctx, ref, auth)
	if err != nil {
		return "", err
	}
	defer c.close()
	resp, err := c.get(ctx, http.MethodHead, c.url("manifests", ref.Identifier()), map[string]string{"Accept": accepted})
	if err != nil {
		return "", registryError(ref, err)
	}
	resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return "", registryError(ref, err)
	}
	if d, err := digest.Parse(resp.Header.Get("Docker-Content-Digest")); err == nil {
		return string(d), nil
	}
	// The header is optional in the protocol; the bytes tell as well.
	body, err := c.manifest(ctx, ref.Identifier())
	return string(digest.FromBytes(body)), err
}

// registryError types what a registry, or the way to it, answered.
func registryError(ref name.Reference, err error) error {
	var typed *api.Error
	if errors.As(err, &typed) || errors.Is(err, context.Canceled) {
		return err
	}
	host := ref.Context().RegistryStr()
	var answer *transport.Error
	if errors.As(err, &answer) {
		return answerError(ref, host, answer)
	}
	e := api.Errorf(api.CodeRegistryDown, "the registry %s cannot be reached: %w", host, err).About(ref.Name())
	if strings.Contains(err.Error(), errPlainHTTP.Error()) {
		return e.WithHint("give the registry a certificate, or list %q under insecure registries in /etc/ployz/config.toml", host)
	}
	return e.WithHint("check the name, and from this machine: curl https://%s/v2/; without a registry: ployzctl image push PATH", host).Again()
}

func answerError(ref name.Reference, host string, answer *transport.Error) error {
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		e := api.Errorf(api.CodeImageUnauthorized, "the registry %s refuses: %w", host, answer).About(ref.Name())
		return e.WithHint("sign in with docker login %s; many registries answer like this for an image that does not exist, too", host)
	case http.StatusNotFound:
		e := api.Errorf(api.CodeImageNotFound, "the registry %s has no %s", host, ref.Name()).About(ref.Name())
		return e.WithHint("check the name and the tag")
	default:
		e := api.Errorf(api.CodeRegistryDown, "the registry %s answers with status %d: %w", host, answer.StatusCode, answer).About(ref.Name())
		if answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests {
			e = e.Again()
		}
		return e.WithHint("try again later, or ask whoever runs the registry")
	}
}
