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
	cmd := exec.CommandContext(reading, "journalctl", logArgs(q)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return api.Errorf(api.CodeLogsFailed, "journalctl: %w", err)
	}
	emitErr := emitLines(out, emit)
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

// logArgs selects what instances wrote: the fields are the unit's, so no instance can forge them.
func logArgs(q runtime.LogQuery) []string {
	args := []string{"--quiet", "--no-pager", "--all", "--output=json",
		"--output-fields=MESSAGE,PLOYZ_NAMESPACE,PLOYZ_SERVICE,PLOYZ_INSTANCE"}
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
	args = append(args, "_TRANSPORT=stdout", "_SYSTEMD_SLICE=ployz-workloads.slice")
	for field, value := range map[string]string{"PLOYZ_NAMESPACE": q.Namespace, "PLOYZ_SERVICE": q.Service, "PLOYZ_INSTANCE": q.Instance} {
		if value != "" {
			args = append(args, field+"="+value)
		}
	}
	return args
}

// entry is one journal entry. The journal gives text that is not UTF-8 as a list of bytes.
type entry struct {
	Realtime  string          `json:"__REALTIME_TIMESTAMP"`
	Message   json.RawMessage `json:"MESSAGE"`
	Namespace string          `json:"PLOYZ_NAMESPACE"`
	Service   string          `json:"PLOYZ_SERVICE"`
	Instance  string          `json:"PLOYZ_INSTANCE"`
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
	return runtime.LogLine{Time: time.UnixMicro(micros), Namespace: e.Namespace, Service: e.Service, Instance: e.Instance, Message: message}, nil
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
