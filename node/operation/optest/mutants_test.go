package optest_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

// mutants are kernels with one known fault each. A suite that passes with one of them proves nothing.
var mutants = []struct {
	name     string
	file     string
	old, new string
}{
	{"the commit does not check the lease", "node/coordination/lease.go",
		"batch.Checks = append([]store.Check{{Key: key, Expect: l.token}}, batch.Checks...)", ""},
	{"nothing is undone", "node/operation/steps.go",
		"slices.Backward(x.begun)", "slices.Backward(x.begun[:0])"},
	{"the step that failed is not undone", "node/operation/steps.go",
		"slices.Backward(x.begun)", "slices.Backward(x.begun[:max(0, len(x.begun)-1)])"},
	{"undone in the order of doing", "node/operation/steps.go",
		"slices.Backward(x.begun)", "slices.All(x.begun)"},
	{"committed before the last phase", "node/operation/run.go",
		"range x.phases() {", "range x.phases()[:max(0, len(x.phases())-1)] {"},
	{"the ledger's entry comes after the act", "node/operation/steps.go",
		"if err := x.intend(ctx, phase, step); err != nil {\n\t\treturn err\n\t}\n\treturn x.act(ctx, phase, step)",
		"if err := x.act(ctx, phase, step); err != nil {\n\t\treturn err\n\t}\n\treturn x.intend(ctx, phase, step)"},
	{"a lost answer is taken for a failure", "node/operation/run.go",
		"return x.uncertain(err)", "return x.rollBack(err)"},
	{"a lost answer is not looked for", "node/operation/run.go",
		"return x.settle(err)", "return 0, err"},
	{"the scope is not marked", "node/operation/open.go",
		"_, err = x.lease.Commit(ctx, store.Batch{ID: x.id + \"-open\"", "_, err = 0, error(nil); _ = (store.Batch{ID: x.id + \"-open\""},
	{"the mark is left behind", "node/operation/run.go",
		"x.giveBack(x.unmark())", "x.giveBack()"},
	{"who was interrupted is not resolved", "node/operation/run.go",
		"\tx.resolve()\n", ""},
	{"leftovers are kept quiet", "node/operation/run.go",
		"if len(out.Leftovers) > 0 {\n\t\tout.Outcome = api.CommittedLeftovers", "if false {\n\t\tout.Outcome = api.CommittedLeftovers"},
}

// TestMutants runs the operations of node/deploy against each mutant, and once against none.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the kernel once for every mutant")
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		if out, err := breakAll(t, ""); err != nil {
			t.Errorf("the suite fails without a mutant: %v\n%s", err, out)
		}
	})
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			out, err := breakAll(t, overlay(t, m.file, m.old, m.new))
			if err == nil {
				t.Error("the suite passes")
			} else if !strings.Contains(out, "--- FAIL: TestBreak") {
				t.Errorf("it was not the suite that failed: %v\n%s", err, out)
			}
		})
	}
}

// overlay writes the mutated file and the list that makes the compiler take it.
func overlay(t *testing.T, file, old, new string) string {
	t.Helper()
	path := filepath.Join(testenv.Repo(), file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), old); n != 1 {
		t.Fatalf("%s holds %q %d times: the mutant needs a new place", file, old, n)
	}
	dir := t.TempDir()
	mutated := filepath.Join(dir, "mutated.go")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{mutated: strings.Replace(string(text), old, new, 1), filepath.Join(dir, "overlay.json"): string(list)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "overlay.json")
}

// breakAll runs one operation with many steps and one with none through Exhaust.
func breakAll(t *testing.T, overlay string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-vet=off", "-failfast", "-overlay="+overlay,
		"-run=^TestBreak$/^(restart|secret.set)$", "./node/deploy")
	cmd.Dir = testenv.Repo()
	out, err := cmd.CombinedOutput()
	return string(out), err
}
