package layer_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/nodetest/testenv"
	. "github.com/ployz/ployz/node/runtime/oci/ocitest"
	"github.com/ployz/ployz/node/runtime/oci/overlay"
)

// picture unpacks the layers (lowest first), mounts them with the real overlayfs, and returns every path
// with its kind and content: "etc/ etc/motd=hi link->target".
func picture(t *testing.T, layers ...[]Entry) string {
	t.Helper()
	target := mountLayers(t, layers...)
	var lines []string
	err := filepath.WalkDir(target, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == target {
			return err
		}
		rel, _ := filepath.Rel(target, name)
		switch {
		case e.IsDir():
			lines = append(lines, rel+"/")
		case e.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(name)
			lines = append(lines, rel+"->"+to)
			return err
		case e.Type().IsRegular():
			body, err := os.ReadFile(name)
			lines = append(lines, rel+"="+string(body))
			return err
		default:
			lines = append(lines, fmt.Sprintf("%s?%s", rel, e.Type()))
		}
		return nil
	})
	must(t, err)
	sort.Strings(lines)
	return strings.Join(lines, " ")
}

// mountLayers returns the mount point; it goes away with the test.
func mountLayers(t *testing.T, layers ...[]Entry) string {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Overlay)
	dir := t.TempDir()
	var lower, topFirst []string
	for i, entries := range layers {
		dest := filepath.Join(dir, fmt.Sprint("layer", i))
		must(t, os.Mkdir(dest, 0o755))
		must(t, apply(t, dest, topFirst, entries...))
		lower = append(lower, dest)
		topFirst = append([]string{dest}, topFirst...)
	}
	s := overlay.Stack{Lower: lower, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Target: filepath.Join(dir, "target")}
	for _, d := range []string{s.Upper, s.Work, s.Target} {
		must(t, os.Mkdir(d, 0o755))
	}
	must(t, overlay.Mount(s))
	t.Cleanup(func() { must(t, overlay.Unmount(s.Target)) })
	return s.Target
}

func TestWhiteoutsThroughARealMount(t *testing.T) {
	base := []Entry{Dir("a", 0o755), File("a/one", 0o644, "1"), File("a/two", 0o644, "2"), Dir("a/sub", 0o755), File("a/sub/x", 0o644, "x"), File("top", 0o644, "t")}
	cases := map[string]struct {
		upper []Entry
		want  string
	}{
		"file":                 {[]Entry{Whiteout("a/one")}, "a/ a/sub/ a/sub/x=x a/two=2 top=t"},
		"folder":               {[]Entry{Whiteout("a")}, "top=t"},
		"in the root":          {[]Entry{Whiteout("top")}, "a/ a/one=1 a/sub/ a/sub/x=x a/two=2"},
		"of nothing":           {[]Entry{Whiteout("a/gone"), Whiteout("gone/deep")}, "a/ a/one=1 a/sub/ a/sub/x=x a/two=2 top=t"},
		"folder then again":    {[]Entry{Whiteout("a"), Dir("a", 0o755), File("a/new", 0o644, "n")}, "a/ a/new=n top=t"},
		"again then folder":    {[]Entry{Dir("a", 0o755), File("a/new", 0o644, "n"), Whiteout("a")}, "a/ a/new=n top=t"},
		"file then again":      {[]Entry{File("top", 0o644, "new"), Whiteout("top")}, "a/ a/one=1 a/sub/ a/sub/x=x a/two=2 top=new"},
		"opaque":               {[]Entry{Dir("a", 0o755), Opaque("a"), File("a/new", 0o644, "n")}, "a/ a/new=n top=t"},
		"opaque after":         {[]Entry{File("a/new", 0o644, "n"), Opaque("a")}, "a/ a/new=n top=t"},
		"opaque only":          {[]Entry{Opaque("a")}, "a/ top=t"},
		"opaque and whiteout":  {[]Entry{Whiteout("a/one"), Whiteout("a/sub/x"), Opaque("a"), File("a/new", 0o644, "n")}, "a/ a/new=n top=t"},
		"opaque root":          {[]Entry{Opaque("."), File("new", 0o644, "n")}, "new=n"},
		"opaque of nothing":    {[]Entry{Opaque("gone")}, "a/ a/one=1 a/sub/ a/sub/x=x a/two=2 top=t"},
		"folder over file":     {[]Entry{Dir("top", 0o755), File("top/x", 0o644, "x"), Whiteout("top/gone")}, "a/ a/one=1 a/sub/ a/sub/x=x a/two=2 top/ top/x=x"},
		"file over folder":     {[]Entry{File("a", 0o644, "f")}, "a=f top=t"},
		"book-keeping of AUFS": {[]Entry{File(".wh..wh.aufs", 0, ""), Dir(".wh..wh.plnk", 0o700)}, "a/ a/one=1 a/sub/ a/sub/x=x a/two=2 top=t"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := picture(t, base, c.upper); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestWhiteoutsAcrossThreeLayers(t *testing.T) {
	got := picture(t,
		[]Entry{Dir("a", 0o755), File("a/x", 0o644, "1")},
		[]Entry{Whiteout("a/x")},
		[]Entry{Whiteout("a/x"), File("a/y", 0o644, "3")})
	if want := "a/ a/y=3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got = picture(t,
		[]Entry{Dir("a", 0o755), File("a/x", 0o644, "1")},
		[]Entry{Whiteout("a")},
		[]Entry{File("a/y", 0o644, "3"), Whiteout("a/x")})
	if want := "a/ a/y=3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// An archive that leaves out a folder or goes through a link of a lower layer means the image as it
// is below: merged /usr would break otherwise.
func TestImpliedFoldersFollowTheLayersBelow(t *testing.T) {
	base := []Entry{Dir("usr", 0o755), Dir("usr/lib", 0o755), File("usr/lib/old", 0o644, "o"), Symlink("lib", "usr/lib"),
		Dir("run", 0o755), Dir("var", 0o755), Symlink("var/run", "/run"), attribute(owner(Dir("home", 0o1770), 5, 6), "user.note", "kept")}
	layers := [][]Entry{base, {File("lib/new", 0o644, "n"), File("var/run/pid", 0o644, "7"), File("home/me", 0o600, "m")}}
	want := "home/ home/me=m lib->usr/lib run/ run/pid=7 usr/ usr/lib/ usr/lib/new=n usr/lib/old=o var/ var/run->/run"
	if got := picture(t, layers...); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	home := filepath.Join(mountLayers(t, layers...), "home")
	st := lstat(t, home)
	if st.Mode != unix.S_IFDIR|0o1770 || st.Uid != 5 || st.Gid != 6 || st.Mtim.Sec != Epoch.Unix() {
		t.Errorf("home lost its metadata: mode %o owner %d:%d time %d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
	}
	expectAttribute(t, home, "user.note", "kept")
}

func TestRootKeepsItsMetadata(t *testing.T) {
	testenv.Require(t, testenv.Root)
	lower, upper := newJail(t), newJail(t)
	root := owner(Entry{Header: Dir(".", 0o711).Header}, 7, 8)
	must(t, apply(t, lower.dest, nil, root, File("a", 0o644, "")))
	must(t, apply(t, upper.dest, []string{lower.dest}, File("b", 0o644, "")))
	for _, dir := range []string{lower.dest, upper.dest} {
		if st := lstat(t, dir); st.Mode != unix.S_IFDIR|0o711 || st.Uid != 7 || st.Gid != 8 || st.Mtim.Sec != Epoch.Unix() {
			t.Errorf("%s: mode %o owner %d:%d time %d", dir, st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
		}
	}
}
