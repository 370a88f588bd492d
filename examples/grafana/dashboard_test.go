package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/ployz/ployz/metrics"
	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

func TestUpToDate(t *testing.T) {
	want, err := dashboard()
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(have, want) {
		t.Errorf("%s is not what the panels say: make generate (%v)", file, err)
	}
}

var figure = regexp.MustCompile(`\bployz_[a-z_]+`)

// asked are the figures in the dashboard's expressions, with how each is written there.
func asked(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, r := range rows() {
		for _, p := range r.panels {
			for _, q := range p.queries {
				for _, name := range figure.FindAllString(q.expr, -1) {
					found[name] = append(found[name], q.expr)
				}
			}
		}
	}
	return found
}

// TestFigures: each that a panel asks for is told by some program, and each that is told is in a panel.
func TestFigures(t *testing.T) {
	unknown := asked(t)
	for _, f := range metrics.Catalogue() {
		names := []string{f.Name}
		if f.Kind == metrics.Histogram {
			names = []string{f.Name + "_bucket", f.Name + "_sum", f.Name + "_count"}
		}
		if !slices.ContainsFunc(names, func(n string) bool { return unknown[n] != nil }) {
			t.Errorf("%s is in no panel", f.Name)
		}
		for _, name := range names {
			for _, expr := range unknown[name] {
				if f.Kind == metrics.Counter && !strings.Contains(expr, "rate("+name) && !strings.Contains(expr, "increase("+name) {
					t.Errorf("%s: a counter without rate or increase", expr)
				}
			}
			delete(unknown, name)
		}
	}
	for name, exprs := range unknown {
		t.Errorf("no program tells %s, which is asked for in %q", name, exprs)
	}
}

// TestLabels: what an expression sums by, selects or shows is a label of one of its figures.
func TestLabels(t *testing.T) {
	families := map[string]metrics.Family{}
	for _, f := range metrics.Catalogue() {
		families[f.Name] = f
	}
	shown, summed := regexp.MustCompile(`\{\{(\w+)\}\}`), regexp.MustCompile(`by \(([a-z, ]+)\)`)
	for _, r := range rows() {
		for _, p := range r.panels {
			for _, q := range p.queries {
				have := []string{"machine", "instance", "le"}
				for _, name := range figure.FindAllString(q.expr, -1) {
					have = append(have, families[name].Labels...)
				}
				var wanted []string
				for _, m := range shown.FindAllStringSubmatch(q.legend, -1) {
					wanted = append(wanted, m[1])
				}
				for _, m := range summed.FindAllStringSubmatch(q.expr, -1) {
					wanted = append(wanted, strings.Split(m[1], ", ")...)
				}
				for _, label := range wanted {
					if !slices.Contains(have, label) {
						t.Errorf("%s, shown as %q: no label %q", q.expr, q.legend, label)
					}
				}
			}
		}
	}
}

// TestPlaces: panels have ids of their own, titles, and do not overlap.
func TestPlaces(t *testing.T) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	taken, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > columns {
			t.Errorf("%+v", p)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" {
					t.Fatalf("%q is on top of %q", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		for _, target := range p.Targets {
			if strings.Count(target.Expr, "(") != strings.Count(target.Expr, ")") || !strings.Contains(target.Expr, `machine=~"$machine"`) {
				t.Errorf("%q: %s", p.Title, target.Expr)
			}
		}
	}
	if len(d.Panels) < 40 {
		t.Errorf("only %d panels", len(d.Panels))
	}
}

// TestTargets makes targets of what machine ls --json prints.
func TestTargets(t *testing.T) {
	testenv.Require(t, testenv.JQ)
	list, err := json.Marshal([]api.MachineEntry{
		{Name: "m1", Overlay: netip.MustParseAddr("fd00:1:0:1::1"), Voter: true}, {Name: "m2", Overlay: netip.MustParseAddr("fd00:1:0:2::1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	jq := exec.Command("jq", "-c", "-f", "targets.jq")
	jq.Stdin = bytes.NewReader(list)
	got, err := jq.CombinedOutput()
	want := `[{"labels":{"machine":"m1"},"targets":["[fd00:1:0:1::1]:7490","[fd00:1:0:1::1]:7491","[fd00:1:0:1::1]:7492","[fd00:1:0:1::1]:7493","[fd00:1:0:1::1]:7494"]},` +
		`{"labels":{"machine":"m2"},"targets":["[fd00:1:0:2::1]:7490","[fd00:1:0:2::1]:7491","[fd00:1:0:2::1]:7492","[fd00:1:0:2::1]:7493"]}]`
	if err != nil || strings.TrimSpace(string(got)) != want {
		t.Errorf("%v\n%s, want\n%s", err, got, want)
	}
}

// TestScrapeConfig: the file is YAML, with the job's name that the dashboard asks for.
func TestScrapeConfig(t *testing.T) {
	text, err := os.ReadFile("prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Scrape []struct {
			Job string `yaml:"job_name"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil || len(config.Scrape) != 1 || config.Scrape[0].Job != "ployz" {
		t.Errorf("%v: %+v", err, config)
	}
}

// TestPortsAreTold: whoever follows the files here asks every program.
func TestPortsAreTold(t *testing.T) {
	for _, name := range []string{"README.md", "targets.jq", "../../docs/metrics.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range metrics.Programs() {
			if !strings.Contains(string(text), fmt.Sprint(p.Port())) {
				t.Errorf("%s does not tell the port of %s, %d", name, p, p.Port())
			}
		}
	}
}
