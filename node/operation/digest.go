package operation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/ployz/ployz/node/api"
)

// Show renders a plan for an operator. The digest covers everything shown and the commit's content, so
// that `--plan DIGEST` means "exactly this".
func Show(op Operation, plan Plan) (api.Plan, error) {
	shown := api.Plan{Kind: op.Kind(), Scope: op.Scope(), Changes: plan.Changes, Unmet: unmet(plan)}
	if shown.Changes == nil {
		shown.Changes = []api.Change{}
	}
	for _, phase := range allPhases(plan) {
		shown.Phases = append(shown.Phases, api.PlanPhase{Name: phase.Name, Steps: stepNames(phase)})
	}
	digest, err := digest(shown, plan.Commit.Content)
	shown.Digest = digest
	return shown, err
}

// cleanUpPhase names the steps after the commit, in the ledger and in a preview.
const cleanUpPhase = "clean up"

// allPhases is the plan's phases, and the cleaning up as a last one.
func allPhases(plan Plan) []Phase {
	phases := make([]Phase, 0, len(plan.Phases)+1)
	for _, phase := range plan.Phases {
		if len(phase.Steps) > 0 {
			phases = append(phases, phase)
		}
	}
	if len(plan.Cleanup) > 0 {
		phases = append(phases, Phase{Name: cleanUpPhase, Steps: plan.Cleanup})
	}
	return phases
}

func stepNames(phase Phase) []string {
	names := make([]string, len(phase.Steps))
	for i, step := range phase.Steps {
		names[i] = step.Name
		if step.Participant != "" {
			names[i] += " on " + step.Participant
		}
	}
	return names
}

func unmet(plan Plan) []*api.Error {
	var errs []*api.Error
	for _, r := range plan.Requirements {
		if r.Unmet != nil {
			errs = append(errs, r.Unmet)
		}
	}
	return errs
}

func digest(shown api.Plan, content any) (string, error) {
	text, err := json.Marshal(struct {
		Plan    api.Plan
		Content any
	}{shown, content})
	if err != nil {
		return "", api.Errorf(api.CodeInternal, "encoding the plan of %s: %w", shown.Kind, err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}
