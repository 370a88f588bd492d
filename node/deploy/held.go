package deploy

import (
	"context"
	"slices"

	"github.com/ployz/ployz/node/store"
)

// HeldBy names the slots, as "shop/web-0", that the last commits of all namespaces have on a machine.
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
	slices.Sort(held)
	return held, nil
}
