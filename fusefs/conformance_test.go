package fusefs

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// scene is one case of conformance. It is set in an empty directory of the
// plain folder, before that is seen through a mount, and acted there or on the
// mount. Whatever is seen of the act has to be the same in both places.
type scene struct {
	name     string
	set, act func(s *stage)
}

// scenes are all cases, in an order that does not change.
func scenes() []scene {
	var all []scene
	add := func(name string, set, act func(s *stage)) { all = append(all, scene{name, set, act}) }
	for _, family := range []func(adder){
		pathScenes, openScenes, createScenes, renameScenes, linkScenes, makeScenes, removeScenes, modeScenes, ownerScenes,
		timeScenes, rightScenes, sizeScenes, rangeScenes, copyScenes, writeScenes, useScenes, lockScenes, attributeScenes,
	} {
		family(add)
	}
	return all
}

type adder func(name string, set, act func(s *stage))

// unlike are the scenes that a mount cannot play as the folder below does, by
// patterns, with the reason. A scene that has become alike fails the test.
var unlike = []struct {
	scenes string
	where  string // a pattern of file systems and mounts
	reason string
}{
	{"fallocate/collapse/[0-9o]*", "*/*", "no kernel passes the collapsing of a range to FUSE"},
	{"fallocate/insert/[0-9o]*", "*/*", "nor the insertion of one"},
	{"fallocate/unshare/[0-9o]*", "xfs/*", "nor unsharing"},
	{"seek far/[cse]*", "ext4/*", "FUSE does not tell the kernel how large a file may become below"},
	{"truncate/empty", "xfs/*", "FUSE does not tell truncate, which changes no times there, from ftruncate, which does"},
	{`chown/*/*/\[-1 -1\]/*`, "*/*", "a change of owner that names none is not passed to FUSE, so it changes no ctime and clears no suid bit"},
	{"chown/sgid without execution/*", "*/*", noGroups},
	{"setid/[apstwz]*/other/?767", "*/*", noGroups},
	{"setid/copy/other/?767", "*/*", noGroups},
	{"device", "*/*", "the mount is nodev"},
	{"append no more", "*/plain names", "with passthrough the kernel goes on appending when O_APPEND is taken back by fcntl"},
}

// noGroups is why the sgid bit of a file that its group may not execute stays,
// where the folder below takes it from who is not in the group.
const noGroups = "FUSE does not tell what groups the caller is in"

// TestConformance plays every scene in a plain folder and on mounts: with names
// that go through the kernel's passthrough, and with names that disks have.
//
// It compares with ext4, and with XFS as well if LIFEBOAT_LONG is set.
func TestConformance(t *testing.T) {
	below := []string{"ext4"}
	if os.Getenv("LIFEBOAT_LONG") != "" {
		below = append(below, "xfs")
	}
	for _, kind := range below {
		t.Run(kind, func(t *testing.T) { conform(t, kind, newFileSystem(t, kind)) })
	}
}

// conform compares what is played on a file system of a kind and on mounts over it.
func conform(t *testing.T, kind, on string) {
	plain := filepath.Join(on, "plain")
	must(t, os.Mkdir(plain, 0o755))
	want := play(t, playing{Below: plain, On: plain})
	t.Logf("%d scenes", len(want))
	disks := newRecorders(t)
	for _, m := range []struct {
		name, suffix string
		options      []serveOption
	}{
		{"plain names", "", nil},
		{"disk names", ".img", nil},
		{"protected", ".vhdx", []serveOption{protectingAll(disks.make)}},
		{"without handles", ".vhd", []serveOption{withoutHandles, protectingAll(disks.make)}},
	} {
		t.Run(m.name, func(t *testing.T) {
			below := filepath.Join(on, strings.ReplaceAll(m.name, " ", "-"))
			must(t, os.Mkdir(below, 0o755))
			s := serveFolder(t, append(m.options, func(o *Options, _ *filter) { o.Folder = below })...)
			got := play(t, playing{Below: below, On: s.point, Suffix: m.suffix})
			where := kind + "/" + m.name
			if s.fs.Stats().PassthroughOpens == 0 {
				where += ", not passed through" // by an older kernel, if names are plain
			}
			compare(t, where, want, got)
		})
	}
	if disks.check(t) == 0 {
		t.Error("no change reached a disk")
	}
}

// compare holds the transcripts of a mount against those of the folder below.
func compare(t *testing.T, where string, want, got map[string][]string) {
	t.Helper()
	seen := make([]bool, len(unlike))
	for _, scene := range slices.Sorted(maps.Keys(want)) {
		reason := ""
		for i, u := range unlike {
			if matches(t, u.scenes, scene) && matches(t, u.where, where) {
				reason, seen[i] = u.reason, true
			}
		}
		switch alike := slices.Equal(got[scene], want[scene]); {
		case alike && reason != "":
			t.Errorf("%s: it is alike now, though listed as unlike: %s", scene, reason)
		case !alike && reason == "":
			t.Errorf("%s\n%s", scene, difference(want[scene], got[scene]))
		}
	}
	for i, u := range unlike {
		if !seen[i] && matches(t, u.where, where) {
			t.Errorf("%s is listed as unlike, but there is no such scene", u.scenes)
		}
	}
}

// newFileSystem mounts a file system of its own until the test ends. In one in
// use it takes ever longer to make files, as ext4 is slow to use inodes again
// that were freed in the last minute.
func newFileSystem(t *testing.T, kind string) (point string) {
	t.Helper()
	image, point := filepath.Join(t.TempDir(), "image"), t.TempDir()
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 1<<30))
	for _, command := range [][]string{{"mkfs." + kind, "-q", image}, {"mount", "-o", "loop", image, point}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", command, err, out)
		}
	}
	t.Cleanup(func() { must(t, unix.Unmount(point, 0)) })
	return point
}

func matches(t *testing.T, pattern, name string) bool {
	t.Helper()
	ok, err := path.Match(pattern, name)
	must(t, err)
	return ok
}

// difference shows the lines in which two transcripts differ.
func difference(want, got []string) string {
	var b strings.Builder
	line := func(all []string, i int) string {
		if i < len(all) {
			return all[i]
		}
		return "(nothing)"
	}
	for i := range max(len(want), len(got)) {
		if w, g := line(want, i), line(got, i); w != g {
			fmt.Fprintf(&b, "  plain: %s\n  mount: %s\n", w, g)
		}
	}
	return b.String()
}

// playing is where to set the scenes, where to act them, and what the names of
// files end in.
type playing struct {
	Below, On, Suffix string
}

// play has a process of its own play all scenes: one that serves a mount must
// not wait for it, and who plays changes user and working directory.
func play(t *testing.T, p playing) (transcripts map[string][]string) {
	t.Helper()
	c := helper("play")
	arguments, err := json.Marshal(p)
	must(t, err)
	c.Stdin = strings.NewReader(string(arguments))
	out, err := c.Output()
	must(t, err)
	must(t, json.Unmarshal(out, &transcripts))
	return transcripts
}

// helpPlay plays in one thread, since a user id of one's own is a thread's.
func helpPlay(arguments json.RawMessage) error {
	var p playing
	if err := json.Unmarshal(arguments, &p); err != nil {
		return err
	}
	runtime.LockOSThread()
	unix.Umask(0)
	if err := unix.Setgroups(nil); err != nil {
		return err
	}
	all := scenes()
	stages := make([]stage, len(all))
	inPlace := func(dir string, i int, do func(*stage)) error {
		s := &stages[i]
		if err := os.Chdir(filepath.Join(dir, fmt.Sprint(i))); err != nil {
			return err
		}
		do(s)
		if s.err != nil {
			return fmt.Errorf("%s: %w", all[i].name, s.err)
		}
		return nil
	}
	for i, scene := range all {
		if err := os.Mkdir(filepath.Join(p.Below, fmt.Sprint(i)), 0o777); err != nil {
			return err
		}
		stages[i] = stage{suffix: p.Suffix, lines: []string{}}
		if err := inPlace(p.Below, i, scene.set); err != nil {
			return err
		}
	}
	transcripts := map[string][]string{}
	for i, scene := range all {
		if _, twice := transcripts[scene.name]; twice {
			return fmt.Errorf("there are two scenes %s", scene.name)
		}
		if err := inPlace(p.On, i, scene.act); err != nil {
			return err
		}
		transcripts[scene.name] = stages[i].lines
	}
	return json.NewEncoder(os.Stdout).Encode(transcripts)
}
