package fusefs

import (
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStateFolderHidden tries everything that could show or make the state
// folder's name in the root; in other directories it is a name like any other.
func TestStateFolderHidden(t *testing.T) {
	s := serveFolder(t)
	must(t, os.Mkdir(s.below(StateFolder), 0o700))
	must(t, os.WriteFile(s.below(StateFolder+"/log"), []byte("secret"), 0o600))
	must(t, os.WriteFile(s.path("file"), nil, 0o644))
	must(t, os.Mkdir(s.path("dir"), 0o755))
	name := s.path(StateFolder)

	for what, c := range map[string]struct {
		err  error
		want error
	}{
		"stat":            {statError(name), unix.ENOENT},
		"stat inside":     {statError(name + "/log"), unix.ENOENT},
		"open":            {opened(os.O_RDONLY, nil)(name), unix.ENOENT},
		"create":          {opened(os.O_CREATE|os.O_RDWR, nil)(name), unix.EPERM},
		"mkdir":           {os.Mkdir(name, 0o755), unix.EPERM},
		"mkfifo":          {unix.Mkfifo(name, 0o644), unix.EPERM},
		"symlink":         {os.Symlink("file", name), unix.EPERM},
		"link":            {os.Link(s.path("file"), name), unix.EPERM},
		"rename to":       {os.Rename(s.path("dir"), name), unix.EPERM},
		"rename from":     {os.Rename(name, s.path("stolen")), unix.ENOENT},
		"exchange":        {unix.Renameat2(unix.AT_FDCWD, s.path("dir"), unix.AT_FDCWD, name, unix.RENAME_EXCHANGE), unix.ENOENT},
		"rmdir":           {unix.Rmdir(name), unix.ENOENT},
		"unlink":          {unix.Unlink(name), unix.ENOENT},
		"create by twist": {opened(os.O_CREATE|os.O_RDWR, nil)(s.path("dir/../" + StateFolder)), unix.EPERM},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", what, c.err, c.want)
		}
	}
	if names := namesIn(t, s.point); !slices.Equal(names, []string{"dir", "file"}) {
		t.Errorf("the root lists %q", names)
	}
	must(t, os.Mkdir(s.path("dir/"+StateFolder), 0o755))
	if names := namesIn(t, s.path("dir")); !slices.Equal(names, []string{StateFolder}) {
		t.Errorf("another directory lists %q", names)
	}
	if got := string(read(t, s.below(StateFolder+"/log"))); got != "secret" {
		t.Errorf("below there is %q", got)
	}
	// The handlers themselves refuse it too, whatever the kernel asks first.
	for _, flags := range []uint32{0, unix.RENAME_EXCHANGE, unix.RENAME_NOREPLACE} {
		if st := renameInRoot(s, StateFolder, "stolen", flags); st.Ok() {
			t.Errorf("rename from it with flags %#x: %v", flags, st)
		}
		if st := renameInRoot(s, "dir", StateFolder, flags); st.Ok() {
			t.Errorf("rename to it with flags %#x: %v", flags, st)
		}
	}
}

func statError(path string) error {
	_, err := os.Lstat(path)
	return err
}

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names
}
