package fusefs

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	mountType   = "fuse.lifeboat"
	mountSource = "lifeboat"
)

// mountEntry is a line of /proc/self/mountinfo. Reading that asks no file
// system anything, dead or alive.
type mountEntry struct {
	device uint64
	point  string
	fsType string
}

// topMount returns the mount that covers path, which is absolute and without
// symbolic links; ok is false if path is no mount point.
func topMount(path string) (top mountEntry, ok bool, err error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mountEntry{}, false, fmt.Errorf("read the mount table: %w", err)
	}
	for line := range strings.Lines(string(table)) {
		if e, valid := parseMount(line); valid && e.point == path {
			top, ok = e, true // later mounts cover earlier ones
		}
	}
	return top, ok, nil
}

// parseMount reads a line such as
//
//	36 35 0:52 / /srv/vms rw,nosuid shared:1 - fuse.lifeboat lifeboat rw,user_id=0
func parseMount(line string) (mountEntry, bool) {
	before, after, ok := strings.Cut(line, " - ")
	fields, rest := strings.Fields(before), strings.Fields(after)
	if !ok || len(fields) < 5 || len(rest) < 1 {
		return mountEntry{}, false
	}
	major, minor, _ := strings.Cut(fields[2], ":")
	maj, err1 := strconv.ParseUint(major, 10, 32)
	min, err2 := strconv.ParseUint(minor, 10, 32)
	if err1 != nil || err2 != nil {
		return mountEntry{}, false
	}
	return mountEntry{
		device: unix.Mkdev(uint32(maj), uint32(min)),
		point:  unescapeMount(fields[4]),
		fsType: rest[0],
	}, true
}

// unescapeMount undoes the kernel's octal escapes of blanks and backslashes.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
