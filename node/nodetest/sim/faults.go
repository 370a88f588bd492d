package sim

import "time"

// strike lets a fault happen, and mends it when it has lasted.
func (w *world) strike(f fault) {
	time.Sleep(f.at)
	w.note("fault: %s", f)
	switch f.kind {
	case "death":
		w.death(f)
	case "pause":
		w.pause(f)
	case "cut":
		w.between(f, func(other string) bool { return other == f.other })
	case "apart":
		w.between(f, func(string) bool { return true })
	case "store away":
		w.storeless("", f.lasts)
	case "cut off": // from everything, as when a cable is pulled
		go w.storeless(f.machine, f.lasts)
		w.between(f, func(string) bool { return true })
	}
}

// death ends a machine's daemon, which systemd starts again after a while.
func (w *world) death(f fault) {
	m := w.machines[f.machine]
	m.kill()
	time.Sleep(f.lasts)
	if w.isMember(m.name) && m.present() == nil {
		w.note("%s is back: %v", m.name, m.boot())
	}
}

func (w *world) pause(f fault) {
	if d := w.machines[f.machine].present(); d != nil {
		d.pause(f.lasts)
	}
}

// between cuts a machine from others.
func (w *world) between(f fault, cut func(other string) bool) {
	for name := range w.machines {
		if name != f.machine && cut(name) {
			w.network.cut(f.machine, name, 1)
			defer w.network.cut(f.machine, name, -1)
		}
	}
	time.Sleep(f.lasts)
}

func (w *world) storeless(name string, lasts time.Duration) {
	w.keepFromStore(name, 1)
	time.Sleep(lasts)
	w.keepFromStore(name, -1)
}
