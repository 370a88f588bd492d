package oci

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// containerdName is where containerd and docker write an image's full name in a layout's index;
// the standard annotation often holds the tag only.
const containerdName = "io.containerd.image.name"

// choose finds the image that the archive is about.
func (in *intake) choose(reference string) (chosen, error) {
	switch {
	case in.documents[v1.ImageIndexFile] != nil:
		return in.chooseOCI(reference)
	case in.documents["manifest.json"] != nil:
		return in.chooseDocker(reference)
	default:
		return chosen{}, badArchive("archive", "it has neither an index.json nor a manifest.json")
	}
}

func (in *intake) chooseOCI(reference string) (chosen, error) {
	var index v1.Index
	if err := in.parseDocument(v1.ImageIndexFile, &index); err != nil {
		return chosen{}, err
	}
	candidates, err := named(index.Manifests, reference)
	if err != nil {
		return chosen{}, err
	}
	if reference == "" {
		if reference, err = ownName(annotatedName(candidates[0])); err != nil {
			return chosen{}, err
		}
	}
	c, err := in.descend(candidates, reference)
	if err != nil {
		return c, err
	}
	c.name, err = nameFor(reference)
	return c, err
}

// named narrows an index to one image: by the name asked for when it has it, else it must be about one.
func named(all []v1.Descriptor, reference string) ([]v1.Descriptor, error) {
	if len(all) == 0 {
		return nil, badArchive(v1.ImageIndexFile, "it lists no image")
	}
	var names []string
	for _, m := range all {
		if n := annotatedName(m); n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	if len(names) < 2 {
		return all, nil
	}
	matching := slices.DeleteFunc(slices.Clone(all), func(m v1.Descriptor) bool {
		return reference == "" || fullName(annotatedName(m)) != fullName(reference)
	})
	if len(matching) == 0 {
		e := badArchive(v1.ImageIndexFile, "it holds several images: %s", strings.Join(names, ", "))
		return nil, e.WithHint("say which one by its name")
	}
	return matching, nil
}

func annotatedName(m v1.Descriptor) string {
	if n := m.Annotations[containerdName]; n != "" {
		return n
	}
	return m.Annotations[v1.AnnotationRefName]
}

// ownName checks the name an archive gives its image. The standard annotation may hold just a tag,
// and a bare word names nothing.
func ownName(annotated string) (string, error) {
	if annotated == "" || strings.ContainsAny(annotated, ":/@") {
		return annotated, nil
	}
	e := badArchive(v1.ImageIndexFile, "it names its image only %q", annotated)
	return "", e.WithHint("give the image a name, such as web:%s", annotated)
}

// nameFor returns the full name, "" for none.
func nameFor(reference string) (string, error) {
	if reference == "" {
		return "", nil
	}
	ref, err := parseReference(reference)
	if err != nil {
		return "", err
	}
	return ref.Name(), nil
}

// descend goes from the layout's index to this machine's manifest.
func (in *intake) descend(manifests []v1.Descriptor, subject string) (chosen, error) {
	var c chosen
	for range maxNesting + 1 {
		d := manifests[0]
		if len(manifests) > 1 {
			var err error
			if d, err = in.store.choose(manifests, subject); err != nil {
				return c, err
			}
		}
		if err := checkDescriptor(d, subject); err != nil {
			return c, err
		}
		body, err := in.bytesOf(d, "manifest")
		if err != nil {
			return c, err
		}
		m, err := parseContent(body, subject)
		if err != nil {
			return c, err
		}
		if m.Config != nil {
			c.body, c.manifest = body, m
			return c, nil
		}
		if len(m.Manifests) == 0 {
			return c, badArchive(string(d.Digest), "an index without images")
		}
		c.index, manifests = d.Digest, m.Manifests
	}
	return c, unsupported(subject, "its indexes lie in each other more than %d deep", maxNesting)
}

// dockerEntry is one image of docker's manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// chooseDocker makes the manifest that docker's archive leaves out.
func (in *intake) chooseDocker(reference string) (chosen, error) {
	var entries []dockerEntry
	if err := in.parseDocument("manifest.json", &entries); err != nil {
		return chosen{}, err
	}
	entry, err := pickEntry(entries, reference)
	if err != nil {
		return chosen{}, err
	}
	if reference == "" && len(entry.RepoTags) > 0 {
		reference = entry.RepoTags[0]
	}
	c := chosen{}
	if c.name, err = nameFor(reference); err != nil {
		return c, err
	}
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	if m.Config, err = in.dockerConfig(entry.Config); err != nil {
		return c, err
	}
	for _, name := range entry.Layers {
		l, err := in.dockerLayer(name)
		if err != nil {
			return c, err
		}
		m.Layers = append(m.Layers, l)
	}
	if c.body, err = json.Marshal(m); err != nil {
		return c, err
	}
	c.manifest, err = parseContent(c.body, reference)
	return c, err
}

func pickEntry(entries []dockerEntry, reference string) (dockerEntry, error) {
	var names []string
	for _, e := range entries {
		names = append(names, e.RepoTags...)
		for _, tag := range e.RepoTags {
			if reference != "" && fullName(tag) == fullName(reference) {
				return e, nil
			}
		}
	}
	if len(entries) == 1 {
		return entries[0], nil
	}
	e := badArchive("manifest.json", "it holds %d images: %s", len(entries), strings.Join(names, ", "))
	return dockerEntry{}, e.WithHint("say which one by its name")
}

// dockerConfig turns the config, a document of the archive or a blob, into a blob.
func (in *intake) dockerConfig(name string) (v1.Descriptor, error) {
	d := v1.Descriptor{MediaType: v1.MediaTypeImageConfig}
	if body := in.documents[path.Clean(name)]; body != nil {
		p, err := in.store.newPartial(v1.Descriptor{Size: int64(len(body))})
		if err != nil {
			return d, err
		}
		if _, err := p.Write(body); err != nil {
			p.discard()
			return d, err
		}
		d.Digest, d.Size = p.digest(), p.size
		in.adopt(p)
		return d, nil
	}
	found, err := in.dockerLayer(name)
	found.MediaType = v1.MediaTypeImageConfig
	return found, err
}

// adopt takes a spooled blob into the intake, once.
func (in *intake) adopt(p *partial) {
	if in.blobs[p.digest()] != nil {
		p.discard()
		return
	}
	in.blobs[p.digest()] = p
}

// dockerLayer finds a file of the archive, directly or through the links that docker makes between
// equal layers, or under its digest where newer docker keeps it.
func (in *intake) dockerLayer(name string) (v1.Descriptor, error) {
	d := v1.Descriptor{MediaType: v1.MediaTypeImageLayer}
	key := path.Clean(name)
	for range 5 {
		if next, ok := in.links[key]; ok {
			key = next
		}
	}
	d.Digest = in.files[key]
	if hex, ok := strings.CutPrefix(key, "blobs/sha256/"); ok && d.Digest == "" {
		d.Digest = digest.NewDigestFromEncoded(digest.SHA256, hex)
	}
	if p := in.blobs[d.Digest]; p != nil {
		d.Size = p.size
		return d, nil
	}
	if size, ok := in.store.blobSize(d.Digest); ok {
		d.Size = size
		return d, nil
	}
	return d, badArchive(name, "manifest.json names this file, which the archive lacks")
}
