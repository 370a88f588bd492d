package transfer

import (
	"testing"
	"time"

	"github.com/ployz/ployz/node/storage"
)

func TestMeter(t *testing.T) {
	now := time.Unix(1000, 0)
	var told []storage.Progress
	m := newMeter(1000, func(p storage.Progress) { told = append(told, p) }, func() time.Time { return now })
	step := func(after time.Duration, bytes int) storage.Progress {
		now = now.Add(after)
		m.add(bytes)
		if len(told) == 0 {
			return storage.Progress{}
		}
		return told[len(told)-1]
	}
	if step(100*time.Millisecond, 10); len(told) != 0 {
		t.Errorf("told too often: %+v", told)
	}
	if p := step(900*time.Millisecond, 90); p != (storage.Progress{Bytes: 100, TotalBytes: 1000, BytesPerSecond: 100, Left: 9 * time.Second}) {
		t.Errorf("%+v", p)
	}
	for range 10 { // ten seconds at half of that: the fast one is forgotten
		step(time.Second, 50)
	}
	if p := told[len(told)-1]; p.BytesPerSecond != 50 || p.Left != 8*time.Second {
		t.Errorf("%+v", p)
	}
	if p := step(time.Second, 500); p.Bytes != 1100 || p.TotalBytes != 1100 || p.Left != 0 {
		t.Errorf("more than the estimate: %+v", p)
	}
	m.finish()
	if p := told[len(told)-1]; p.Bytes != p.TotalBytes || len(m.marks) > 10 {
		t.Errorf("%+v, %d marks", p, len(m.marks))
	}
	newMeter(0, nil, time.Now).add(1) // told to nobody
}
