package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/runtime/oci/layer"
	. "github.com/ployz/ployz/node/runtime/oci/ocitest"
)

// jail is a folder with a destination and, beside it, things that no layer may touch.
type jail struct {
	t        testing.TB
	dir      string
	dest     string
	sentinel string
}

func newJail(t testing.TB) jail {
	t.Helper()
	dir := t.TempDir()
	j := jail{t: t, dir: dir, dest: filepath.Join(dir, "dest"), sentinel: filepath.Join(dir, "sentinel")}
	must(t, os.Mkdir(j.dest, 0o755))
	must(t, os.WriteFile(j.sentinel, []byte("untouched"), 0o600))
	return j
}

// intact fails the test if anything beside the destination changed.
func (j jail) intact() {
	j.t.Helper()
	body, err := os.ReadFile(j.sentinel)
	if err != nil || string(body) != "untouched" {
		j.t.Fatalf("the file beside the destination now reads %q (%v)", body, err)
	}
	st, err := os.Stat(j.sentinel)
	if err != nil || st.Mode() != 0o600 || st.Sys().(*syscall.Stat_t).Nlink != 1 {
		j.t.Fatalf("the file beside the destination changed: %v %v", st, err)
	}
	entries, err := os.ReadDir(j.dir)
	if err != nil || len(entries) != 2 {
		j.t.Fatalf("beside the destination there is now %v (%v)", entries, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func apply(t testing.TB, dest string, lowers []string, entries ...Entry) error {
	t.Helper()
	stream, err := Layer{Entries: entries}.Tar()
	must(t, err)
	_, err = layer.Apply(context.Background(), bytes.NewReader(stream), dest, lowers, layer.Limits{})
	return err
}

func attribute(e Entry, name, value string) Entry {
	e.PAXRecords = map[string]string{"SCHILY.xattr." + name: value}
	return e
}

func device(name string, kind byte, major, minor int64) Entry {
	return Entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: 0o660, Devmajor: major, Devminor: minor, ModTime: Epoch}}
}

func TestEscapesAreRefusedNamingTheEntry(t *testing.T) {
	testenv.Require(t, testenv.Root)
	cases := map[string]struct {
		entries []Entry
		culprit string
	}{
		"dotdot":                 {[]Entry{File("../sentinel", 0o644, "x")}, "../sentinel"},
		"dotdot in the middle":   {[]Entry{File("a/../../sentinel", 0o644, "x")}, "a/../../sentinel"},
		"dotdot staying in":      {[]Entry{File("a/../b", 0o644, "x")}, "a/../b"},
		"just dotdot":            {[]Entry{Dir("..", 0o777)}, "../"},
		"absolute":               {[]Entry{File("/etc/evil", 0o644, "x")}, "/etc/evil"},
		"through absolute link":  {[]Entry{Symlink("l", "/"), File("l/evil", 0o644, "x")}, "l/evil"},
		"through relative link":  {[]Entry{Symlink("l", "../"), File("l/sentinel", 0o644, "x")}, "l/sentinel"},
		"through two links":      {[]Entry{Dir("d", 0o755), Symlink("d/l", ".."), Symlink("m", "d/l/.."), File("m/sentinel", 0o644, "x")}, "m/sentinel"},
		"folder through link":    {[]Entry{Symlink("l", "../.."), Dir("l/evil", 0o755)}, "l/evil/"},
		"link through link":      {[]Entry{Symlink("l", ".."), Symlink("l/evil", "x")}, "l/evil"},
		"hard link dotdot":       {[]Entry{Hardlink("h", "../sentinel")}, "h"},
		"hard link absolute":     {[]Entry{Hardlink("h", "/etc/passwd")}, "h"},
		"hard link through link": {[]Entry{Symlink("l", ".."), Hardlink("h", "l/sentinel")}, "h"},
		"whiteout of dotdot":     {[]Entry{File(".wh...", 0, "")}, ".wh..."},
		"whiteout of dot":        {[]Entry{File("a/.wh..", 0, "")}, "a/.wh.."},
		"whiteout through link":  {[]Entry{Symlink("l", ".."), Whiteout("l/sentinel")}, "l/.wh.sentinel"},
		"opaque through link":    {[]Entry{Symlink("l", ".."), Opaque("l")}, "l/.wh..wh..opq"},
		"overlay redirect":       {[]Entry{attribute(Dir("d", 0o755), "trusted.overlay.redirect", "/../x")}, "d/"},
		"overlay opaque":         {[]Entry{attribute(Dir("d", 0o755), "trusted.overlay.opaque", "y")}, "d/"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := newJail(t)
			err := apply(t, j.dest, nil, c.entries...)
			expectCode(t, err, api.CodeLayerEscape)
			if subject := api.AsError(err).Subject; subject != c.culprit {
				t.Errorf("the error is about %q, want %q: %v", subject, c.culprit, err)
			}
			j.intact()
		})
	}
}

func expectCode(t testing.TB, err error, want api.Code) {
	t.Helper()
	if got := api.CodeOf(err); got != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

func TestBrokenLayersAreCorrupt(t *testing.T) {
	testenv.Require(t, testenv.Root)
	cases := map[string][]Entry{
		"hard link to nothing":  {Hardlink("h", "gone")},
		"hard link to itself":   {File("h", 0o644, ""), Hardlink("h", "h")},
		"hard link to a folder": {Dir("d", 0o755), Hardlink("h", "d")},
		"file as a folder":      {File("f", 0o644, ""), File("f/x", 0o644, "")},
		"link loop":             {Symlink("a", "b"), Symlink("b", "a"), File("a/x", 0o644, "")},
		"whiteout device":       {device("w", tar.TypeChar, 0, 0)},
		"root as a file":        {File(".", 0o644, "")},
		"unknown type":          {{Header: tar.Header{Typeflag: 'Z', Name: "z", ModTime: Epoch}}},
		"name too long":         {File(strings.Repeat("n", 300), 0o644, "")},
		"owner out of range":    {owner(File("f", 0o644, ""), 1<<32, 0)},
		"bad attribute":         {attribute(File("f", 0o644, ""), "security.capability", "nonsense")},
	}
	for name, entries := range cases {
		t.Run(name, func(t *testing.T) {
			j := newJail(t)
			expectCode(t, apply(t, j.dest, nil, entries...), api.CodeLayerCorrupt)
			j.intact()
		})
	}
}

func owner(e Entry, uid, gid int) Entry {
	e.Uid, e.Gid = uid, gid
	return e
}

func TestTruncatedArchiveIsCorrupt(t *testing.T) {
	testenv.Require(t, testenv.Root)
	stream, err := Layer{Entries: []Entry{File("f", 0o644, strings.Repeat("x", 4000))}}.Tar()
	must(t, err)
	_, err = layer.Apply(context.Background(), bytes.NewReader(stream[:2000]), newJail(t).dest, nil, layer.Limits{})
	expectCode(t, err, api.CodeLayerCorrupt)
}

func TestLimits(t *testing.T) {
	testenv.Require(t, testenv.Root)
	stream, err := Layer{Entries: []Entry{File("a", 0o644, "12345"), File("b", 0o644, "67890")}}.Tar()
	must(t, err)
	for _, limits := range []layer.Limits{{MaxEntries: 1}, {MaxBytes: 9}} {
		_, err = layer.Apply(context.Background(), bytes.NewReader(stream), newJail(t).dest, nil, limits)
		expectCode(t, err, api.CodeImageTooLarge)
		if api.AsError(err).Subject != "b" {
			t.Errorf("%+v: the error is not about b: %v", limits, err)
		}
	}
	_, err = layer.Apply(context.Background(), bytes.NewReader(stream), newJail(t).dest, nil, layer.Limits{MaxEntries: 2, MaxBytes: 10})
	must(t, err)
}

func TestRootedNamesWhenAllowed(t *testing.T) {
	testenv.Require(t, testenv.Root)
	j := newJail(t)
	stream, err := Layer{Entries: []Entry{File("/app/run", 0o755, "x"), Hardlink("/app/again", "/app/run")}}.Tar()
	must(t, err)
	_, err = layer.Apply(context.Background(), bytes.NewReader(stream), j.dest, nil, layer.Limits{RootedNames: true})
	must(t, err)
	if _, err := os.Stat(filepath.Join(j.dest, "app/again")); err != nil {
		t.Error(err)
	}
	j.intact()
}

func TestCancel(t *testing.T) {
	testenv.Require(t, testenv.Root)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	stream, err := Layer{Entries: []Entry{File("a", 0o644, "1")}}.Tar()
	must(t, err)
	_, err = layer.Apply(ctx, bytes.NewReader(stream), newJail(t).dest, nil, layer.Limits{})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// TestMetadata compares everything an entry can carry with what lstat and getxattr say afterwards.
func TestMetadata(t *testing.T) {
	testenv.Require(t, testenv.Root)
	j := newJail(t)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	must(t, apply(t, j.dest, nil,
		owner(Dir("shared", 0o2775), 10, 20),
		owner(File("shared/su", 0o4755, "program"), 30, 40),
		Hardlink("shared/hard", "shared/su"),
		owner(Symlink("shared/soft", "/nowhere"), 50, 60),
		attribute(File("shared/capable", 0o755, "x"), "security.capability", capability),
		attribute(File("shared/noted", 0o600, "x"), "user.note", "hello"),
		attribute(File("shared/labelled", 0o600, "x"), "security.selinux", "system_u:object_r:bin_t:s0"),
		device("null", tar.TypeChar, 1, 3), device("disk", tar.TypeBlock, 7, 0), device("pipe", tar.TypeFifo, 0, 0),
		File("locked", 0o000, ""),
	))
	check := func(name string, mode, uid, gid uint32) {
		t.Helper()
		st := lstat(t, filepath.Join(j.dest, name))
		if st.Mode != mode || st.Uid != uid || st.Gid != gid || st.Mtim.Sec != Epoch.Unix() {
			t.Errorf("%s: mode %o owner %d:%d time %d", name, st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
		}
	}
	check("shared", unix.S_IFDIR|0o2775, 10, 20)
	check("shared/su", unix.S_IFREG|0o4755, 30, 40)
	check("shared/soft", unix.S_IFLNK|0o777, 50, 60)
	check("null", unix.S_IFCHR|0o660, 0, 0)
	check("disk", unix.S_IFBLK|0o660, 0, 0)
	check("pipe", unix.S_IFIFO|0o660, 0, 0)
	check("locked", unix.S_IFREG, 0, 0)
	if a, b := lstat(t, j.dest+"/shared/su"), lstat(t, j.dest+"/shared/hard"); a.Ino != b.Ino {
		t.Error("the hard link is a copy")
	}
	if lstat(t, j.dest+"/null").Rdev != unix.Mkdev(1, 3) {
		t.Error("null is another device")
	}
	expectAttribute(t, j.dest+"/shared/capable", "security.capability", capability)
	expectAttribute(t, j.dest+"/shared/noted", "user.note", "hello")
}

func expectAttribute(t *testing.T, file, name, want string) {
	t.Helper()
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(file, name, buf)
	if err != nil || string(buf[:n]) != want {
		t.Errorf("%s of %s is %q (%v), want %q", name, file, buf[:max(n, 0)], err, want)
	}
}

func lstat(t testing.TB, file string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(file, &st))
	return st
}

func TestLaterEntryOfANameWins(t *testing.T) {
	testenv.Require(t, testenv.Root)
	j := newJail(t)
	must(t, apply(t, j.dest, nil,
		File("a", 0o644, "first"), File("a", 0o600, "second"),
		Dir("d", 0o755), File("d/x", 0o644, ""), Symlink("d", "elsewhere"),
		File("f", 0o644, ""), Dir("f", 0o755), File("f/x", 0o644, "in"),
		Symlink("s", "../sentinel"), File("s", 0o644, "own"),
	))
	for name, want := range map[string]string{"a": "second", "f/x": "in", "s": "own"} {
		body, err := os.ReadFile(filepath.Join(j.dest, name))
		if err != nil || string(body) != want {
			t.Errorf("%s holds %q (%v), want %q", name, body, err, want)
		}
	}
	if to, err := os.Readlink(j.dest + "/d"); to != "elsewhere" {
		t.Errorf("d leads to %q (%v)", to, err)
	}
	j.intact()
}

func TestReadFile(t *testing.T) {
	testenv.Require(t, testenv.Root)
	lower, upper := newJail(t), newJail(t)
	must(t, apply(t, lower.dest, nil, Dir("etc", 0o755), File("etc/passwd", 0o644, "old"), File("etc/group", 0o644, "g"),
		Dir("store", 0o755), File("store/real", 0o644, "real"), Symlink("etc/linked", "../../../store/real"), Symlink("etc/out", "/../../sentinel")))
	must(t, apply(t, upper.dest, []string{lower.dest}, File("etc/passwd", 0o644, "new"), Whiteout("etc/group")))
	stack := []string{upper.dest, lower.dest}
	for name, want := range map[string]string{"etc/passwd": "new", "/etc/linked": "real"} {
		if body, err := layer.ReadFile(stack, name, 100); err != nil || string(body) != want {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
	for _, name := range []string{"etc/group", "etc", "etc/out", "gone/x", "etc/passwd/x"} {
		if body, err := layer.ReadFile(stack, name, 100); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
	if _, err := layer.ReadFile(stack, "etc/passwd", 2); err == nil {
		t.Error("the limit was ignored")
	}
}
