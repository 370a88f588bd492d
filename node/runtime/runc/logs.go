package runc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// Logs implements runtime.Console. It runs journalctl, since the journal's library needs cgo.
func (r *Runtime) Logs(ctx context.Context, q runtime.LogQuery, emit func(runtime.LogLine) error) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	known, err := r.known(q)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(reading, "journalctl", logArgs(q, known)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return api.Errorf(api.CodeLogsFailed, "journalctl: %w", err)
	}
	emitErr := emitLines(out, func(l runtime.LogLine) error {
		if l = completed(l, known); !selects(q, l) {
			return nil
		}
		return emit(l)
	})
	stop()
	waitErr := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return nil
	case emitErr != nil:
		return emitErr
	case waitErr != nil && errs.Len() > 0:
		return api.Errorf(api.CodeLogsFailed, "journalctl: %w: %s", waitErr, strings.TrimSpace(errs.String())).WithHint("journalctl --verify")
	}
	return nil
}

// identifier begins the SYSLOG_IDENTIFIER of what an instance writes. Like the PLOYZ_ fields it is the
// unit's, so that no instance can forge it.
const identifier = "ployz/"

// known returns the instances of this machine that the query may be about, by id.
func (r *Runtime) known(q runtime.LogQuery) (map[string]runtime.Spec, error) {
	ids, err := r.folders()
	if err != nil {
		return nil, err
	}
	known := map[string]runtime.Spec{}
	for _, id := range ids {
		in, err := readInstance(r.dir(id))
		if err != nil {
			continue // not ours, or damaged: its lines still carry its identifier
		}
		if selects(q, runtime.LogLine{Namespace: in.Spec.Namespace, Service: in.Spec.Service, Instance: id}) {
			known[id] = in.Spec
		}
	}
	return known, nil
}

// logArgs selects what instances wrote, by the unit's fields or by the identifier: for a process that ended
// before journald got to its lines, it can only tell the latter.
func logArgs(q runtime.LogQuery, known map[string]runtime.Spec) []string {
	args := []string{"--quiet", "--no-pager", "--all", "--output=json",
		"--output-fields=MESSAGE,SYSLOG_IDENTIFIER,PLOYZ_NAMESPACE,PLOYZ_SERVICE,PLOYZ_INSTANCE"}
	lines := "all"
	if q.Lines >= 0 {
		lines = strconv.Itoa(q.Lines)
	}
	args = append(args, "--lines="+lines)
	if !q.Since.IsZero() {
		args = append(args, fmt.Sprintf("--since=@%d.%06d", q.Since.Unix(), q.Since.Nanosecond()/1000))
	}
	if q.Follow {
		args = append(args, "--follow")
	}
	args = append(args, "_TRANSPORT=stdout")
	if q.Instance != "" {
		return append(args, "SYSLOG_IDENTIFIER="+identifier+q.Instance)
	}
	args = append(args, fieldMatches(q)...)
	if len(known) == 0 {
		return args
	}
	// "+" is "or"; several matches of one field are "or" too.
	args = append(args, "+", "_TRANSPORT=stdout")
	for _, id := range sortedKeys(known) {
		args = append(args, "SYSLOG_IDENTIFIER="+identifier+id)
	}
	return args
}

func fieldMatches(q runtime.LogQuery) (matches []string) {
	if q.Namespace != "" {
		matches = append(matches, "PLOYZ_NAMESPACE="+q.Namespace)
	}
	if q.Service != "" {
		matches = append(matches, "PLOYZ_SERVICE="+q.Service)
	}
	if len(matches) == 0 {
		matches = []string{"_SYSTEMD_SLICE=ployz-workloads.slice"}
	}
	return matches
}

// completed fills in what journald could not tell of a line.
func completed(l runtime.LogLine, known map[string]runtime.Spec) runtime.LogLine {
	if spec, ok := known[l.Instance]; ok {
		l.Namespace, l.Service = first(l.Namespace, spec.Namespace), first(l.Service, spec.Service)
	}
	return l
}

// selects says whether a line is of the query. A line that names no namespace or service is of an
// instance that is gone; it was found by its id.
func selects(q runtime.LogQuery, l runtime.LogLine) bool {
	return (q.Instance == "" || l.Instance == q.Instance) &&
		(q.Namespace == "" || l.Namespace == q.Namespace || l.Namespace == "") &&
		(q.Service == "" || l.Service == q.Service || l.Service == "")
}

// entry is one journal entry. The journal gives text that is not UTF-8 as a list of bytes.
type entry struct {
	Realtime   string          `json:"__REALTIME_TIMESTAMP"`
	Message    json.RawMessage `json:"MESSAGE"`
	Identifier string          `json:"SYSLOG_IDENTIFIER"`
	Namespace  string          `json:"PLOYZ_NAMESPACE"`
	Service    string          `json:"PLOYZ_SERVICE"`
	Instance   string          `json:"PLOYZ_INSTANCE"`
}

func emitLines(out io.Reader, emit func(runtime.LogLine) error) error {
	reader := bufio.NewReader(out)
	for {
		text, err := reader.ReadBytes('\n')
		if len(text) > 0 {
			line, parseErr := parseEntry(text)
			if parseErr != nil {
				return parseErr
			}
			if err := emit(line); err != nil {
				return err
			}
		}
		if err != nil {
			// The pipe closes when journalctl ends or is told to.
			return nil
		}
	}
}

func parseEntry(text []byte) (runtime.LogLine, error) {
	var e entry
	if err := json.Unmarshal(text, &e); err != nil {
		return runtime.LogLine{}, api.Errorf(api.CodeLogsFailed, "journal entry %.80q: %w", text, err)
	}
	micros, err := strconv.ParseInt(e.Realtime, 10, 64)
	if err != nil {
		return runtime.LogLine{}, api.Errorf(api.CodeLogsFailed, "journal entry without a time: %.80q", text)
	}
	message, err := parseMessage(e.Message)
	if err != nil {
		return runtime.LogLine{}, api.Errorf(api.CodeLogsFailed, "journal entry %.80q: %w", text, err)
	}
	id := first(e.Instance, strings.TrimPrefix(e.Identifier, identifier))
	return runtime.LogLine{Time: time.UnixMicro(micros), Namespace: e.Namespace, Service: e.Service, Instance: id, Message: message}, nil
}

func parseMessage(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err == nil {
		return s, nil
	}
	var numbers []byte
	var list []int
	if err := json.Unmarshal(raw, &list); err != nil {
		return "", errors.New("its message is neither text nor bytes")
	}
	for _, n := range list {
		numbers = append(numbers, byte(n))
	}
	return string(numbers), nil
}
