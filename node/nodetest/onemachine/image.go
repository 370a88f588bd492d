package onemachine

import (
	"archive/tar"
	"os"
	"path/filepath"

	"github.com/ployz/ployz/node/runtime/oci/ocitest"
)

// Image makes the agent's image under a reference, with files of its own beside it.
func (m *Machine) Image(reference string, files map[string]string) *ocitest.Image {
	m.t.Helper()
	agent, err := os.ReadFile(m.tools.agent)
	if err != nil {
		m.t.Fatal(err)
	}
	img := ocitest.New(reference, map[string]string{"agent": string(agent)}, "/agent")
	img.Config.Cmd = []string{"serve"}
	console := ocitest.File("dev/console", 0o600, "") // as images of distributions have
	console.Typeflag, console.Devmajor, console.Devminor = tar.TypeChar, 5, 1
	img.Layers = append(img.Layers, ocitest.Layer{Entries: []ocitest.Entry{ocitest.Dir("dev", 0o755), console}})
	if len(files) > 0 {
		img.Layers = append(img.Layers, ocitest.Files(files))
	}
	return img
}

// Layout writes an image as an OCI layout and returns its folder.
func (m *Machine) Layout(name string, b *ocitest.Built) string {
	m.t.Helper()
	dir := filepath.Join(m.dir, name)
	if err := ocitest.WriteLayout(dir, b); err != nil {
		m.t.Fatal(err)
	}
	return dir
}

// Push makes the agent's image and pushes it to the machine.
func (m *Machine) Push(reference string, files map[string]string) {
	m.t.Helper()
	m.Must("image", "push", m.Layout("layout", m.Image(reference, files).MustBuild()))
}
