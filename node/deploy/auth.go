package deploy

import (
	"strings"

	"github.com/ployz/ployz/node/runtime"
)

// defaultRegistry is the one that a reference without a registry's name means.
const defaultRegistry = "docker.io"

// authFor picks the credentials of a reference's registry; nil is an anonymous pull.
func authFor(reference string, auths map[string]runtime.RegistryAuth) *runtime.RegistryAuth {
	host, _, found := strings.Cut(reference, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host = defaultRegistry
	}
	if auth, ok := auths[host]; ok {
		return &auth
	}
	return nil
}
