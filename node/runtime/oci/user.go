package oci

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
	"github.com/ployz/ployz/node/runtime/oci/layer"
)

// maxAccounts bounds /etc/passwd and /etc/group of an image.
const maxAccounts = 4 << 20

// account is a line of passwd; gid is also a line of group's, with its members.
type account struct {
	name    string
	id, gid uint32
	members []string
}

// User implements runtime.Images by Docker's rules: a name must be in the image's /etc/passwd, a
// number need not be (its group is then 0); a group given after a colon replaces the user's own group and
// all supplementary ones. "" is root. Errors: image.no-user.
func (s *Store) User(_ context.Context, image runtime.Image, user string) (uid, gid uint32, groups []uint32, err error) {
	users, err := readAccounts(image, "etc/passwd", parseUser)
	if err != nil {
		return 0, 0, nil, err
	}
	all, err := readAccounts(image, "etc/group", parseGroup)
	if err != nil {
		return 0, 0, nil, err
	}
	name, group, hasGroup := strings.Cut(user, ":")
	found, err := pickUser(users, name, image)
	if err != nil {
		return 0, 0, nil, err
	}
	if hasGroup && group != "" {
		gid, err = pickGroup(all, group, image)
		return found.id, gid, nil, err
	}
	return found.id, found.gid, memberships(all, found), nil
}

func pickUser(users []account, name string, image runtime.Image) (account, error) {
	if name == "" {
		name = "0"
	}
	for _, u := range users {
		if u.name == name {
			return u, nil
		}
	}
	id, err := parseID(name)
	if err != nil {
		e := api.Errorf(api.CodeImageNoUser, "its /etc/passwd has no user %q", name).About(image.Reference)
		return account{}, e.WithHint("name a user of the image, or a number: user: \"1000:1000\"")
	}
	for _, u := range users {
		if u.id == id {
			return u, nil
		}
	}
	return account{id: id}, nil
}

func pickGroup(groups []account, name string, image runtime.Image) (uint32, error) {
	for _, g := range groups {
		if g.name == name {
			return g.id, nil
		}
	}
	id, err := parseID(name)
	if err != nil {
		e := api.Errorf(api.CodeImageNoUser, "its /etc/group has no group %q", name).About(image.Reference)
		return 0, e.WithHint("name a group of the image, or a number: user: \"1000:1000\"")
	}
	return id, nil
}

// parseID accepts what the kernel takes as an id; the largest number means "none" there.
func parseID(text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err == nil && id == 1<<32-1 {
		err = strconv.ErrRange
	}
	return uint32(id), err
}

func memberships(groups []account, user account) []uint32 {
	var ids []uint32
	for _, g := range groups {
		if user.name != "" && slices.Contains(g.members, user.name) && !slices.Contains(ids, g.id) {
			ids = append(ids, g.id)
		}
	}
	return ids
}

// readAccounts reads one of the two files through the layers. A missing file is an empty one, and a line
// that is not understood is nobody's, as everywhere.
func readAccounts(image runtime.Image, name string, parse func(fields []string) (account, bool)) ([]account, error) {
	topFirst := slices.Clone(image.Layers)
	slices.Reverse(topFirst)
	body, err := layer.ReadFile(topFirst, name, maxAccounts)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var accounts []account
	for line := range strings.Lines(string(body)) {
		if a, ok := parse(strings.Split(strings.TrimSpace(line), ":")); ok {
			accounts = append(accounts, a)
		}
	}
	return accounts, nil
}

// parseUser reads name:password:uid:gid:...
func parseUser(fields []string) (account, bool) {
	if len(fields) < 4 {
		return account{}, false
	}
	uid, err := parseID(fields[2])
	gid, gidErr := parseID(fields[3])
	return account{name: fields[0], id: uid, gid: gid}, err == nil && gidErr == nil
}

// parseGroup reads name:password:gid:member,member
func parseGroup(fields []string) (account, bool) {
	if len(fields) < 4 {
		return account{}, false
	}
	gid, err := parseID(fields[2])
	return account{name: fields[0], id: gid, members: strings.Split(fields[3], ",")}, err == nil
}
