package load

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// Main plays a plan that it reads from in, one JSON object, until in ends. It prints a line
// "ready" and at last the report as JSON.
func Main(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	text, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("load: reading the plan: %w", err)
	}
	var p Plan
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("load: the plan: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		io.Copy(io.Discard, lines) // whatever ends it, it is the end
		cancel()
	}()
	report := Run(ctx, p, func() { fmt.Fprintln(out, "ready") })
	return json.NewEncoder(out).Encode(report)
}
