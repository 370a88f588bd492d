package zfs

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
)

// The properties that carry identity. Only a value set on the dataset itself counts: children inherit.
const (
	poolProperty     = "ployz:pool"
	volumeProperty   = "ployz:volume"
	snapshotProperty = "ployz:snapshot"
	// swapProperty names, on a volume that was swapped out, the one that takes its place: what a swap that
	// was cut short goes on from.
	swapProperty = "ployz:swap"

	liveDir     = "volumes"
	keptDir     = "kept"
	incomingDir = "incoming"
)

// read are the properties that are read of every dataset at once.
var read = []string{
	"type", "guid", "creation", "createtxg", "referenced", "used", "usedbydataset", "receive_resume_token",
	"userrefs", "clones", volumeProperty, snapshotProperty, swapProperty, poolProperty,
}

// dataset is one dataset or snapshot with its properties.
type dataset struct {
	name   string
	values map[string]string
	// own says which of them were set on this one.
	own map[string]bool
}

// text is a property's value; "" where it has none.
func (d dataset) text(property string) string {
	if v := d.values[property]; v != "-" {
		return v
	}
	return ""
}

func (d dataset) number(property string) int64 {
	n, err := strconv.ParseInt(d.text(property), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// marked is the value of an identity property that was set on this dataset.
func (d dataset) marked(property string) (string, bool) { return d.values[property], d.own[property] }

// picture is what lies under the pool's own dataset, by name, as of one command.
type picture struct {
	base string
	all  []dataset
}

func (p *Pool) look(ctx context.Context) (picture, error) {
	pic, err := p.read(ctx, "-r", p.base)
	if err != nil {
		return pic, p.unavailable(err)
	}
	p.note(pic)
	return pic, nil
}

// near is a picture of some volumes with their snapshots, and of further datasets that may not be there. To look at
// everything takes the longer the more there is; here it is done only where one of the volumes is not where it last was.
func (p *Pool) near(ctx context.Context, ids []string, also ...string) (picture, error) {
	names, known := p.lastSeen(ids)
	if !known {
		return p.look(ctx)
	}
	pic, err := p.read(ctx, append([]string{"-d", "1"}, append(names, also...)...)...)
	if err != nil && !strings.Contains(err.Error(), "does not exist") {
		return pic, p.unavailable(err)
	}
	for _, id := range ids {
		if f, err := pic.volume(id); err != nil || f.state == storage.StateIncoming {
			return p.look(ctx)
		}
	}
	return pic, nil
}

// note remembers where volumes are.
func (p *Pool) note(pic picture) {
	p.seenMu.Lock()
	defer p.seenMu.Unlock()
	p.seen = map[string]string{}
	for _, f := range pic.volumes() {
		if f.state != storage.StateIncoming {
			p.seen[f.ID] = f.name
		}
	}
}

// put notes where a volume is from now on.
func (p *Pool) put(id, name string) {
	p.seenMu.Lock()
	defer p.seenMu.Unlock()
	p.seen[id] = name
}

func (p *Pool) lastSeen(ids []string) (names []string, known bool) {
	p.seenMu.Lock()
	defer p.seenMu.Unlock()
	for _, id := range ids {
		if p.seen[id] == "" {
			return nil, false
		}
		names = append(names, p.seen[id])
	}
	return names, true
}

// read asks for datasets, with what the command takes to say which. Of some that are not there it returns the others, and
// the error.
func (p *Pool) read(ctx context.Context, which ...string) (picture, error) {
	out, missing := zfs(ctx, append([]string{"get", "-Hp", "-t", "filesystem,snapshot", "-o", "name,property,value,source", strings.Join(read, ",")}, which...)...)
	pic := picture{base: p.base}
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 {
			return pic, api.Errorf(api.CodeVolumePoolFailed, "zfs get printed %q", line)
		}
		if n := len(pic.all); n == 0 || pic.all[n-1].name != f[0] {
			pic.all = append(pic.all, dataset{name: f[0], values: map[string]string{}, own: map[string]bool{}})
		}
		d := pic.all[len(pic.all)-1]
		d.values[f[1]], d.own[f[1]] = f[2], f[3] == "local" || f[3] == "received"
	}
	return pic, missing
}

// get finds a dataset by name.
func (pic picture) get(name string) (dataset, bool) {
	for _, d := range pic.all {
		if d.name == name {
			return d, true
		}
	}
	return dataset{}, false
}

// found is a volume's dataset and what its mark says.
type found struct {
	storage.Mark
	dataset
	state storage.State
	// damaged is why the mark cannot be read; nil for a sound one.
	damaged error
}

// volumes are the marked datasets at the three places, by ID.
func (pic picture) volumes() []found {
	states := map[string]storage.State{liveDir: storage.StateLive, keptDir: storage.StateKept, incomingDir: storage.StateIncoming}
	var all []found
	for _, d := range pic.all {
		place, rest, _ := strings.Cut(strings.TrimPrefix(d.name, pic.base+"/"), "/")
		text, marked := d.marked(volumeProperty)
		if !marked || states[place] == "" || rest == "" || strings.ContainsAny(rest, "/@") {
			continue
		}
		f := found{dataset: d, state: states[place]}
		if err := json.Unmarshal([]byte(text), &f.Mark); err != nil {
			f.Mark, f.damaged = storage.Mark{Spec: calledAs(rest, f.state)}, storage.MarkDamaged(d.name, err)
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b found) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// calledAs is what a dataset's name says of the volume in it, for showing: a live one's has its name, another's
// its ID.
func calledAs(dataset string, state storage.State) storage.Spec {
	if state != storage.StateLive {
		return storage.Spec{ID: dataset}
	}
	namespace, name, _ := strings.Cut(dataset, ".")
	return storage.Spec{Namespace: namespace, Name: name}
}

// volume finds one volume. Of a kept one that also has a place for streams, the kept one counts.
func (pic picture) volume(id string) (found, error) {
	all, at := pic.volumes(), -1
	for i, v := range all {
		if v.ID == id && (at < 0 || v.state != storage.StateIncoming) {
			at = i
		}
	}
	if at < 0 {
		return found{}, storage.NotFound(pic.base, id)
	}
	return all[at], all[at].damaged
}

// findNear finds one volume with its snapshots. What began as these is known by its dataset's name only.
func (p *Pool) findNear(ctx context.Context, id string) (picture, found, error) {
	pic, err := p.near(ctx, []string{id})
	if err != nil {
		return pic, found{}, err
	}
	f, err := pic.volume(id)
	return pic, f, err
}

// find looks and finds one volume.
func (p *Pool) find(ctx context.Context, id string) (picture, found, error) {
	pic, err := p.look(ctx)
	if err != nil {
		return pic, found{}, err
	}
	f, err := pic.volume(id)
	return pic, f, err
}

// taken says who has a dataset's name; nil if nobody has.
func (pic picture) taken(name string) error {
	d, ok := pic.get(name)
	if !ok {
		return nil
	}
	var m storage.Mark
	if text, marked := d.marked(volumeProperty); marked && json.Unmarshal([]byte(text), &m) == nil {
		return storage.NameTaken(m.Spec)
	}
	return storage.NotOurs(name)
}

// snapshots are the marked snapshots of a volume, oldest first, without their holds; foreign are the names of those
// that are not ours.
func (pic picture) snapshots(f found) (all []storage.Snapshot, foreign []string) {
	var own []dataset
	for _, d := range pic.all {
		if of, _, is := strings.Cut(d.name, "@"); !is || of != f.name {
			continue
		}
		if _, marked := d.marked(snapshotProperty); !marked {
			foreign = append(foreign, d.name)
			continue
		}
		own = append(own, d)
	}
	slices.SortFunc(own, func(a, b dataset) int { return int(a.number("createtxg") - b.number("createtxg")) })
	for _, d := range own {
		_, name, _ := strings.Cut(d.name, "@")
		all = append(all, storage.Snapshot{
			Volume: f.ID, Name: name, GUID: d.text("guid"), Created: time.Unix(d.number("creation"), 0).UTC(), Clones: pic.clones(d), OwnBytes: d.number("used"),
		})
	}
	return all, foreign
}

// clones are the IDs of the volumes that began as a snapshot; a dataset that is not ours is told by its name.
func (pic picture) clones(d dataset) []string {
	var ids []string
	for name := range strings.SplitSeq(d.text("clones"), ",") {
		if name == "" {
			continue
		}
		var m storage.Mark
		clone, _ := pic.get(name)
		if text, marked := clone.marked(volumeProperty); marked && json.Unmarshal([]byte(text), &m) == nil {
			name = m.ID
		}
		ids = append(ids, name)
	}
	slices.Sort(ids)
	return ids
}
