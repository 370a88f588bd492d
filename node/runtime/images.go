package runtime

import (
	"context"
	"io"
	"time"
)

// Image is one unpacked image: what a bundle needs to know of it.
type Image struct {
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
	// Named is when the reference was given to an image that was pushed, here or on the machine that it came from; zero
	// where a registry says what the reference means.
	Named time.Time `json:"named,omitzero"`
	// Layers are folders in overlayfs form, the topmost last.
	Layers []string    `json:"layers"`
	Config ImageConfig `json:"config"`
	Bytes  int64       `json:"bytes"`
}

// ImageConfig is the part of the image's own configuration that a bundle starts from.
type ImageConfig struct {
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Command      []string          `json:"command,omitempty"`
	Env          []string          `json:"env,omitempty"`
	WorkDir      string            `json:"workDir,omitempty"`
	User         string            `json:"user,omitempty"`
	StopSignal   string            `json:"stopSignal,omitempty"`
	ExposedPorts []string          `json:"exposedPorts,omitempty"`
	Volumes      []string          `json:"volumes,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
}

// Images keeps this machine's images, content-addressed.
type Images interface {
	// Ensure makes the image present and unpacked, pulling it when needed. A reference that
	// is present is not looked up again unless pull.Always. Errors: image.*.
	Ensure(ctx context.Context, reference string, pull Pull) (Image, error)
	// Import reads an OCI layout or a docker-save archive as a tar stream and names it.
	Import(ctx context.Context, reference string, archive io.Reader, progress Progress) (Image, error)
	// Resolve asks the registry which digest a reference has now; a digest answers for itself.
	// Errors: image.*.
	Resolve(ctx context.Context, reference string, auth *RegistryAuth) (string, error)
	// Lookup returns a present image by reference or digest. Errors: image.not-found.
	Lookup(ctx context.Context, reference string) (Image, error)
	// User resolves "name", "uid", "name:group" or "uid:gid" inside the image.
	User(ctx context.Context, image Image, user string) (uid, gid uint32, groups []uint32, err error)
	// List returns every present image.
	List(ctx context.Context) ([]ImageEntry, error)
	// Remove forgets a reference; the bytes go at the next prune.
	Remove(ctx context.Context, reference string) error
}

// Pull says how to fetch.
type Pull struct {
	Always bool
	// Auth are the operator's credentials for the registry, passed with the request and never stored.
	Auth     *RegistryAuth
	Progress Progress
	// Peers are machines that may have the image; a reference by digest is taken from them
	// before the registry is asked.
	Peers []Peer
	// Named also gives the image the tag of a reference by tag and digest, since it was pushed under that at this time.
	// A newer image of the name keeps it. Zero gives it nothing.
	Named time.Time
}

// Peer is another machine's image store, reached over the overlay. Its bytes are trusted as far as their
// digest goes.
type Peer interface {
	// Blob reads a blob from an offset on; the reader ends with the blob, or where the way broke.
	// Errors: image.not-found; any other may pass when tried again.
	Blob(ctx context.Context, digest string, offset int64) (io.ReadCloser, error)
}

// Blobs is what an image store hands out to peers.
type Blobs interface {
	// OpenBlob opens a stored blob: a manifest, a config, a layer. Errors: image.not-found,
	// image.bad-reference.
	OpenBlob(digest string) (io.ReadSeekCloser, error)
}

// RegistryAuth is one registry's credentials.
type RegistryAuth struct {
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Token    string `json:"token,omitempty"`
}

// Progress reports bytes of one part, such as a layer's digest; total is -1 when unknown.
type Progress func(part string, done, total int64)

// ImageEntry is one line of `image ls`.
type ImageEntry struct {
	References []string  `json:"references"`
	Digest     string    `json:"digest"`
	Bytes      int64     `json:"bytes"`
	Created    time.Time `json:"created"`
	Added      time.Time `json:"added"`
	InUse      bool      `json:"inUse"`
}
