package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// refName is the annotation by which readers of a layout find an image; its value here is the
// whole name:tag, so that a layout can be pushed without being told what it is.
const refName = "org.opencontainers.image.ref.name"

// image says what to pack. Layers go from the lowest up.
type image struct {
	name       string
	configFile string
	layerFiles []string
	created    time.Time
}

// writeImage packs an image into a layout in folder out. The layout is made beside it and
// renamed into place: a reader sees the old one or the new one, never half of either.
func writeImage(im image, out string) error {
	img, err := assemble(im)
	if err != nil {
		return err
	}
	fresh := out + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	dir, err := layout.Write(fresh, empty.Index)
	if err != nil {
		return err
	}
	if err := dir.AppendImage(img, layout.WithAnnotations(map[string]string{refName: im.name})); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(out), os.Rename(fresh, out)); err != nil {
		return err
	}
	return printSummary(im.name, img)
}

func assemble(im image) (v1.Image, error) {
	config, err := readConfig(im.configFile)
	if err != nil {
		return nil, err
	}
	adds, err := addenda(im)
	if err != nil {
		return nil, err
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	if img, err = mutate.Append(img, adds...); err != nil {
		return nil, err
	}
	return configure(img, config, im.created)
}

func configure(img v1.Image, config v1.Config, created time.Time) (v1.Image, error) {
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Config = config
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Created = v1.Time{Time: created}
	return mutate.ConfigFile(img, file)
}

func addenda(im image) ([]mutate.Addendum, error) {
	var adds []mutate.Addendum
	for _, file := range im.layerFiles {
		layer, err := tarball.LayerFromFile(file, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", file, err)
		}
		history := v1.History{CreatedBy: "ocibuild " + filepath.Base(file), Created: v1.Time{Time: im.created}}
		adds = append(adds, mutate.Addendum{Layer: layer, History: history})
	}
	if len(adds) == 0 {
		return nil, errors.New("an image needs at least one layer")
	}
	return adds, nil
}

// readConfig reads an image configuration and refuses keys that OCI does not have: a typing
// error in "User" would make an image that runs as root.
func readConfig(file string) (v1.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return v1.Config{}, err
	}
	var config v1.Config
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&config); err != nil {
		return v1.Config{}, fmt.Errorf("%s: %w", file, err)
	}
	return config, nil
}

// printSummary says in one line what was made: name, digest, size as it travels.
func printSummary(name string, img v1.Image) error {
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	var packed int64
	for _, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			return err
		}
		packed += size
	}
	_, err = fmt.Printf("%-16s %s  layers %d  packed %.1f MB\n", name, digest, len(layers), float64(packed)/1e6)
	return err
}
