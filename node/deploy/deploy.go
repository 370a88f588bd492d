package deploy

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/store"
)

// Deploy makes a namespace what a spec asks for.
type Deploy struct {
	change
	spec api.Spec
}

// NewDeploy prepares a deploy of a spec. auths are registry credentials by host name.
func NewDeploy(kit Kit, spec api.Spec, auths map[string]runtime.RegistryAuth) *Deploy {
	return &Deploy{change: change{kit: kit, ns: spec.Namespace, kind: "deploy", jobs: true, auths: auths}, spec: spec}
}

// Inspect implements operation.Operation: it checks the spec, resolves images to digests, and seals secrets.
func (d *Deploy) Inspect(ctx context.Context, before operation.Situation) error {
	if d.problems = Check(d.spec); len(d.problems) > 0 {
		return allOf(d.ns, d.problems)
	}
	if err := d.inspect(ctx, before); err != nil {
		return err
	}
	d.next = release{spec: d.spec, restarts: d.present().restarts}
	d.next.spec.Services = maps.Clone(d.spec.Services)
	if err := d.fillConfigs(ctx); err != nil {
		return err
	}
	if err := d.sealSecrets(ctx); err != nil {
		return err
	}
	d.complete(ctx)
	return d.inspectNext(ctx)
}

// allOf is one error for several problems of a request.
func allOf(subject string, problems []*api.Error) error {
	if len(problems) == 1 {
		return problems[0]
	}
	e := api.Errorf(api.CodeSpecInvalid, "%d things are wrong with the spec", len(problems)).About(subject)
	e.Details = problems
	return e
}

// complete makes the next release one that every machine can run: images by digest, secrets that all can open.
func (c *change) complete(ctx context.Context) {
	c.resolveImages(ctx)
	c.reseal(ctx)
}

// resolveImages turns every reference into a digest and notes which machines lack it. All services
// are looked at, so that one refusal lists all that is missing.
func (c *change) resolveImages(ctx context.Context) {
	for _, name := range slices.Sorted(maps.Keys(c.next.spec.Services)) {
		service := c.next.spec.Services[name]
		if err := c.resolveImage(ctx, &service); err != nil {
			e := *api.AsError(err)
			e.Subject = "services." + name + ".image"
			c.problems = append(c.problems, &e)
		}
		c.next.spec.Services[name] = service
	}
}

// resolveImage finds the digest, and then which machines lack it.
func (c *change) resolveImage(ctx context.Context, service *api.Service) error {
	var names []string
	for _, m := range c.machines {
		if m.silent == nil {
			names = append(names, m.member.Name)
		}
	}
	if len(names) == 0 {
		return nil // the silence is refused elsewhere
	}
	if err := c.findPushed(ctx, names, service); err != nil {
		return err
	}
	if service.Digest == "" {
		digest, err := c.digestOf(ctx, names, *service)
		if err != nil {
			return err
		}
		service.Digest = digest
	}
	found, errs := c.resolveOn(ctx, names, *service)
	for i, name := range names {
		if errs[i] != nil {
			return errs[i]
		}
		c.lacks(name, found[i])
	}
	return nil
}

// digestOf is what the first machine says that the name is, or, where its registry cannot be asked, what the first says
// that knows it nevertheless.
func (c *change) digestOf(ctx context.Context, names []string, s api.Service) (string, error) {
	found, first := c.resolveOn(ctx, names[:1], s)
	if first[0] == nil {
		return found[0].Digest, nil
	}
	found, errs := c.resolveOn(ctx, names[1:], s)
	for i, err := range errs {
		if err == nil {
			return found[i].Digest, nil
		}
	}
	return "", first[0]
}

// findPushed looks for an image that was pushed to machines under the service's name: it is in no registry, and of
// several the newest counts. The machines that do not know it by that name will, when they run it, so that it has its
// name also once the machine that it was pushed to has left.
func (c *change) findPushed(ctx context.Context, names []string, service *api.Service) error {
	if strings.Contains(service.Image, "@") || service.Digest != "" {
		return nil
	}
	found, errs := c.askAll(ctx, names, Query{Reference: service.Image, Here: true})
	var newest Resolved
	for i, f := range found {
		if code := api.CodeOf(errs[i]); code != "" && code != api.CodeImageNotFound && code != api.CodeImageDamaged {
			return errs[i]
		}
		if errs[i] == nil && f.Named.After(newest.Named) {
			newest = f
		}
	}
	if newest.Named.IsZero() {
		return nil
	}
	service.Digest = newest.Digest
	c.pushed[service.Image] = newest.Named
	c.unnamed[service.Image] = map[string]bool{}
	for i, name := range names {
		c.unnamed[service.Image][name] = errs[i] != nil || found[i].Digest != newest.Digest || found[i].Named.IsZero()
	}
	return nil
}

// lacks notes an image that a machine will have to fetch.
func (c *change) lacks(machineName string, found Resolved) {
	if found.Present {
		return
	}
	if c.absent[machineName] == nil {
		c.absent[machineName] = map[string]bool{}
	}
	c.absent[machineName][found.Digest] = true
}

// resolveOn asks machines at once: by digest once there is one, so that all get the same also while a tag moves.
func (c *change) resolveOn(ctx context.Context, names []string, s api.Service) ([]Resolved, []error) {
	reference := s.Image
	if s.Digest != "" {
		reference = pinned(s.Image, s.Digest)
	}
	return c.askAll(ctx, names, Query{Reference: reference, Auth: authFor(s.Image, c.auths)})
}

func (c *change) askAll(ctx context.Context, names []string, q Query) ([]Resolved, []error) {
	found, errs := make([]Resolved, len(names)), make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			m, err := c.kit.Participants.Participant(ctx, name)
			if err == nil {
				found[i], err = m.Resolve(ctx, q)
			}
			errs[i] = err
		})
	}
	all.Wait()
	return found, errs
}

// fillConfigs replaces references to stored configs by their content.
func (d *Deploy) fillConfigs(ctx context.Context) error {
	d.next.spec.Configs = maps.Clone(d.spec.Configs)
	for name, config := range d.spec.Configs {
		if !config.External {
			continue
		}
		stored := nameOr(config.Name, name)
		value, _, err := d.kit.stored(ctx, store.Config(d.ns, stored))
		if store.IsNotFound(err) {
			d.problems = append(d.problems, api.Errorf(api.CodeConfigAbsent, "there is no config %q", stored).
				About("configs."+name).WithHint("make it: ployzctl config set %s/%s FILE", d.ns, stored))
			continue
		}
		if err != nil {
			return err
		}
		config.Content = value.Content
		d.next.spec.Configs[name] = config
	}
	return nil
}

// sealSecrets moves every secret's value out of the spec and into its sealed form.
func (d *Deploy) sealSecrets(ctx context.Context) error {
	d.next.spec.Secrets = map[string]api.Secret{}
	d.next.secrets = map[string]api.SealedSecret{}
	for _, name := range slices.Sorted(maps.Keys(d.spec.Secrets)) {
		secret := d.spec.Secrets[name]
		d.next.spec.Secrets[name] = api.Secret{External: secret.External, Name: secret.Name}
		sealed, err := d.sealed(ctx, name, secret)
		if store.IsNotFound(err) {
			stored := nameOr(secret.Name, name)
			d.problems = append(d.problems, api.Errorf(api.CodeSecretAbsent, "there is no secret %q", stored).
				About("secrets."+name).WithHint("make it: ployzctl secret set %s/%s FILE", d.ns, stored))
			continue
		}
		if err != nil {
			return err
		}
		d.next.secrets[name] = sealed
	}
	return nil
}

func (d *Deploy) sealed(ctx context.Context, name string, secret api.Secret) (api.SealedSecret, error) {
	if !secret.External {
		return d.seal(name, secret.Value)
	}
	value, _, err := d.kit.stored(ctx, store.Secret(d.ns, nameOr(secret.Name, name)))
	return value.Sealed, err
}

// seal encrypts a value to every machine of the cluster.
func (c *change) seal(name string, value []byte) (api.SealedSecret, error) {
	return c.kit.seal(c.members(), c.ns, name, value)
}

func (c *change) members() []machine.Member {
	list := make([]machine.Member, len(c.machines))
	for i, m := range c.machines {
		list[i] = m.member
	}
	return list
}

func nameOr(name, fallback string) string {
	if name == "" {
		return fallback
	}
	return name
}
