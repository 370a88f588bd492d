package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/store/natsstore"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// verbRoom has a machine say what is free on the disk of its part of the store.
const verbRoom = "store.room"

// storeRoom looks at this machine's. It is full also between the line below what a server holds still and the one from
// which on it goes on again: the servers themselves say which.
func (d *Daemon) storeRoom() (api.StoreRoom, error) {
	r := api.StoreRoom{Path: d.host.path("nats"), NeedsBytes: natsconf.CoreRoomBytes, State: api.RoomEnough}
	free, err := natsconf.FreeBytes(r.Path)
	if err != nil {
		return r, api.Errorf(api.CodeInternal, "looking for room: %w", err)
	}
	switch r.FreeBytes = free; {
	case d.holdsStill("core"), d.holdsStill("edge"):
		r.State, r.NeedsBytes = api.RoomFull, natsconf.AgainRoomBytes
	case free < natsconf.CoreRoomBytes:
		r.State = api.RoomFull
	case free < natsconf.LowRoomBytes:
		r.State = api.RoomLow
	}
	return r, nil
}

// holdsStill says that a server of this machine says so. Without one there is no file.
func (d *Daemon) holdsStill(role string) bool {
	var running struct {
		NoRoom bool `json:"no_room"`
	}
	text, err := os.ReadFile(d.natsStatus(role))
	return err == nil && json.Unmarshal(text, &running) == nil && running.NoRoom
}

// roomError is what to know about a machine with little room or none, and what to do there.
func roomError(name string, r api.StoreRoom) *api.Error {
	e := api.Errorf(api.CodeStoreDiskFull, "the disk of the store on %s is nearly full: %s has %d MiB free, and below %d MiB nothing is written there",
		name, r.Path, r.FreeBytes>>20, r.NeedsBytes>>20)
	if r.State == api.RoomFull {
		e = api.Errorf(api.CodeStoreDiskFull, "the disk of the store on %s is full: %s has %d MiB free and needs %d MiB", name, r.Path, r.FreeBytes>>20, r.NeedsBytes>>20)
	}
	return e.About(name).WithHint("make room on %s, then it goes on by itself: ployzctl image prune; du -x --max-depth=2 %s", name, r.Path)
}

func checkRoom(d *Daemon, self machine.Identity) api.Check {
	r, err := d.storeRoom()
	if err != nil {
		return check("room for the store", "", api.AsError(err))
	}
	seen := fmt.Sprintf("%d MiB free", r.FreeBytes>>20)
	switch r.State {
	case api.RoomFull:
		return check("room for the store", seen, roomError(self.Name, r))
	case api.RoomLow:
		return api.Check{Name: "room for the store", Result: api.CheckWarning, Seen: seen, Error: roomError(self.Name, r)}
	}
	return check("room for the store", seen, nil)
}

// fullVoter is a voter out of room; room is nil where its machine did not say what it has.
type fullVoter struct {
	name string
	room *api.StoreRoom
}

// askRoom asks the machine of a voter that is out of room. Its core still carries the question.
func (d *Daemon) askRoom(ctx context.Context, members []machine.Member, v natsstore.Voter) fullVoter {
	full := fullVoter{name: machineOf(members, v.Name)}
	for _, m := range members {
		if m.Name != full.name {
			continue
		}
		if r, err := command[api.StoreRoom](ctx, d, m.ID, coordination.Command{Verb: verbRoom}, struct{}{}); err == nil {
			full.room = &r
		}
	}
	return full
}

func (f fullVoter) err() *api.Error {
	if f.room == nil {
		return api.Errorf(api.CodeStoreDiskFull, "the disk of the store on %s is full", f.name).About(f.name).
			WithHint("how much it has, there: ployzctl status")
	}
	return roomError(f.name, *f.room)
}

// outOfRoom are the voters that are missing only because of their disks.
func (d *Daemon) outOfRoom(ctx context.Context, roster machine.Roster, t natsstore.Topology) []*api.Error {
	var list []*api.Error
	for _, v := range t.Voters {
		if v.NoRoom {
			list = append(list, d.askRoom(ctx, roster.Members, v).err())
		}
	}
	return list
}
