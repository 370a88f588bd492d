package runc

import (
	"slices"
	"testing"

	"github.com/ployz/ployz/node/api"
)

func TestStartFailedSpeaksPlainly(t *testing.T) {
	err := startFailed("web-0", "the unit is failed", []string{
		"ployz-net: ready",
		`time="2026-11-22T20:30:09Z" level=warning msg="unable to get oom kill count" error="no such file"`,
		`time="2026-11-22T20:30:09Z" level=error msg="runc create failed: exec: \"version\": not found in $PATH"`,
	})
	e := api.AsError(err)
	if want := `runc create failed: exec: "version": not found in $PATH`; e.Message != want {
		t.Errorf("message %q, want %q", e.Message, want)
	}
	if !slices.Equal(e.Log, []string{"ployz-net: ready"}) {
		t.Errorf("log %q", e.Log)
	}
}

func TestStartFailedWithoutRunc(t *testing.T) {
	e := api.AsError(startFailed("web-0", "the unit is failed", []string{"secret TOKEN cannot be opened"}))
	if e.Message != "the unit is failed" || len(e.Log) != 1 {
		t.Errorf("%q %q", e.Message, e.Log)
	}
}
