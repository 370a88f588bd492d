package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
)

func TestRounded(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 1234: "1µs", 12_345_678: "12ms", 999_499_999: "999ms", 1_274_629_318: "1.27s", -1_274_629_318: "-1.27s",
		12_345_678_901: "12.3s", 5 * time.Second: "5s", 75*time.Second + 499*time.Millisecond: "1m15s",
	} {
		if got := api.Rounded(d).String(); got != want {
			t.Errorf("%d is %s, want %s", d, got, want)
		}
	}
}

// TestMessagesRound: neither a message nor a hint has nine digits.
func TestMessagesRound(t *testing.T) {
	const d = 1_274_629_318 * time.Nanosecond
	e := api.Errorf(api.CodeInternal, "%s and %v of %s", d, api.Duration(d), "them").WithHint("wait %s", d)
	if e.Message != "1.27s and 1.27s of them" || e.Hint != "wait 1.27s" {
		t.Errorf("%s, %s", e.Message, e.Hint)
	}
	if strings.Contains(api.Errorf(api.CodeInternal, "%w", e).Message, "274") {
		t.Error("a cause that is rounded is not any more")
	}
}
