package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/ployz/ployz/node/api"
)

// identitySchema changes when equal specs come to mean different instances.
const identitySchema = 1

// Identity is the hash that tells one instance from another of the same id: of the spec, the
// image's digest and the addresses. Sealed contents count by fingerprint. A field that a later
// version adds must be omitted from JSON while unset, so that an upgrade is not drift.
func Identity(spec Spec, image Image, addrs Addresses) (string, error) {
	text, err := json.Marshal(struct {
		Schema    int       `json:"schema"`
		Spec      Spec      `json:"spec"`
		Image     string    `json:"image"`
		Addresses Addresses `json:"addresses"`
	}{identitySchema, unsealed(spec), image.Digest, addrs})
	if err != nil {
		return "", fmt.Errorf("runtime: identity of %s: %w", spec.ID, err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16]), nil
}

// unsealed returns a copy without the sealed bytes, which differ at each sealing.
func unsealed(spec Spec) Spec {
	spec.Files = slices.Clone(spec.Files)
	for i := range spec.Files {
		spec.Files[i].Sealed = nil
	}
	spec.SecretEnv = maps.Clone(spec.SecretEnv)
	for name, value := range spec.SecretEnv {
		spec.SecretEnv[name] = SealedValue{Fingerprint: value.Fingerprint}
	}
	return spec
}

var idShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,59}$`)

// CheckID says whether an id may name a unit, a folder and a namespace file. Error:
// runtime.invalid-spec.
func CheckID(id string) error {
	if idShape.MatchString(id) {
		return nil
	}
	return api.Errorf(api.CodeRuntimeInvalid, "%q cannot be an instance id: letters, digits and dashes, at most 60", id)
}

// Check says whether the spec is complete enough for any backend. Errors: runtime.invalid-spec
// naming the field.
func (s Spec) Check() error {
	if err := CheckID(s.ID); err != nil {
		return err
	}
	for field, value := range map[string]string{"namespace": s.Namespace, "service": s.Service} {
		if value == "" {
			return api.Errorf(api.CodeRuntimeInvalid, "the spec has no %s", field).About("instance " + s.ID)
		}
	}
	for _, m := range s.Mounts {
		for _, place := range []string{m.Source, m.Target} {
			if !filepath.IsAbs(place) || filepath.Clean(place) != place || place == "/" {
				return api.Errorf(api.CodeRuntimeInvalid, "the mount of %s at %s: %q is not an absolute path without . and ..", m.Volume, m.Target, place).About("instance " + s.ID)
			}
		}
	}
	for _, f := range s.Files {
		if f.Plain != nil && f.Sealed != nil {
			return api.Errorf(api.CodeRuntimeInvalid, "file %s has both a plain and a sealed content", f.Target).About("instance " + s.ID)
		}
	}
	return nil
}
