package deploy

import (
	"maps"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// layers orders the services so that each comes after all it depends on; services of one layer may
// start together. Error: deploy.dependency-cycle, naming the circle.
func layers(spec api.Spec) ([][]string, *api.Error) {
	depth := map[string]int{}
	var walk func(name string, path []string) *api.Error
	walk = func(name string, path []string) *api.Error {
		if at := slices.Index(path, name); at >= 0 {
			circle := append(slices.Clone(path[at:]), name)
			return api.Errorf(api.CodeDependencyCycle, "%s", strings.Join(circle, " → ")).About("services." + name).
				WithHint("take one of them out of depends_on or x-ployz.needs")
		}
		if _, done := depth[name]; done {
			return nil
		}
		own := 0
		for _, dep := range slices.Sorted(maps.Keys(spec.Services[name].DependsOn)) {
			if err := walk(dep, append(path, name)); err != nil {
				return err
			}
			own = max(own, depth[dep]+1)
		}
		depth[name] = own
		return nil
	}
	var out [][]string
	for _, name := range slices.Sorted(maps.Keys(spec.Services)) {
		if err := walk(name, nil); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Services)) {
		for len(out) <= depth[name] {
			out = append(out, nil)
		}
		out[depth[name]] = append(out[depth[name]], name)
	}
	return out, nil
}
