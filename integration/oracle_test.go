package integration

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// digest is what a disk is compared by.
type digest struct {
	size int64
	sum  [sha256.Size]byte
}

func (d digest) String() string { return fmt.Sprintf("%d bytes, SHA-256 %x", d.size, d.sum[:8]) }

func digestOf(path string) (digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return digest{}, err
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	d := digest{size: n}
	h.Sum(d.sum[:0])
	return d, errors.Join(err, f.Close())
}

// digestsOf digests files by their names.
func digestsOf(dir string, names []string) (map[string]digest, error) {
	digests := map[string]digest{}
	for _, name := range names {
		d, err := digestOf(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		digests[name] = d
	}
	return digests, nil
}

// oracle knows what the disks held whenever the guest was held.
type oracle struct {
	site    *site
	guest   *guest
	disks   []string
	holds   []hold
	awaited []uint64 // epochs that `cut --wait` said to be committed
}

// hold is a span of time in which the disks did not change.
type hold struct {
	from, to time.Time
	disks    map[string]digest
}

// during holds the guest, records the disks as they are seen on the mount, and
// does something meanwhile.
func (o *oracle) during(t *testing.T, do func()) {
	t.Helper()
	defer o.guest.hold()()
	h := hold{from: time.Now()}
	var err error
	h.disks, err = digestsOf(o.site.mountpoint, o.disks)
	must(t, err)
	if o.site.mountpoint != o.site.folder {
		below, err := digestsOf(o.site.folder, o.disks)
		must(t, err)
		if !maps.Equal(h.disks, below) {
			t.Errorf("the mount shows %v, the files below are %v", h.disks, below)
		}
	}
	do()
	h.to = time.Now()
	o.holds = append(o.holds, h)
}

// cut makes a recovery point while the guest is held.
func (o *oracle) cut(t *testing.T, wait bool) {
	t.Helper()
	o.during(t, func() {
		p := o.site.cut(t, wait)
		if wait {
			o.awaited = append(o.awaited, p.Epoch)
		}
	})
}

// at returns the hold in which an instant lies.
func (o *oracle) at(instant time.Time) (hold, bool) {
	i := slices.IndexFunc(o.holds, func(h hold) bool { return !instant.Before(h.from) && !instant.After(h.to) })
	if i < 0 {
		return hold{}, false
	}
	return o.holds[i], true
}
