package oci

import (
	"net"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/ployz/ployz/node/api"
)

// parse reads a reference. Errors: image.bad-reference.
func (s *Store) parse(reference string) (name.Reference, error) {
	ref, err := parseReference(reference)
	if err != nil {
		return nil, err
	}
	if !s.plainHTTP(ref.Context().RegistryStr()) {
		return ref, nil
	}
	return name.ParseReference(reference, name.WeakValidation, name.Insecure)
}

func parseReference(reference string) (name.Reference, error) {
	ref, err := name.ParseReference(reference, name.WeakValidation)
	if err != nil {
		e := api.Errorf(api.CodeImageBadReference, "%q is not an image reference: %w", reference, err).About(reference)
		return nil, e.WithHint("write it as registry/name:tag or registry/name@sha256:..., in lower case")
	}
	return ref, nil
}

// plainHTTP says that the registry may be spoken to without TLS.
func (s *Store) plainHTTP(registry string) bool {
	host := registry
	if h, _, err := net.SplitHostPort(registry); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || (ip != nil && ip.IsLoopback()) || slices.Contains(s.opts.Insecure, registry)
}

// Familiar shortens a full name to what people write: the default registry and its folder of official
// images are left out.
func Familiar(full string) string {
	short := strings.TrimPrefix(full, name.DefaultRegistry+"/")
	return strings.TrimPrefix(short, "library/")
}
