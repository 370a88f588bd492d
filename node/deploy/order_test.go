package deploy

import (
	"fmt"
	"testing"

	"github.com/ployz/ployz/node/api"
)

// graph is a spec in which each service depends on those of its letters.
func graph(deps map[string]string) api.Spec {
	spec := api.Spec{Services: map[string]api.Service{}}
	for name, on := range deps {
		s := api.Service{DependsOn: map[string]api.Condition{}}
		for _, dep := range on {
			s.DependsOn[string(dep)] = api.Ready
		}
		spec.Services[name] = s
	}
	return spec
}

func TestLayers(t *testing.T) {
	for _, c := range []struct {
		deps map[string]string
		want string
	}{
		{nil, "[]"},
		{map[string]string{"b": "", "a": ""}, "[[a b]]"},
		{map[string]string{"a": "b", "b": "c", "c": ""}, "[[c] [b] [a]]"},
		{map[string]string{"a": "bc", "b": "d", "c": "", "d": ""}, "[[c d] [b] [a]]"},
	} {
		got, err := layers(graph(c.deps))
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%v: %v %v, want %s", c.deps, got, err, c.want)
		}
	}
}

func TestCycles(t *testing.T) {
	for _, c := range []struct {
		deps map[string]string
		want string
	}{
		{map[string]string{"a": "a"}, "a → a"},
		{map[string]string{"a": "b", "b": "a"}, "a → b → a"},
		{map[string]string{"a": "b", "b": "c", "c": "b"}, "b → c → b"},
		{map[string]string{"a": "", "x": "ay", "y": "z", "z": "x"}, "x → y → z → x"},
	} {
		_, err := layers(graph(c.deps))
		if err == nil || err.Code != api.CodeDependencyCycle || err.Message != c.want {
			t.Errorf("%v: %v, want %s", c.deps, err, c.want)
		}
	}
}
