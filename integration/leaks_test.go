package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mountsBelow lists what is mounted in a directory or below it, the newest
// first.
func mountsBelow(t *testing.T, dir string) []string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	var points []string
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if fields[1] == dir || strings.HasPrefix(fields[1], dir+"/") {
			points = append(points, fields[1])
		}
	}
	slices.Reverse(points)
	return points
}

// processesOf lists the processes, other than this one, that were started for a
// site: its directory is in their environment.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	var found []string
	for _, proc := range all {
		// One that has ended meanwhile has no environment any more.
		environment, err := os.ReadFile(filepath.Join(proc, "environ"))
		if err != nil || !bytes.Contains(environment, []byte("="+dir+"/")) {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		found = append(found, filepath.Base(proc)+" "+string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
	}
	return found
}
