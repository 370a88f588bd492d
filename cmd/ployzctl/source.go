package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy/compose"
	"github.com/ployz/ployz/node/runtime/oci"
)

// source is where a deploy's spec comes from.
type source struct {
	files     []string
	images    []string
	namespace string
	profiles  []string
}

func (s *source) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&s.files, "file", "f", nil, "Compose `FILE`, or a spec in JSON; - is standard input (default: the Compose file in this folder); again for overrides")
	f.StringArrayVar(&s.images, "image", nil, "`SERVICE=REFERENCE`: use this image instead of the file's")
	f.StringVar(&s.namespace, "namespace", "", "`NAMESPACE`, instead of the file's name")
	f.StringArrayVar(&s.profiles, "profile", nil, "Compose `PROFILE` to activate")
}

// deployRequest reads the spec and looks up the operator's registry credentials for it.
func (a *app) deployRequest(ctx context.Context, from source) (api.DeployRequest, error) {
	spec, err := a.loadSpec(ctx, from)
	if err != nil {
		return api.DeployRequest{}, err
	}
	if err := replaceImages(&spec, from.images); err != nil {
		return api.DeployRequest{}, err
	}
	auths, err := credentials(spec)
	return api.DeployRequest{Spec: spec, Auths: auths}, err
}

func (a *app) loadSpec(ctx context.Context, from source) (api.Spec, error) {
	options := compose.Options{Profiles: from.profiles, Name: from.namespace, Env: environment()}
	if len(from.files) > 0 {
		options.Path, options.Overrides = from.files[0], from.files[1:]
	}
	if options.Path == "-" {
		text, err := io.ReadAll(a.in)
		if err != nil {
			return api.Spec{}, api.Errorf(api.CodeBadRequest, "reading standard input: %w", err)
		}
		options.Path, options.Content = "stdin", text
	}
	if isJSON(options) {
		return a.loadJSON(options)
	}
	spec, notes, err := compose.Load(ctx, options)
	for _, n := range notes {
		a.note("note: %s: %s", n.Place, n.Text)
	}
	return spec, err
}

func environment() map[string]string {
	env := map[string]string{}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

// isJSON tells our own spec from Compose's JSON by its name, or on standard input by its first byte.
func isJSON(o compose.Options) bool {
	if o.Content != nil {
		return bytes.HasPrefix(bytes.TrimSpace(o.Content), []byte("{"))
	}
	return filepath.Ext(o.Path) == ".json"
}

func (a *app) loadJSON(o compose.Options) (api.Spec, error) {
	text := o.Content
	if text == nil {
		var err error
		if text, err = os.ReadFile(o.Path); err != nil {
			return api.Spec{}, api.Errorf(api.CodeBadRequest, "the spec cannot be read: %w", err).About(o.Path)
		}
	}
	var spec api.Spec
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&spec); err != nil {
		line := 1 + bytes.Count(text[:dec.InputOffset()], []byte("\n"))
		return api.Spec{}, api.Errorf(api.CodeBadRequest, "not a deploy spec: %w", err).About(fmt.Sprintf("%s:%d", o.Path, line))
	}
	if o.Name != "" {
		spec.Namespace = o.Name
	}
	return spec, nil
}

func replaceImages(spec *api.Spec, pairs []string) error {
	for _, pair := range pairs {
		name, image, ok := strings.Cut(pair, "=")
		s, known := spec.Services[name]
		switch {
		case !ok || image == "":
			return api.Errorf(api.CodeUsage, "--image %q is not SERVICE=REFERENCE", pair).WithHint("for example --image web=shop/web:v2")
		case !known:
			names := slices.Sorted(maps.Keys(spec.Services))
			return api.Errorf(api.CodeUsage, "--image names %q; the services are %s", name, strings.Join(names, ", "))
		}
		s.Image, s.Digest = image, ""
		spec.Services[name] = s
	}
	return nil
}

// credentials are what this user's docker config holds for the registries of the spec's images. A
// reference that cannot be read is left to the daemon, which says where it stands.
func credentials(spec api.Spec) (map[string]api.RegistryAuth, error) {
	auths := map[string]api.RegistryAuth{}
	for _, s := range spec.Services {
		auth, err := credentialsFor(s.Image)
		if err != nil {
			return nil, err
		}
		if auth != nil {
			auths[registryOf(s.Image)] = *auth
		}
	}
	return auths, nil
}

func credentialsFor(image string) (*api.RegistryAuth, error) {
	auth, err := oci.DockerAuth(image)
	if api.CodeOf(err) == api.CodeImageBadReference {
		return nil, nil
	}
	if err != nil {
		return nil, api.Errorf(api.CodeImageUnauthorized, "%w", err).About(image).WithHint("docker login %s", registryOf(image))
	}
	if auth == nil {
		return nil, nil
	}
	converted := api.RegistryAuth(*auth)
	return &converted, nil
}

// registryOf is the registry's name as a reference begins with it.
func registryOf(image string) string {
	host, _, found := strings.Cut(image, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "docker.io"
	}
	return host
}

func images(byService map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(byService)) {
		if !slices.Contains(list, byService[name]) {
			list = append(list, byService[name])
		}
	}
	return strings.Join(list, " ")
}
