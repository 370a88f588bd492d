package daemon

import (
	"bytes"
	"encoding/json"
	"maps"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
)

// Kind makes an operation from a request. body is the request as the ledger may keep it.
type Kind func(request json.RawMessage) (op operation.Operation, body json.RawMessage, err error)

// Kinds are the operations that can be asked for, by name.
type Kinds map[string]Kind

// KindOf is the kind whose request is an R. redact returns what the ledger keeps of a request, or
// nil for all of it.
func KindOf[R any](make func(R) operation.Operation, redact func(R) any) Kind {
	return func(text json.RawMessage) (operation.Operation, json.RawMessage, error) {
		var request R
		if len(text) == 0 {
			text = json.RawMessage("{}")
		}
		if err := readJSON(bytes.NewReader(text), &request); err != nil {
			return nil, nil, err
		}
		kept := any(request)
		if redact != nil {
			kept = redact(request)
		}
		body, err := json.Marshal(kept)
		if err != nil {
			return nil, nil, api.Errorf(api.CodeInternal, "encoding the request for the ledger: %w", err)
		}
		return make(request), body, nil
	}
}

// find returns a kind. Errors: request.unknown-operation.
func (k Kinds) find(name string) (Kind, error) {
	if kind, ok := k[name]; ok {
		return kind, nil
	}
	return nil, api.Errorf(api.CodeUnknownOperation, "there is no operation %q", name).
		WithHint("the client may be newer than the daemon: ployzctl version")
}

// DeployKinds are the operations on namespaces.
func DeployKinds(kit deploy.Kit) Kinds {
	kinds := Kinds{
		api.KindDeploy: KindOf(func(r api.DeployRequest) operation.Operation {
			return deploy.NewDeploy(kit, r.Spec, auths(r.Auths))
		}, redactDeploy),
		api.KindRollback: KindOf(func(r api.RollbackRequest) operation.Operation {
			if r.WithData {
				return deploy.NewRollbackWithVolumes(kit, r.Namespace, r.To)
			}
			return deploy.NewRollback(kit, r.Namespace, r.To)
		}, nil),
		api.KindPromote: KindOf(func(r api.PromoteRequest) operation.Operation { return deploy.NewPromote(kit, r) }, nil),
		api.KindMigrate: KindOf(func(r api.MigrateRequest) operation.Operation { return deploy.NewMigrate(kit, r) }, nil),
		api.KindScale: KindOf(func(r api.ScaleRequest) operation.Operation {
			return deploy.NewScale(kit, r.Namespace, r.Service, r.Replicas)
		}, nil),
		api.KindRestart: KindOf(func(r api.ServiceRequest) operation.Operation {
			return deploy.NewRestart(kit, r.Namespace, r.Service)
		}, nil),
		api.KindRemove: KindOf(func(r api.NamespaceRequest) operation.Operation { return deploy.NewRemove(kit, r.Namespace) }, nil),
		api.KindClear:  KindOf(func(r api.NamespaceRequest) operation.Operation { return deploy.NewClear(kit, r.Namespace) }, nil),
		api.KindRun: KindOf(func(r api.RunRequest) operation.Operation { return deploy.NewRun(kit, r) }, func(r api.RunRequest) any {
			r.Env = nil // it may hold what should not be kept
			return r
		}),
		api.KindSecretSet: KindOf(func(r api.ValueRequest) operation.Operation {
			return deploy.NewSetSecret(kit, r.Namespace, r.Name, r.Value)
		}, redactValue),
		api.KindSecretRemove: KindOf(func(r api.ValueRemoveRequest) operation.Operation {
			return deploy.NewRemoveSecret(kit, r.Namespace, r.Name)
		}, nil),
		api.KindConfigSet: KindOf(func(r api.ValueRequest) operation.Operation {
			return deploy.NewSetConfig(kit, r.Namespace, r.Name, r.Value)
		}, redactValue),
		api.KindConfigRemove: KindOf(func(r api.ValueRemoveRequest) operation.Operation {
			return deploy.NewRemoveConfig(kit, r.Namespace, r.Name)
		}, nil),
	}
	maps.Copy(kinds, volumeKinds(kit))
	maps.Copy(kinds, branchKinds(kit))
	return kinds
}

// branchKinds are the operations on whole namespaces with their data.
func branchKinds(kit deploy.Kit) Kinds {
	return Kinds{
		api.KindBranch: KindOf(func(r api.BranchRequest) operation.Operation { return deploy.NewBranch(kit, r) }, func(r api.BranchRequest) any {
			r.SecretValues = nil
			return r
		}),
		api.KindBranchRemove: KindOf(func(r api.NamespaceRequest) operation.Operation {
			return deploy.NewRemoveBranch(kit, r.Namespace)
		}, nil),
	}
}

// volumeKinds are the operations on volumes by themselves.
func volumeKinds(kit deploy.Kit) Kinds {
	return Kinds{
		api.KindVolumeRemove: KindOf(func(r api.VolumeRequest) operation.Operation {
			return deploy.NewRemoveVolume(kit, r.Namespace, r.Name)
		}, nil),
		api.KindVolumeRestore: KindOf(func(r api.VolumeRestoreRequest) operation.Operation {
			return deploy.NewRestoreVolume(kit, r.Namespace, r.ID)
		}, nil),
		api.KindVolumePrune: KindOf(func(r api.VolumePruneRequest) operation.Operation { return deploy.NewPruneVolumes(kit, r) }, nil),
		api.KindVolumeSend:  KindOf(func(r api.VolumeSendRequest) operation.Operation { return deploy.NewSendVolume(kit, r) }, nil),
		api.KindVolumeSnapshot: KindOf(func(r api.VolumeSnapshotRequest) operation.Operation {
			return deploy.NewSnapshotVolume(kit, r)
		}, nil),
		api.KindVolumeSnapshotRemove: KindOf(func(r api.VolumeSnapshotRequest) operation.Operation {
			return deploy.NewRemoveSnapshot(kit, r)
		}, nil),
		api.KindVolumeClone:  KindOf(func(r api.VolumeCloneRequest) operation.Operation { return deploy.NewCloneVolume(kit, r) }, nil),
		api.KindVolumeCreate: KindOf(func(r api.VolumeCreateRequest) operation.Operation { return deploy.NewCreateVolume(kit, r) }, nil),
	}
}

// MachineKinds are the operations on memberships and on who votes in the store.
func MachineKinds(kit machine.Kit) Kinds {
	return Kinds{
		api.KindMachineToken: KindOf(func(r api.TokenRequest) operation.Operation { return machine.NewInvite(kit, r) }, nil),
		api.KindMachineAdmit: KindOf(func(r api.AdmitRequest) operation.Operation { return machine.NewAdmit(kit, r) }, nil),
		api.KindMachineWithdraw: KindOf(func(r api.AdmitRequest) operation.Operation {
			return machine.NewWithdraw(kit, r)
		}, nil),
		api.KindMachineSet:    KindOf(func(r api.MachineSetRequest) operation.Operation { return machine.NewSet(kit, r) }, nil),
		api.KindMachineUpdate: KindOf(func(r api.MachineUpdateRequest) operation.Operation { return machine.NewUpdate(kit, r) }, nil),
		api.KindMachineRemove: KindOf(func(r api.MachineRemoveRequest) operation.Operation { return machine.NewRemove(kit, r) }, nil),
		api.KindStoreVoters:   KindOf(func(r api.VotersRequest) operation.Operation { return machine.NewVoters(kit, r) }, nil),
	}
}

func redactValue(r api.ValueRequest) any {
	r.Value = nil
	return r
}

// redactDeploy drops credentials and the values of secrets; configs are in the commit anyway.
func redactDeploy(r api.DeployRequest) any {
	r.Auths = nil
	secrets := map[string]api.Secret{}
	for name, s := range r.Spec.Secrets {
		secrets[name] = api.Secret{External: s.External, Name: s.Name}
	}
	configs := map[string]api.Config{}
	for name, c := range r.Spec.Configs {
		configs[name] = api.Config{External: c.External, Name: c.Name}
	}
	r.Spec.Secrets, r.Spec.Configs = secrets, configs
	return r
}

func auths(wanted map[string]api.RegistryAuth) map[string]runtime.RegistryAuth {
	out := map[string]runtime.RegistryAuth{}
	for registry, a := range wanted {
		out[registry] = runtime.RegistryAuth(a)
	}
	return out
}
