package oci

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime/oci/overlay"
)

// Docker's schema 2 media types, which mean the same as OCI's.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// accepted is what we ask registries for.
var accepted = strings.Join([]string{v1.MediaTypeImageIndex, v1.MediaTypeImageManifest, dockerList, dockerManifest}, ", ")

// layerTypes are the layers that can be unpacked; compression is read off the bytes.
var layerTypes = []string{
	v1.MediaTypeImageLayer, v1.MediaTypeImageLayerGzip, v1.MediaTypeImageLayerZstd,
	"application/vnd.docker.image.rootfs.diff.tar",
	"application/vnd.docker.image.rootfs.diff.tar.gzip",
	"application/vnd.docker.image.rootfs.diff.tar.zstd",
}

// configFile is an image's config as far as it matters here.
type configFile struct {
	v1.Platform
	Created *time.Time      `json:"created"`
	Config  containerConfig `json:"config"`
	RootFS  v1.RootFS       `json:"rootfs"`
}

type containerConfig struct {
	v1.ImageConfig
	Healthcheck *Healthcheck
}

// Healthcheck is the image's own idea of how to tell that it works. Test is in Docker's form:
// "NONE", or "CMD" and arguments, or "CMD-SHELL" and a line; times are nanoseconds in JSON.
type Healthcheck struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// content is any manifest or index: which one it is shows in what it has, whatever the header says.
type content struct {
	MediaType    string          `json:"mediaType"`
	ArtifactType string          `json:"artifactType"`
	Manifests    []v1.Descriptor `json:"manifests"`
	Config       *v1.Descriptor  `json:"config"`
	Layers       []v1.Descriptor `json:"layers"`
	FSLayers     []any           `json:"fsLayers"`
}

// parseContent reads a manifest or index. Errors: image.unsupported-media.
func parseContent(body []byte, subject string) (content, error) {
	var c content
	if err := json.Unmarshal(body, &c); err != nil {
		return c, unsupported(subject, "its manifest is not JSON: %w", err)
	}
	switch {
	case c.FSLayers != nil:
		return c, unsupported(subject, "its manifest is Docker schema 1, which registries gave up in 2019")
	case c.Manifests != nil && c.Config != nil:
		return c, unsupported(subject, "its manifest claims to be an index as well")
	case c.Manifests == nil && c.Config == nil:
		return c, unsupported(subject, "neither a manifest nor an index (media type %q)", c.MediaType)
	}
	return c, nil
}

func unsupported(subject, format string, args ...any) *api.Error {
	e := api.Errorf(api.CodeImageMedia, format, args...).About(subject)
	return e.WithHint("build or push it as an OCI or Docker schema 2 image")
}

// checkManifest holds an image manifest against what can be unpacked.
func (c content) check(subject string) error {
	if t := c.Config.MediaType; t != v1.MediaTypeImageConfig && t != dockerConfig {
		return unsupported(subject, "it is no container image but an artifact of type %q", t)
	}
	if len(c.Layers) == 0 || len(c.Layers) > overlay.MaxLayers {
		return unsupported(subject, "it has %d layers, possible are 1 to %d", len(c.Layers), overlay.MaxLayers)
	}
	if err := checkDescriptor(*c.Config, subject); err != nil {
		return err
	}
	if c.Config.Size > maxManifest {
		return unsupported(subject, "its config has %d bytes, possible are %d", c.Config.Size, maxManifest)
	}
	for _, l := range c.Layers {
		if !slices.Contains(layerTypes, l.MediaType) {
			return unsupported(subject, "the layer %s is of type %q", l.Digest, l.MediaType)
		}
		if err := checkDescriptor(l, subject); err != nil {
			return err
		}
	}
	return nil
}

func checkDescriptor(d v1.Descriptor, subject string) error {
	if d.Digest.Validate() != nil || d.Digest.Algorithm() != digest.SHA256 {
		return unsupported(subject, "it names a part by %q, which is not a sha256 digest", d.Digest)
	}
	if d.Size < 0 {
		return unsupported(subject, "it declares %d bytes for %s", d.Size, d.Digest)
	}
	return nil
}

// choose picks this machine's image from an index. Errors: image.no-platform, listing what there is.
func (s *Store) choose(manifests []v1.Descriptor, subject string) (v1.Descriptor, error) {
	best, score := v1.Descriptor{}, 0
	var offered []string
	for _, m := range manifests {
		if m.Platform == nil || m.Platform.OS == "unknown" {
			continue // attestations and other company
		}
		offered = append(offered, platformName(*m.Platform))
		if got := s.fits(*m.Platform); got > score {
			best, score = m, got
		}
	}
	if score == 0 {
		return best, s.noPlatform(offered, subject)
	}
	return best, checkDescriptor(best, subject)
}

// fits scores a platform: 0 cannot run here, more is better.
func (s *Store) fits(p v1.Platform) int {
	base := map[string]string{"amd64": "v1", "arm64": "v8"}[s.opts.Architecture]
	switch {
	case p.OS != "linux" || p.Architecture != s.opts.Architecture:
		return 0
	case s.opts.Variant != "" && p.Variant == s.opts.Variant:
		return 3
	case p.Variant == "":
		return 2
	case p.Variant == base:
		return 1
	default:
		return 0
	}
}

func (s *Store) noPlatform(offered []string, subject string) error {
	want := platformName(v1.Platform{OS: "linux", Architecture: s.opts.Architecture, Variant: s.opts.Variant})
	e := api.Errorf(api.CodeImageNoPlatform, "it is not built for %s, only for: %s", want, strings.Join(offered, ", ")).About(subject)
	return e.WithHint("build it for this machine, for example with docker buildx build --platform %s", want)
}

func platformName(p v1.Platform) string {
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return name
}

// parseConfig reads an image's config and holds it against its manifest and this machine.
func (s *Store) parseConfig(body []byte, layers int, subject string) (configFile, error) {
	var c configFile
	if err := json.Unmarshal(body, &c); err != nil {
		return c, unsupported(subject, "its config is not JSON: %w", err)
	}
	if (c.OS != "" || c.Architecture != "") && s.fits(c.Platform) == 0 {
		return c, s.noPlatform([]string{platformName(c.Platform)}, subject)
	}
	if len(c.RootFS.DiffIDs) != layers {
		return c, unsupported(subject, "its config lists %d layers, its manifest %d", len(c.RootFS.DiffIDs), layers)
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := checkDescriptor(v1.Descriptor{Digest: d}, subject); err != nil {
			return c, err
		}
	}
	return c, nil
}

// chainIDs names each layer together with all below it: what it unpacks to depends on both.
func chainIDs(diffs []digest.Digest) []digest.Digest {
	chain := make([]digest.Digest, len(diffs))
	for i, d := range diffs {
		if chain[i] = d; i > 0 {
			chain[i] = digest.FromString(fmt.Sprintf("%s %s", chain[i-1], d))
		}
	}
	return chain
}
