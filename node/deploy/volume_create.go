package deploy

import (
	"context"
	"fmt"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/store"
)

// CreateVolume makes an empty data set in advance: a deploy that asks for its name takes it as its own, where it is.
type CreateVolume struct {
	volumeChange
	request api.VolumeCreateRequest
	// made is the fact, where an operation that did not come to its end committed it.
	made *volumeFact
}

// NewCreateVolume prepares it.
func NewCreateVolume(kit Kit, request api.VolumeCreateRequest) *CreateVolume {
	return &CreateVolume{volumeChange: volumeChange{change: change{kit: kit, ns: request.Namespace, kind: api.KindVolumeCreate}}, request: request}
}

func (c *CreateVolume) asked() api.Volume {
	v := api.Volume{SizeBytes: c.request.SizeBytes, Owner: c.request.Owner, Mode: c.request.Mode}
	if strings.Contains(c.request.Name, ".") {
		v.Scope = api.ScopeSlot
	}
	return v
}

// Inspect implements operation.Operation.
func (c *CreateVolume) Inspect(ctx context.Context, before operation.Situation) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := c.look(ctx, before); err != nil {
		return err
	}
	if made := c.live(c.request.Name); c.again(made) && made.Origin == nil {
		c.made = made
	}
	return nil
}

// check refuses what no spec could ask for. Errors: volume.invalid.
func (c *CreateVolume) check() error {
	volume, slot, dotted := strings.Cut(c.request.Name, ".")
	if dotted && slot == "" {
		slot = "."
	}
	if err := checkVolumeName(volume, slot); err != nil {
		return err
	}
	if c.request.Mode > 0o7777 {
		return api.Errorf(api.CodeVolumeInvalid, "%#o are no permissions", c.request.Mode).About(c.ns + "/" + c.request.Name)
	}
	spec := storageSpec("ns", c.request.Name, c.asked())
	spec.ID = "any"
	return spec.Check()
}

// Plan implements operation.Operation.
func (c *CreateVolume) Plan() operation.Plan {
	name, v := c.request.Name, c.asked()
	fact := api.VolumeFact{Namespace: c.ns, Name: name, SizeBytes: v.SizeBytes, Owner: v.Owner, Mode: v.Mode, Scope: v.Scope, State: api.VolumeLive}
	fact.ID, fact.Created = volumeID(c.operation, c.ns, name), c.kit.Now().UTC()
	change := api.Change{Action: "create", Subject: "volume " + name, To: sizeLimit(v.SizeBytes)}
	var expect store.Revision
	var nowhere *api.Error
	if c.made != nil {
		fact, expect, change.Reason = c.made.VolumeFact, c.made.revision, "an operation that did not come to its end made it"
	} else {
		fact.Machine, change.Reason, nowhere = c.choose()
		fact.Backend = c.backendOf(fact.Machine)
	}
	change.Machine, c.target = fact.Machine, &volumeFact{VolumeFact: fact, revision: expect}
	plan := operation.Plan{
		Requirements: []operation.Requirement{
			operation.Met("the name is free", c.nameTaken(name, c.made)),
			operation.Met("its scope is what the namespace asks for", c.scopeProblem(name, v.Scope)),
			operation.Met("a machine for it", nowhere),
		},
		Changes: []api.Change{change},
		Commit:  c.commit(fact, expect),
	}
	if c.made == nil {
		spec := storageSpec(c.ns, name, v)
		spec.ID = fact.ID
		plan.Phases = []operation.Phase{{Name: "volume", Steps: []operation.Step{
			c.volumeStep(dataset{name: name, machine: fact.Machine, spec: spec}),
		}}}
	}
	return c.plan(plan)
}

// commit writes the fact, and for a namespace that has nothing yet its head, so that the namespace is known to have
// something on a machine.
func (c *CreateVolume) commit(fact api.VolumeFact, expect store.Revision) operation.Commit {
	commit := c.commitFact(fact.ID, expect, []string{"create", fact.Name, fact.Machine}, func() api.VolumeFact { return fact })
	if c.now.head != (head{}) {
		return commit
	}
	batch := commit.Batch
	commit.Batch = func(op string) ([]store.Put, error) {
		list, err := batch(op)
		if err != nil {
			return nil, err
		}
		put, err := encode(store.Head(c.ns), head{Operation: op, Removed: true}, store.Expect(c.now.revision))
		return append(list, put), err
	}
	return commit
}

// choose finds the machine with the most free space, and says why that one, or why none.
func (c *CreateVolume) choose() (machineName, reason string, refused *api.Error) {
	if name := c.request.Machine; name != "" && c.candidate(name) == nil {
		return "", "", noMember(name)
	}
	var reasons []string
	var best *candidate
	for i, m := range c.machines {
		if why := c.unfit(m); why != "" {
			reasons = append(reasons, m.member.Name+": "+why)
		} else if best == nil || m.stored.Usage.FreeBytes > best.stored.Usage.FreeBytes {
			best = &c.machines[i]
		}
	}
	if best == nil {
		return "", "", nowhere("volume "+c.request.Name, reasons)
	}
	reason = "asked for"
	if c.request.Machine == "" {
		reason = "the most free space in its pool, of those that may take it"
	}
	return best.member.Name, "new and empty; " + reason, nil
}

// unfit says why a machine cannot have it; "" is that it can.
func (c *CreateVolume) unfit(m candidate) string {
	var asked api.Service
	if c.request.Machine != "" {
		asked.Placement.Machines = []string{c.request.Machine}
	}
	p := placement{}
	if why := p.unfitBesides("", asked, m); why != "" {
		return why
	}
	if m.stored.None != nil {
		return "cannot keep volumes: " + m.stored.None.Message
	}
	if free := m.stored.Usage.FreeBytes; c.request.SizeBytes > free {
		return fmt.Sprintf("its pool has %s free, and it may hold %s", storage.SizeText(free), storage.SizeText(c.request.SizeBytes))
	}
	return ""
}

// Result implements operation.Resulter.
func (c *CreateVolume) Result() any { return result(c.target.VolumeFact) }
