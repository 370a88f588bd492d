package deploy

import (
	"context"
	"slices"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// HeldBy names what a machine holds that would go with it: the slots, as "shop/web-0", of the last commits of all
// namespaces, and the live data sets, as "volume shop/data", whether or not a slot mounts them.
func HeldBy(ctx context.Context, facts store.Facts, machineName string) ([]string, error) {
	commits, err := Namespaces(ctx, facts)
	if err != nil {
		return nil, err
	}
	var held []string
	for _, c := range commits {
		for name, slot := range c.Slots {
			if slot.Machine == machineName {
				held = append(held, c.Spec.Namespace+"/"+name)
			}
		}
	}
	volumes, err := volumesOn(ctx, facts, machineName)
	held = append(held, volumes...)
	slices.Sort(held)
	return held, err
}

func volumesOn(ctx context.Context, facts store.Facts, machineName string) (names []string, err error) {
	all, err := AllVolumes(ctx, facts)
	for _, v := range all {
		if v.State == api.VolumeLive && v.Machine == machineName {
			names = append(names, "volume "+v.Namespace+"/"+v.Name)
		}
	}
	return names, err
}
