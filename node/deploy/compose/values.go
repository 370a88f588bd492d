package compose

import (
	"maps"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/ployz/ployz/node/api"
)

// values reads the secrets and configs that the services name.
func (m *mapper) values() {
	secrets, configs := map[string]bool{}, map[string]bool{}
	for _, s := range m.spec.Services {
		for _, f := range s.Files {
			secrets[f.Secret], configs[f.Config] = true, true
		}
		for _, secret := range s.Process.SecretEnv {
			secrets[secret] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.project.Secrets)) {
		at := "secrets." + name
		if !secrets[name] {
			m.note(at, "no active service uses the secret, so it is not sent")
			continue
		}
		c := types.FileObjectConfig(m.project.Secrets[name])
		m.spec.Secrets[name] = api.Secret{Value: m.content(at, c), External: bool(c.External), Name: m.storedName(at, c)}
	}
	for _, name := range slices.Sorted(maps.Keys(m.project.Configs)) {
		at := "configs." + name
		if !configs[name] {
			m.note(at, "no active service uses the config, so it is not sent")
			continue
		}
		c := types.FileObjectConfig(m.project.Configs[name])
		m.spec.Configs[name] = api.Config{Content: m.content(at, c), External: bool(c.External), Name: m.storedName(at, c)}
	}
	if len(m.spec.Secrets) == 0 {
		m.spec.Secrets = nil
	}
	if len(m.spec.Configs) == 0 {
		m.spec.Configs = nil
	}
}

// storedName is the name that the file gives; compose-go makes one up where it gives none.
func (m *mapper) storedName(at string, c types.FileObjectConfig) string {
	if _, ok := m.places[at+".name"]; ok {
		return c.Name
	}
	return ""
}

// content is a secret's or a config's value.
func (m *mapper) content(at string, c types.FileObjectConfig) []byte {
	switch {
	case bool(c.External):
		return nil
	case c.File != "":
		content, err := readRegular(c.File)
		if err != nil {
			m.problem(at+".file", missingFile(m.short(c.File), err))
		}
		return content
	case c.Environment != "":
		value, ok := m.lookup(c.Environment)
		if !ok {
			m.problem(at+".environment", api.Errorf(api.CodeComposeVariable, "the variable %s is not set", c.Environment).
				WithHint("export %s=..., or put it into .env", c.Environment))
		}
		return []byte(value)
	case c.Content == "":
		m.bad(at, "nothing says what is in it").WithHint("give it file, environment or external: true")
	}
	return []byte(c.Content)
}
