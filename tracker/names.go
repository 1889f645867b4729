package tracker

import (
	"path/filepath"
	"slices"
	"strings"
)

// keptName is how much of a disk's name is kept when it is put aside: the new
// one has to fit where names have 255 bytes.
const keptName = 200

// apart changes the paths of a VM's disks, given in their order, so that all of
// them can be restored into one folder. A disk that has no name any more goes by
// its last one, which may be another disk's now; and two may seem to have one
// name when they change names while one looks. Who has no name gives way. mu is
// held.
func (v *vm) apart(paths []string) {
	var taken []string
	place := func(i int) {
		if slices.ContainsFunc(taken, func(other string) bool { return clash(other, paths[i]) }) {
			name := filepath.Base(paths[i])
			paths[i] = strings.ToValidUTF8(name[:min(len(name), keptName)], "") + ".removed-" + v.disks[i].idText()
		}
		taken = append(taken, paths[i])
	}
	var nameless []int
	for i, d := range v.disks {
		if d.file != nil {
			if _, named := v.t.pathOf(d.file); named {
				place(i)
				continue
			}
		}
		nameless = append(nameless, i)
	}
	for _, i := range nameless {
		place(i)
	}
}

// clash tells whether two files cannot be in one folder.
func clash(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}
