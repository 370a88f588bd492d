package main

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/ployz/ployz/node/api"
)

// requests are the kinds of operations with their request's types.
var requests = map[string]any{
	api.KindDeploy:               api.DeployRequest{},
	api.KindRollback:             api.RollbackRequest{},
	api.KindPromote:              api.PromoteRequest{},
	api.KindScale:                api.ScaleRequest{},
	api.KindRestart:              api.ServiceRequest{},
	api.KindRemove:               api.NamespaceRequest{},
	api.KindClear:                api.NamespaceRequest{},
	api.KindSecretSet:            api.ValueRequest{},
	api.KindSecretRemove:         api.ValueRemoveRequest{},
	api.KindConfigSet:            api.ValueRequest{},
	api.KindConfigRemove:         api.ValueRemoveRequest{},
	api.KindRun:                  api.RunRequest{},
	api.KindImagePull:            api.ImagePullRequest{},
	api.KindImageRemove:          api.ImageRemoveRequest{},
	api.KindImagePrune:           api.ImagePruneRequest{},
	api.KindStoreRecover:         api.RecoverRequest{},
	api.KindStoreReform:          api.ReformRequest{},
	api.KindStoreRestore:         api.RestoreRequest{},
	api.KindMachineInit:          api.InitRequest{},
	api.KindMachineToken:         api.TokenRequest{},
	api.KindMachineJoin:          api.JoinRequest{},
	api.KindMachineAdmit:         api.AdmitRequest{},
	api.KindMachineWithdraw:      api.AdmitRequest{},
	api.KindMachineSet:           api.MachineSetRequest{},
	api.KindMachineUpdate:        api.MachineUpdateRequest{},
	api.KindMachineRemove:        api.MachineRemoveRequest{},
	api.KindStoreVoters:          api.VotersRequest{},
	api.KindStoreRepair:          api.RepairRequest{},
	api.KindMigrate:              api.MigrateRequest{},
	api.KindVolumeRemove:         api.VolumeRequest{},
	api.KindVolumeRestore:        api.VolumeRestoreRequest{},
	api.KindVolumePrune:          api.VolumePruneRequest{},
	api.KindVolumeSnapshot:       api.VolumeSnapshotRequest{},
	api.KindVolumeSnapshotRemove: api.VolumeSnapshotRequest{},
	api.KindVolumeClone:          api.VolumeCloneRequest{},
	api.KindVolumeSend:           api.VolumeSendRequest{},
	api.KindVolumeCreate:         api.VolumeCreateRequest{},
	api.KindBranch:               api.BranchRequest{},
	api.KindBranchRemove:         api.NamespaceRequest{},
}

const place = "#/components/schemas/"

// schemas are the description's types, made from Go's.
type schemas struct {
	reflector  *jsonschema.Reflector
	components map[string]object
	failed     error
}

func newSchemas() (*schemas, error) {
	s := &schemas{components: map[string]object{}, reflector: &jsonschema.Reflector{
		// What an answer may gain later is no error of a client; the daemon itself refuses what it does not know.
		AllowAdditionalProperties: true,
		Mapper:                    asText,
		Namer:                     exportedName,
	}}
	return s, s.reflector.AddGoComments("github.com/ployz/ployz", "./node/api", jsonschema.WithFullComment())
}

// exportedName is a type's name, also of one that only its package can name.
func exportedName(t reflect.Type) string {
	if t.Name() == "" {
		return ""
	}
	return strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
}

// asText describes what Go writes as a string by a method of its own: addresses, prefixes, durations.
func asText(t reflect.Type) *jsonschema.Schema {
	switch {
	case t == reflect.TypeFor[api.Duration]():
		return &jsonschema.Schema{Type: "string", Description: "a duration, as 1m30s"}
	case t == reflect.TypeFor[json.RawMessage]():
		return &jsonschema.Schema{Description: "any JSON"}
	case t.PkgPath() == "net/netip":
		return &jsonschema.Schema{Type: "string", Description: map[string]string{
			"Addr": "an IP address", "Prefix": "a prefix, as 10.101.0.0/16", "AddrPort": "an address and port, as [fd00::1]:80",
		}[t.Name()]}
	}
	return nil
}

// of describes a value's type, and keeps the types that it names.
func (s *schemas) of(value any) object {
	schema := s.reflector.Reflect(value)
	text, err := json.Marshal(schema)
	if err != nil {
		s.failed = err
		return nil
	}
	var made object
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), "#/$defs/", place)), &made); err != nil {
		s.failed = err
		return nil
	}
	defs, _ := made["$defs"].(map[string]any)
	for name, def := range defs {
		s.components[name] = nullable(def.(map[string]any))
	}
	delete(made, "$defs")
	delete(made, "$schema")
	delete(made, "$id")
	return made
}

// nullable allows what Go writes for lists and maps that nobody filled.
func nullable(def object) object {
	required, _ := def["required"].([]any)
	properties, _ := def["properties"].(map[string]any)
	for _, name := range required {
		p, ok := properties[name.(string)].(map[string]any)
		_, isMap := p["additionalProperties"]
		if ok && (p["type"] == "array" || isMap) {
			p["type"] = []any{p["type"], "null"}
		}
	}
	return def
}

// refine says of an operation's request what Go's types cannot: which request belongs to which kind.
func (s *schemas) refine() {
	kinds := slices.Sorted(maps.Keys(requests))
	var belongs []object
	for _, kind := range kinds {
		belongs = append(belongs, object{
			"if":   object{"properties": object{"kind": object{"const": kind}}},
			"then": object{"properties": object{"request": s.of(requests[kind])}},
		})
	}
	request := s.components["OperationRequest"]
	request["allOf"] = belongs
	request["properties"].(map[string]any)["kind"] = object{"type": "string", "enum": kinds}
	outcomes := make([]string, len(results))
	for i, r := range results {
		outcomes[i] = string(r)
	}
	s.components["Outcome"]["properties"].(map[string]any)["outcome"] = object{"type": "string", "enum": outcomes}
}
