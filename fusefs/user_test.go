package fusefs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// nobody is an ordinary user that every system has: fusermount3 wants a name.
const nobody = 65534

// asNobody are the words that start a command as that user.
var asNobody = []string{"setpriv", "--reuid=" + strconv.Itoa(nobody), "--regid=" + strconv.Itoa(nobody), "--clear-groups"}

// TestOrdinaryUser mounts as a user without rights, by fusermount3: there are no
// file handles then and no passthrough, and files are the user's. It all happens
// in a mount namespace where everybody may open /dev/fuse, as on most systems.
func TestOrdinaryUser(t *testing.T) {
	folder := t.TempDir()
	must(t, os.Chown(folder, nobody, nobody))
	must(t, os.Chmod(filepath.Dir(folder), 0o755))
	const enter = `mknod -m 666 "$0/fuse" c 10 229 && mount --bind "$0/fuse" /dev/fuse && exec "$@" /proc/self/fd/3`
	c := helper("serve")
	c.Path, c.Err = exec.LookPath("unshare")
	c.Args = append([]string{"unshare", "--mount", "--propagation", "private", "sh", "-c", enter, t.TempDir()}, asNobody...)
	binary, err := os.Open("/proc/self/exe") // its directory may be closed to others
	must(t, err)
	c.ExtraFiles = []*os.File{binary}
	l := startHelper(t, c, folder)
	must(t, binary.Close())

	// A file without rights stays writable to who made it, and a link, a rename
	// and a removal reach what they name.
	const script = `cd "$0" && grep -q "$0 fuse.lifeboat" /proc/mounts && (umask 777; echo data > locked) &&
		chmod 400 locked && ln locked also && mv locked moved && mkdir d && echo x > d/f && cat also && rm also &&
		ls -R && rm -r d`
	words := append([]string{"--target", strconv.Itoa(l.command.Process.Pid), "--mount"}, asNobody...)
	out, err := exec.Command("nsenter", append(words, "sh", "-c", script, folder)...).CombinedOutput()
	if want := "data\n.:\nd\nmoved\n\n./d:\nf\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	must(t, l.end())
	if names := namesIn(t, folder); strings.Join(names, " ") != "moved" {
		t.Errorf("the folder has %q", names)
	}
}
