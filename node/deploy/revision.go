package deploy

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// release is the content of a commit that is not yet made: what should run, without where.
type release struct {
	spec     api.Spec // images by digest; no secret values
	secrets  map[string]api.SealedSecret
	restarts map[string]int
	// of is the commit that this was taken from: by a rollback the namespace's own, by a promotion that of branch.
	of     int
	branch string
}

// revision is the hash of everything that makes an instance what it is. Routes, probes and placement are
// not in it: changing them replaces nothing.
func (r release) revision(name string) string {
	s := r.spec.Services[name]
	text, err := json.Marshal(struct {
		Digest    string
		Process   api.Process
		Files     []fileStamp
		Env       map[string]string
		Tmpfs     []api.Tmpfs
		Resources api.Resources
		Restart   api.Restart
		Security  api.Security
		Restarts  int
		// What came later is left out while unset, so that an upgrade replaces nothing.
		Mounts []api.Mount `json:",omitempty"`
	}{s.Digest, s.Process, r.stamps(s), r.secretEnv(s), s.Tmpfs, s.Resources, s.Restart, s.Security, r.restarts[name], s.Mounts})
	if err != nil {
		panic("deploy: a service that cannot be encoded: " + err.Error()) // plain data by construction
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

type fileStamp struct {
	File    api.File
	Content string
}

func (r release) stamps(s api.Service) []fileStamp {
	stamps := make([]fileStamp, len(s.Files))
	for i, f := range s.Files {
		stamps[i] = fileStamp{f, r.secrets[f.Secret].Fingerprint}
		if f.Config != "" {
			sum := sha256.Sum256(r.spec.Configs[f.Config].Content)
			stamps[i].Content = hex.EncodeToString(sum[:])
		}
	}
	return stamps
}

func (r release) secretEnv(s api.Service) map[string]string {
	env := map[string]string{}
	for variable, name := range s.Process.SecretEnv {
		env[variable] = r.secrets[name].Fingerprint
	}
	return env
}

// instance renders what the runtime is to run in a slot.
func (r release) instance(id, slot, service string, nsID uint32) runtime.Spec {
	s := r.spec.Services[service]
	spec := runtime.Spec{
		ID: id, Namespace: r.spec.Namespace, NamespaceID: nsID, Service: service, Slot: slot,
		Image: s.Image, Digest: s.Digest, Process: s.Process, Tmpfs: s.Tmpfs, Ports: s.Ports,
		Resources: s.Resources, Restart: s.Restart, Security: s.Security, Job: s.Job != nil,
	}
	for _, f := range s.Files {
		spec.Files = append(spec.Files, r.file(f))
	}
	for variable, name := range s.Process.SecretEnv {
		if spec.SecretEnv == nil {
			spec.SecretEnv = map[string]runtime.SealedValue{}
		}
		sealed := r.secrets[name]
		spec.SecretEnv[variable] = runtime.SealedValue{Sealed: sealed.Sealed, Fingerprint: sealed.Fingerprint}
	}
	return spec
}

func (r release) file(f api.File) runtime.FileContent {
	content := runtime.FileContent{Target: f.Target, UID: f.UID, GID: f.GID, Mode: f.Mode}
	if f.Config != "" {
		content.Plain = r.spec.Configs[f.Config].Content
		content.Mode = orMode(f.Mode, 0o444)
		return content
	}
	sealed := r.secrets[f.Secret]
	content.Sealed, content.Fingerprint = sealed.Sealed, sealed.Fingerprint
	content.Mode = orMode(f.Mode, 0o400)
	return content
}

func orMode(mode, fallback uint32) uint32 {
	if mode == 0 {
		return fallback
	}
	return mode
}

var idAlphabet = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// maxNameInID leaves room for the suffix in an id of 60 bytes; only slots of global services with
// long names reach it.
const maxNameInID = 53

// instanceID names an instance after its slot and the operation that makes it, so that a retry of
// a step means the same instance and two operations never do.
func instanceID(operation, ns, slot string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{operation, ns, slot}, "\x00")))
	name := ns + "-" + slot
	return fmt.Sprintf("%s-%s", name[:min(len(name), maxNameInID)], idAlphabet.EncodeToString(sum[:4])[:6])
}
