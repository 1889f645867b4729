package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// refusal is a command that has to be refused, with that exit code and saying
// that.
type refusal struct {
	args []string
	code int
	says []string
}

// refused runs commands that have to be refused, and shows what the user sees.
func (s *site) refused(t *testing.T, all []refusal) {
	t.Helper()
	for _, c := range all {
		r := s.run(t, c.args...)
		t.Logf("%v", r)
		if r.code != c.code {
			t.Errorf("%s: exit code %d, not %d", r.command, r.code, c.code)
		}
		for _, word := range c.says {
			if !strings.Contains(r.stderr, word) {
				t.Errorf("%s: it does not say %q", r.command, word)
			}
		}
	}
}

// newQuietVM protects two small disks that only the test itself changes.
func newQuietVM(t *testing.T, s *site) {
	t.Helper()
	rng := randomness(t)
	for _, name := range []string{"a.img", "b.img"} {
		s.makeDisk(t, name, 4<<20)
		must(t, os.WriteFile(s.below(name), randomBytes(rng, 4<<20), 0o600))
	}
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	s.protect(t, "a.img", "b.img")
}

// What cannot be done is refused, with a reason that helps, and changes nothing.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	outside := filepath.Join(s.dir, "outside.img")
	must(t, os.WriteFile(outside, make([]byte, 1<<20), 0o600))
	s.makeDisk(t, "other.img", 1<<20)
	must(t, os.Mkdir(s.below("folder"), 0o700))
	must(t, os.Symlink("a.img", s.below("link.img")))
	must(t, os.Symlink(outside, s.below("away.img")))
	newQuietVM(t, s)
	to := filepath.Join(s.dir, "restored")
	other := s.disk("other.img")
	const refused, missing, usage = 4, 3, 2
	s.refused(t, []refusal{
		{[]string{"cut", "nosuch"}, missing, []string{"nosuch", vm}},
		{[]string{"status", "nosuch"}, missing, []string{"nosuch"}},
		{[]string{"points", "nosuch"}, missing, []string{"nosuch", vm}},
		{[]string{"points", "nosuch", "--store", s.store}, missing, []string{"nosuch"}},
		{[]string{"restore", "nosuch", "--to", to}, missing, []string{"nosuch"}},
		{[]string{"unprotect", "nosuch"}, missing, []string{"nosuch"}},
		{[]string{"resume", "nosuch"}, missing, []string{"nosuch"}},
		{[]string{"restore", vm, "--to", to, "--point", "99999"}, missing, []string{"99999"}},
		{[]string{"restore", vm, "--to", to, "--point", "2001-01-01 00:00"}, missing, []string{"no such recovery point"}},
		{[]string{"restore", vm, "--to", to, "--point", "yesterday"}, usage, []string{"yesterday"}},
		{[]string{"restore", vm}, usage, []string{"to"}},
		{[]string{"cut"}, usage, []string{"cut"}},
		{[]string{"sink"}, usage, []string{"sink"}},
		{[]string{"protect", "db", outside}, refused, []string{outside, "no running filter"}},
		{[]string{"protect", "db", s.disk("away.img")}, refused, []string{"away.img", "no running filter"}},
		{[]string{"protect", "db", s.disk("folder")}, refused, []string{"folder", "directory"}},
		{[]string{"protect", "db", s.disk("none.img")}, refused, []string{"none.img", "no such file"}},
		{[]string{"protect", "db", s.disk("a.img")}, refused, []string{"a.img", vm}},
		{[]string{"protect", "db", s.disk("link.img")}, refused, []string{"a.img", vm}},
		{[]string{"protect", "db", other, other}, refused, []string{"twice"}},
		{[]string{"protect", vm, other}, refused, []string{"name", vm}},
		{[]string{"protect", "../db", other}, refused, []string{"../db"}},
		{[]string{"protect", "db", other, "--frequency", "1ms"}, usage, []string{"1ms"}},
		{[]string{"protect", "db"}, usage, []string{"protect"}},
		{[]string{"upload", "--store", "ftp://somewhere"}, usage, []string{"ftp"}},
		{[]string{"upload", "--store", s.store}, refused, []string{"another sidecar"}},
		{[]string{"mount", outside}, 1, []string{"outside.img"}},
		{[]string{"mount", filepath.Join(s.dir, "none")}, 1, []string{"none", "no such file"}},
	})
	var status struct {
		VMs []struct {
			Name  string     `json:"name"`
			Disks []struct{} `json:"disks"`
		} `json:"vms"`
	}
	s.ok(t, &status, "status")
	if got := fmt.Sprint(status.VMs); got != fmt.Sprintf("[{%s [{} {}]}]", vm) {
		t.Errorf("what was refused left a trace: %s", got)
	}
	if _, err := os.Lstat(to); !os.IsNotExist(err) {
		t.Errorf("a restore that was refused made its folder: %v", err)
	}
	s.cut(t, true)
}

// A restore replaces no file unless it is told to.
func TestRestoreOverFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	newQuietVM(t, s)
	to := filepath.Join(s.dir, "restored")
	must(t, os.Mkdir(to, 0o700))
	precious := []byte("do not touch")
	must(t, os.WriteFile(filepath.Join(to, "b.img"), precious, 0o600))
	s.refused(t, []refusal{{[]string{"restore", vm, "--to", to}, 4, []string{"b.img", "--force"}}})
	if left, err := os.ReadFile(filepath.Join(to, "b.img")); err != nil || string(left) != string(precious) {
		t.Errorf("the file in the way was touched: %q, %v", left, err)
	}
	if entries, err := os.ReadDir(to); err != nil || len(entries) != 1 {
		t.Errorf("the restore that was refused left something: %v, %v", entries, err)
	}
	s.ok(t, nil, "restore", vm, "--to", to, "--force")
	s.sameDisks(t, to)
}

// sameDisks fails the test unless the restored disks are what the mount shows.
func (s *site) sameDisks(t *testing.T, to string) {
	t.Helper()
	for _, name := range []string{"a.img", "b.img"} {
		restored, err := digestOf(filepath.Join(to, name))
		must(t, err)
		was, err := digestOf(s.disk(name))
		must(t, err)
		if restored != was {
			t.Errorf("%s: restored %v, the disk is %v", name, restored, was)
		}
	}
}

// Without a sidecar, or without a filter, commands say so.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	newQuietVM(t, s)
	const away = 5
	s.filter.stop(t)
	s.refused(t, []refusal{
		{[]string{"cut", vm}, away, []string{"lifeboat mount"}},
		{[]string{"protect", "db", s.disk("a.img")}, 4, []string{"no running filter"}},
	})
	s.sidecar.stop(t)
	s.refused(t, []refusal{
		{[]string{"cut", vm}, away, []string{"lifeboat upload"}},
		{[]string{"status"}, away, []string{"lifeboat upload"}},
		{[]string{"protect", "db", s.disk("a.img")}, away, []string{"lifeboat upload"}},
		{[]string{"restore", vm, "--to", filepath.Join(s.dir, "restored")}, 2, []string{"--store"}},
	})
	_, r := s.restore(t, s.points(t)[0].Epoch)
	if r.code != 0 {
		t.Errorf("%v", r)
	}
}
