package memruntime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// Images implements runtime.Images in memory. Its registry is a table filled by Serve.
type Images struct {
	Faults
	mu       sync.Mutex
	registry map[string]runtime.Image // guarded by mu
	present  map[string]runtime.Image // guarded by mu
}

// NewImages returns an image store without images and an empty registry.
func NewImages() *Images {
	return &Images{registry: map[string]runtime.Image{}, present: map[string]runtime.Image{}}
}

// Serve puts an image into the registry, with a digest made from the content text, and returns
// it. A second call with another content moves the reference, as a tag does.
func (i *Images) Serve(reference, content string, config runtime.ImageConfig) runtime.Image {
	i.mu.Lock()
	defer i.mu.Unlock()
	image := made(reference, []byte(content), config)
	i.registry[reference] = image
	name, _, _ := strings.Cut(reference, "@")
	i.registry[name+"@"+image.Digest] = image
	return image
}

func made(reference string, content []byte, config runtime.ImageConfig) runtime.Image {
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	return runtime.Image{Reference: reference, Digest: digest, Layers: []string{"/layers/" + digest}, Config: config, Bytes: int64(len(content))}
}

// Ensure implements runtime.Images.
func (i *Images) Ensure(ctx context.Context, reference string, pull runtime.Pull) (image runtime.Image, err error) {
	err = i.around("Ensure", reference, func() error {
		i.mu.Lock()
		defer i.mu.Unlock()
		have, ok := i.findLocked(reference)
		if ok && !pull.Always {
			image = have
			i.nameLocked(reference, have, pull.Named)
			return nil
		}
		image, ok = i.registry[reference]
		if !ok {
			return absent(reference)
		}
		i.present[reference] = image
		i.nameLocked(reference, image, pull.Named)
		return nil
	})
	return image, err
}

// nameLocked gives an image the tag of its reference, unless a newer one has it.
func (i *Images) nameLocked(reference string, image runtime.Image, at time.Time) {
	tag, _, fixed := strings.Cut(reference, "@")
	if at.IsZero() || !fixed || i.present[tag].Named.After(at) {
		return
	}
	image.Reference, image.Named = tag, at
	i.present[tag] = image
}

// Import implements runtime.Images: the archive's bytes are the content.
func (i *Images) Import(ctx context.Context, reference string, archive io.Reader, progress runtime.Progress) (image runtime.Image, err error) {
	content, err := io.ReadAll(archive)
	if err != nil {
		return image, fmt.Errorf("memruntime: import %s: %w", reference, err)
	}
	err = i.around("Import", reference, func() error {
		i.mu.Lock()
		defer i.mu.Unlock()
		image = made(reference, content, runtime.ImageConfig{})
		image.Named = time.Now()
		i.present[reference] = image
		return nil
	})
	return image, err
}

// Resolve implements runtime.Images.
func (i *Images) Resolve(ctx context.Context, reference string, auth *runtime.RegistryAuth) (string, error) {
	if _, digest, fixed := strings.Cut(reference, "@"); fixed {
		return digest, nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if image, ok := i.registry[reference]; ok {
		return image.Digest, nil
	}
	return "", api.Errorf(api.CodeImageNotFound, "the registry has no image %s", reference).About(reference)
}

// Lookup implements runtime.Images.
func (i *Images) Lookup(ctx context.Context, reference string) (runtime.Image, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if image, ok := i.findLocked(reference); ok {
		return image, nil
	}
	return runtime.Image{}, absent(reference)
}

func (i *Images) findLocked(reference string) (runtime.Image, bool) {
	if image, ok := i.present[reference]; ok {
		return image, true
	}
	_, digest, ok := strings.Cut(reference, "@")
	if !ok {
		digest = reference
	}
	for _, image := range i.present {
		if image.Digest == digest {
			image.Named = time.Time{}
			return image, true
		}
	}
	return runtime.Image{}, false
}

func absent(reference string) error {
	return api.Errorf(api.CodeImageNotFound, "no such image here or in the registry").
		About("image "+reference).WithHint("ployzctl image push %s", reference)
}

// User implements runtime.Images: numbers stand for themselves, root is 0, and any other name
// does not exist.
func (i *Images) User(ctx context.Context, image runtime.Image, user string) (uid, gid uint32, groups []uint32, err error) {
	name, group, _ := strings.Cut(user, ":")
	if uid, err = number(name); err != nil {
		return 0, 0, nil, err
	}
	gid, err = number(group)
	return uid, gid, nil, err
}

func number(name string) (uint32, error) {
	if name == "" || name == "root" {
		return 0, nil
	}
	n, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return 0, api.Errorf(api.CodeImageNoUser, "no user or group %q in the image", name)
	}
	return uint32(n), nil
}

// List implements runtime.Images.
func (i *Images) List(ctx context.Context) ([]runtime.ImageEntry, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []runtime.ImageEntry
	for _, reference := range sortedKeys(i.present) {
		image := i.present[reference]
		all = append(all, runtime.ImageEntry{References: []string{reference}, Digest: image.Digest, Bytes: image.Bytes, Added: time.Unix(0, 0)})
	}
	return all, nil
}

// Remove implements runtime.Images.
func (i *Images) Remove(ctx context.Context, reference string) error {
	return i.around("Remove", reference, func() error {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.present, reference)
		return nil
	})
}

// World is every present image as text, sorted.
func (i *Images) World() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var lines []string
	for _, reference := range sortedKeys(i.present) {
		lines = append(lines, "image "+reference+" "+i.present[reference].Digest)
	}
	return lines
}
