package transfer

import (
	"time"

	"github.com/ployz/ployz/node/storage"
)

const (
	// reportPause is between two reports: one that an eye can follow.
	reportPause = 200 * time.Millisecond
	// rateWindow is what a rate is taken over: long enough for a pool's pauses, short enough to show a change.
	rateWindow = 5 * time.Second
)

// meter counts the bytes of a transfer and tells of them now and then.
type meter struct {
	total, done int64
	tell        func(storage.Progress)
	now         func() time.Time
	marks       []mark // in their order; the first is the last one that is older than the window
}

// mark is how many bytes had passed at a moment.
type mark struct {
	at    time.Time
	bytes int64
}

// newMeter begins to measure. tell may be nil.
func newMeter(total int64, tell func(storage.Progress), now func() time.Time) *meter {
	return &meter{total: total, tell: tell, now: now, marks: []mark{{at: now()}}}
}

func (m *meter) add(bytes int) {
	m.done += int64(bytes)
	if m.tell == nil {
		return
	}
	if now := m.now(); now.Sub(m.marks[len(m.marks)-1].at) >= reportPause {
		m.report(now)
	}
}

// finish reports the whole: an estimate is not what was.
func (m *meter) finish() {
	m.total = m.done
	if m.tell != nil {
		m.report(m.now())
	}
}

func (m *meter) report(now time.Time) {
	m.marks = append(m.marks, mark{now, m.done})
	for len(m.marks) > 2 && now.Sub(m.marks[1].at) >= rateWindow {
		m.marks = m.marks[1:]
	}
	m.total = max(m.total, m.done)
	p := storage.Progress{Bytes: m.done, TotalBytes: m.total}
	if span := now.Sub(m.marks[0].at); span > 0 {
		p.BytesPerSecond = int64(float64(m.done-m.marks[0].bytes) / span.Seconds())
	}
	if p.BytesPerSecond > 0 {
		p.Left = time.Duration(float64(m.total-m.done) / float64(p.BytesPerSecond) * float64(time.Second))
	}
	m.tell(p)
}
