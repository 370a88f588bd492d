package memruntime

import "sync"

// Point is a moment of one call: "Start" of instance "web-0-x7" before it acted, or after it
// acted but before the caller hears of it.
type Point struct {
	Call    string
	Subject string
	After   bool
}

// Fault is called at every point of every mutating call; the error it returns becomes the
// call's. Nil faults nothing. It may panic, to play a crash.
type Fault func(Point) error

// Faults holds a Fault that may be changed while calls run. The zero value faults nothing.
type Faults struct {
	mu    sync.Mutex
	fault Fault
}

// SetFault replaces the hook; nil removes it.
func (f *Faults) SetFault(hook Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = hook
}

func (f *Faults) at(p Point) error {
	f.mu.Lock()
	hook := f.fault
	f.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(p)
}

// around runs act between its two points. After a fault in front nothing was done.
func (f *Faults) around(call, subject string, act func() error) error {
	if err := f.at(Point{call, subject, false}); err != nil {
		return err
	}
	if err := act(); err != nil {
		return err
	}
	return f.at(Point{call, subject, true})
}
