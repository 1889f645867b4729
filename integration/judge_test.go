package integration

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// restorers is how many restores run at once.
	restorers = 3
	// directShare of the points in Azurite is one that is restored from there,
	// which is slow; the others are restored from a copy of the container.
	directShare = 20
)

// judge restores every recovery point that exists, and compares those of an
// instant that the oracle knows. The others are proved by the restore itself,
// which compares them with the checksum that the manifest has. It returns how
// many were compared.
func (o *oracle) judge(t *testing.T) int {
	t.Helper()
	begun := time.Now()
	points := o.site.points(t)
	local := o.site.store
	if o.site.azurite != nil {
		local = o.site.copyContainer(t)
	}
	for i, p := range points {
		if i > 0 && (p.Epoch <= points[i-1].Epoch || !p.Time.After(points[i-1].Time)) {
			t.Errorf("recovery point %d of %v follows %d of %v", p.Epoch, p.Time, points[i-1].Epoch, points[i-1].Time)
		}
	}
	for _, epoch := range o.awaited {
		if !slices.ContainsFunc(points, func(p point) bool { return p.Epoch == epoch }) {
			t.Errorf("recovery point %d was said to be committed, and there is none", epoch)
		}
	}
	var compared atomic.Int64
	work := make(chan point)
	var workers sync.WaitGroup
	for range restorers {
		workers.Go(func() {
			for p := range work {
				store := local
				if p.Epoch%directShare == 0 {
					store = o.site.store
				}
				if o.judgePoint(t, store, p) {
					compared.Add(1)
				}
			}
		})
	}
	for _, p := range points {
		work <- p
	}
	close(work)
	workers.Wait()
	t.Logf("%d recovery points restored in %v, %d of them compared with the oracle", len(points), time.Since(begun).Round(time.Millisecond), compared.Load())
	return int(compared.Load())
}

// judgePoint restores a point and tells whether the oracle knew it.
func (o *oracle) judgePoint(t *testing.T, store string, p point) (known bool) {
	to, r := o.site.restoreFrom(t, store, p.Epoch)
	if r.code != 0 {
		t.Errorf("%v", r)
		return false
	}
	entries, err := os.ReadDir(to)
	restored, digestErr := digestsOf(to, o.disks)
	if err := errors.Join(err, digestErr); err != nil {
		t.Errorf("recovery point %d: %v", p.Epoch, err)
		return false
	}
	if len(entries) != len(o.disks) {
		t.Errorf("the restore of recovery point %d left something behind: %v", p.Epoch, entries)
	}
	was, known := o.at(p.Time)
	if known && !maps.Equal(restored, was.disks) {
		t.Errorf("recovery point %d of %v is\n  %v, but the disks were\n  %v", p.Epoch, p.Time, restored, was.disks)
	}
	if err := os.RemoveAll(filepath.Clean(to)); err != nil {
		t.Error(err)
	}
	return known
}
