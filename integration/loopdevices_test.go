package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// loopSize is what XFS asks for at least, and a little.
const loopSize = 320 << 20

// loopDisk is a disk on the mount that a loop device shows, with a file system
// on it and a database in that.
type loopDisk struct {
	name, fstype string
	device       string
	dir          string // where it is mounted
	db           *database
}

// newLoopDisk protects nothing yet: it makes the disk's file.
func newLoopDisk(t *testing.T, s *site, fstype, direct string) *loopDisk {
	t.Helper()
	d := &loopDisk{name: fstype + "-direct-" + direct + ".img", fstype: fstype, dir: filepath.Join(s.dir, fstype+"-"+direct)}
	s.makeDisk(t, d.name, loopSize)
	must(t, os.Mkdir(d.dir, 0o700))
	return d
}

// attach makes the file system on a loop device, and starts the database.
func (d *loopDisk) attach(t *testing.T, s *site, direct string) {
	t.Helper()
	t.Cleanup(func() { d.detach(t) }) // before the site looks for what was left
	out, err := exec.Command("losetup", "--find", "--show", "--direct-io="+direct, s.disk(d.name)).Output()
	must(t, err)
	d.device = strings.TrimSpace(string(out))
	is, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.device), "loop/dio"))
	must(t, err)
	if got := strings.TrimSpace(string(is)) == "1"; got != (direct == "on") {
		t.Errorf("%s: direct I/O was to be %s, and the loop device says %s", d.name, direct, is)
	}
	switch d.fstype {
	case "ext4":
		execute(t, "mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.device)
	case "xfs":
		execute(t, "mkfs.xfs", "-q", d.device)
	}
	execute(t, "mount", d.device, d.dir)
	d.db = startDatabase(t, filepath.Join(d.dir, "rows.db"))
}

func (d *loopDisk) detach(t *testing.T) {
	t.Helper()
	if d.db != nil {
		d.db.end(t)
		d.db = nil
	}
	if err := unix.Unmount(d.dir, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		t.Errorf("unmount %s: %v", d.dir, err)
	}
	if d.device != "" {
		execute(t, "losetup", "--detach", d.device)
		d.device = ""
	}
}

// verify fails the test unless a restored disk, after its journal was replayed,
// is whole and has the rows that were committed before the cut.
func (d *loopDisk) verify(t *testing.T, image string, committed int64) {
	t.Helper()
	option := "loop"
	if d.fstype == "xfs" {
		option += ",nouuid" // the source is mounted
	}
	at := image + ".mounted"
	must(t, os.Mkdir(at, 0o700))
	execute(t, "mount", "-o", option, image, at)
	verifyRows(t, filepath.Join(at, "rows.db"), committed)
	must(t, unix.Unmount(at, 0))
	if d.fstype == "xfs" {
		execute(t, "xfs_repair", "-n", "-f", image)
	} else {
		execute(t, "e2fsck", "-fn", image)
	}
}

// database is a sqlite that commits one row after another.
type database struct {
	cmd       *exec.Cmd
	committed atomic.Int64
	stop      atomic.Bool
	done      chan error
}

const rowText = "printf('%0900d', id)"

func startDatabase(t *testing.T, path string) *database {
	t.Helper()
	db := &database{cmd: exec.Command("sqlite3", "-batch", "-bail", path), done: make(chan error, 1)}
	in, err := db.cmd.StdinPipe()
	must(t, err)
	out, err := db.cmd.StdoutPipe()
	must(t, err)
	db.cmd.Stderr = os.Stderr
	must(t, db.cmd.Start())
	go func() {
		err := db.insert(in, bufio.NewReader(out))
		db.done <- errors.Join(err, in.Close(), db.cmd.Wait())
	}()
	return db
}

// insert counts a row when sqlite has answered what it was asked after it.
func (db *database) insert(in io.Writer, out *bufio.Reader) error {
	_, err := fmt.Fprintln(in, "pragma journal_mode=wal; pragma synchronous=full; pragma wal_autocheckpoint=50;"+
		"create table rows(id integer primary key, body text, touched integer); select 'begun';")
	for line := ""; err == nil && line != "begun\n"; {
		line, err = out.ReadString('\n')
	}
	for id := int64(1); err == nil && !db.stop.Load(); id++ {
		_, err = fmt.Fprintf(in, "begin; insert into rows select %[1]d, %[2]s, 0 from (select %[1]d as id); "+
			"update rows set touched = %[1]d where id = %[1]d / 2; commit; select max(id) from rows;\n", id, rowText)
		if err != nil {
			break
		}
		var line string
		if line, err = out.ReadString('\n'); err == nil && strings.TrimSpace(line) != fmt.Sprint(id) {
			err = fmt.Errorf("row %d was inserted, and sqlite says %q", id, line)
		}
		if err == nil {
			db.committed.Store(id)
		}
	}
	return err
}

func (db *database) end(t *testing.T) {
	t.Helper()
	db.stop.Store(true)
	if err := <-db.done; err != nil {
		t.Errorf("sqlite: %v", err)
	}
}

func verifyRows(t *testing.T, path string, committed int64) {
	t.Helper()
	query := fmt.Sprintf("pragma integrity_check; select count(*) from rows where id <= %d and body = %s;", committed, rowText)
	out, err := exec.Command("sqlite3", path, query).CombinedOutput()
	if want := fmt.Sprintf("ok\n%d\n", committed); err != nil || string(out) != want {
		t.Errorf("%s has %q, not %q: %v", path, out, want, err)
	}
}

// Databases on ext4 and XFS on loop devices, buffered and with direct I/O: what
// was committed before a recovery point was cut is in it, after no more than the
// replay of journals, and the file systems are whole.
func TestLoopDevices(t *testing.T) {
	t.Parallel()
	rng := randomness(t)
	s := newSite(t)
	var disks []*loopDisk
	var names, direct []string
	for _, fstype := range []string{"ext4", "xfs"} {
		for _, how := range []string{"off", "on"} {
			disks = append(disks, newLoopDisk(t, s, fstype, how))
			names, direct = append(names, disks[len(disks)-1].name), append(direct, how)
		}
	}
	s.mount(t)
	s.upload(t, "--frequency", "15m")
	s.protect(t, names...)
	for i, d := range disks {
		d.attach(t, s, direct[i])
	}
	looked := int64(0)
	for range rounds(4, 40) {
		for _, d := range disks {
			target := d.db.committed.Load() + 1 + rng.Int64N(150)
			eventually(t, "rows are committed", func() bool { return d.db.committed.Load() >= target || len(d.db.done) > 0 })
		}
		committed := make([]int64, len(disks))
		for i, d := range disks {
			committed[i] = d.db.committed.Load()
			looked += committed[i]
		}
		p := s.cut(t, true)
		to, r := s.restore(t, p.Epoch)
		if r.code != 0 {
			t.Fatalf("%v", r)
		}
		for i, d := range disks {
			d.verify(t, filepath.Join(to, d.name), committed[i])
		}
		must(t, os.RemoveAll(to))
	}
	t.Logf("%d committed rows were looked for", looked)
	for _, d := range disks {
		d.detach(t)
	}
	p := s.cut(t, true)
	to, r := s.restore(t, p.Epoch)
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	for _, name := range names {
		sameSparse(t, s.disk(name), filepath.Join(to, name))
	}
	s.noWalkRequired(t)
}
